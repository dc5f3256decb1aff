"""Exporters: the settings reach them, and what is not installed is named."""

import pytest
from collector import collecting
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tercet.declare.settings import SIGNALS, Settings
from tercet.errors import SettingsError
from tercet.export.exporters import build_exporter, exporter_names, temporality
from tercet.export.link import Link

CLASSES = {"traces": OTLPSpanExporter, "metrics": OTLPMetricExporter, "logs": OTLPLogExporter}


def built(signal, **settings):
    loaded = Settings.load({}, **settings)
    return [build_exporter(name, signal) for name in exporter_names(signal, loaded)]


@pytest.mark.parametrize("signal", SIGNALS)
def test_otlp_is_the_default(signal):
    """For each signal, with nothing said."""
    assert list(exporter_names(signal, Settings.load({}))) == ["otlp"]


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
