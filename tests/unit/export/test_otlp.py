"""Exporters: the settings reach them, and what is not installed is named."""

import sys
import types

import pytest
from collector import collecting
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tercet.declare.settings import SIGNALS, Settings
from tercet.errors import SettingsError, SetupError
from tercet.export import otlp as under_test
from tercet.export.link import Link
from tercet.export.otlp import build_exporter, exporter_names, is_posted, temporality

CLASSES = {"traces": OTLPSpanExporter, "metrics": OTLPMetricExporter, "logs": OTLPLogExporter}


def built(signal, **settings):
    loaded = Settings.load({}, **settings)
    return [build_exporter(name, signal, loaded) for name in exporter_names(signal, loaded)]


@pytest.mark.parametrize("signal", SIGNALS)
def test_http_is_ours_and_the_default(signal):
    """Over gRPC, and by any other name, it is upstream's."""
    settings = Settings.load({}, **{f"otlp_{signal}_protocol": "http/protobuf"})
    assert list(exporter_names(signal, settings)) == ["otlp"]
    assert is_posted("otlp", signal, settings)
    assert not is_posted("console", signal, settings)
    assert not is_posted("otlp", signal, Settings.load({}, **{f"otlp_{signal}_protocol": "grpc"}))


@pytest.mark.parametrize(
    ("compression", "encoding"), [("gzip", "gzip"), ("deflate", "deflate"), ("none", None), ("auto", None)]
)
@pytest.mark.parametrize("signal", SIGNALS)
def test_what_the_settings_say_is_on_the_wire(signal, compression, encoding):
    """Path, headers, compression and each signal's own exceptions."""
    with collecting() as collector:
        settings = Settings.load(
            {},
            otlp_endpoint=collector.url,
            otlp_headers={"authorization": "Bearer 1"},
            otlp_logs_headers={"authorization": "Bearer 2"},
            otlp_compression=compression,
        )
        link = Link(settings.otlp(signal), signal)
        link.post(link.pack(b"\x0a\x00"))
    (request,) = collector.requests
    token = "Bearer 2" if signal == "logs" else "Bearer 1"
    assert (request.path, request.headers["authorization"]) == (f"/v1/{signal}", token)
    assert request.headers.get("content-encoding") == encoding


@pytest.mark.parametrize("signal", SIGNALS)
def test_none_and_prometheus_make_no_exporter(signal):
    """Prometheus reads; nothing is sent."""
    assert built(signal, **{f"{signal}_exporter": "none"}) == []
    assert built(signal, **{f"{signal}_exporter": "prometheus,"}) == []


@pytest.mark.parametrize("signal", SIGNALS)
def test_several_exporters_stand_side_by_side(signal):
    """The console's is upstream's; an installed one is found by its name."""
    names = [
        type(each).__name__ for each in built(signal, **{f"{signal}_exporter": "console,otlp_proto_http"})
    ]
    assert len(names) == 2
    assert names[0].startswith("Console")
    assert names[1] == CLASSES[signal].__name__


def test_an_unknown_exporter_is_named():
    """With the setting, the variable and the mend."""
    with pytest.raises(SettingsError) as error:
        built("traces", traces_exporter="zipkinn")
    assert str(error.value) == (
        "traces_exporter (OTEL_TRACES_EXPORTER) must be otlp, console, none or an installed exporter, "
        "got 'zipkinn'. Install the package that has it, or write otlp."
    )


@pytest.mark.parametrize(
    ("preference", "delta"),
    [
        ("cumulative", set()),
        ("delta", {Counter, Histogram, ObservableCounter}),
        ("lowmemory", {Counter, Histogram}),
    ],
)
def test_temporality_is_that_of_the_specification(preference, delta):
    """Cumulative, which Prometheus needs, unless asked otherwise."""
    preferred = temporality(Settings.load({}, metric_temporality=preference))
    assert preferred == dict.fromkeys(delta, AggregationTemporality.DELTA)


@pytest.mark.parametrize("signal", SIGNALS)
def test_grpc_that_is_not_installed_is_said(signal, monkeypatch):
    """The extra is one command away."""
    package = f"opentelemetry.exporter.otlp.proto.grpc.{under_test._MODULES[signal][0]}"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError) as error:
        built(signal, otlp_protocol="grpc")
    assert str(error.value) == (
        "otlp_protocol (OTEL_EXPORTER_OTLP_PROTOCOL) must be http/protobuf unless gRPC is installed, "
        "got 'grpc'. Write http/protobuf, or install tercet[grpc]."
    )


@pytest.fixture
def grpc_given(monkeypatch):
    """Stand in for gRPC, and note what its exporter is made with."""
    given = {}
    grpc = types.ModuleType("grpc")
    grpc.Compression = types.SimpleNamespace(Gzip="gzip", NoCompression="none")
    grpc.ssl_channel_credentials = lambda *files: files
    package = "opentelemetry.exporter.otlp.proto.grpc"
    exporters = types.ModuleType(f"{package}.trace_exporter")
    exporters.OTLPSpanExporter = lambda **arguments: given.update(arguments)
    for name, module in (
        ("grpc", grpc),
        (package, types.ModuleType(package)),
        (exporters.__name__, exporters),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return given


def test_grpc_gets_its_arguments(grpc_given):
    """Lower-case headers, its own port, and no TLS for http."""
    built("traces", otlp_protocol="grpc", otlp_headers={"Token": "1"}, otlp_timeout=2)
    assert grpc_given == {
        "endpoint": "http://localhost:4317",
        "insecure": True,
        "credentials": None,
        "headers": (("token", "1"),),
        "timeout": 2.0,
        "compression": "none",
    }


def test_grpc_reads_the_certificates_for_https(grpc_given, tmp_path):
    """A file that is not named is the system's."""
    (tmp_path / "ca.pem").write_bytes(b"ca")
    built(
        "traces",
        otlp_protocol="grpc",
        otlp_endpoint="https://c:4317",
        otlp_compression="none",
        otlp_certificate=str(tmp_path / "ca.pem"),
    )
    assert grpc_given["credentials"] == (b"ca", None, None)
    assert (grpc_given["insecure"], grpc_given["compression"]) == (False, "none")


def test_grpc_knows_no_deflate(grpc_given):
    """Only HTTP does."""
    with pytest.raises(SettingsError, match="otlp_compression must be gzip or none for gRPC, got 'deflate'"):
        built("traces", otlp_protocol="grpc", otlp_compression="deflate")
