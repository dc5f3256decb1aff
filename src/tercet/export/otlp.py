"""Exporters: over OTLP by HTTP or gRPC, to the console, or any that is installed under a name."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tercet.declare.settings import Otlp, Settings, Signal
from tercet.errors import SettingsError, SetupError

_MODULES: Mapping[Signal, tuple[str, str]] = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_CONSOLE: Mapping[Signal, tuple[str, str]] = {
    "traces": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
    "metrics": ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
    "logs": ("opentelemetry.sdk._logs.export", "ConsoleLogRecordExporter"),
}
# https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration
_DELTA: Mapping[str, tuple[type, ...]] = {
    "cumulative": (),
    "delta": (Counter, Histogram, ObservableCounter),
    "lowmemory": (Counter, Histogram),
}


def build_exporters(signal: Signal, settings: Settings) -> Iterator[Any]:
    """Make the exporters that the settings name for a signal; `none` and `prometheus` name none.

    Raises:
        SettingsError: A name is not installed.
        SetupError: gRPC is asked for and not installed.
    """
    for name in getattr(settings, f"{signal}_exporter"):
        if name == "otlp":
            yield _build_otlp(signal, settings)
        elif name == "console":
            module, exporter = _CONSOLE[signal]
            yield getattr(import_module(module), exporter)()
        elif name not in ("none", "prometheus"):
            yield _installed(signal, name)


def _installed(signal: Signal, name: str) -> Any:
    found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
    if not found:
        raise SettingsError(
            f"{signal}_exporter (OTEL_{signal.upper()}_EXPORTER) must be otlp, console, none or an installed "
            f"exporter, got {name!r}. Install the package that has it, or write otlp."
        )
    return found[0].load()()


def _build_otlp(signal: Signal, settings: Settings) -> Any:
    otlp = settings.otlp(signal)
    module, name = _MODULES[signal]
    extra: dict[str, Any] = {}
    if signal == "metrics":
        delta = dict.fromkeys(_DELTA[settings.metric_temporality], AggregationTemporality.DELTA)
        extra["preferred_temporality"] = delta
    if otlp.protocol == "grpc":
        return _grpc_class(module, name)(**_grpc_arguments(otlp), **extra)
    exporter = getattr(import_module(f"opentelemetry.exporter.otlp.proto.http.{module}"), name)
    return exporter(**_http_arguments(otlp), **extra)


def _http_arguments(otlp: Otlp) -> dict[str, Any]:
    from opentelemetry.exporter.otlp.proto.http import Compression

    return {
        "endpoint": otlp.endpoint,
        "headers": dict(otlp.headers),
        "timeout": otlp.timeout,
        "compression": Compression(otlp.compression),
        "certificate_file": otlp.certificate,
        "client_key_file": otlp.client_key,
        "client_certificate_file": otlp.client_certificate,
    }


def _grpc_class(module: str, name: str) -> Any:
    try:
        return getattr(import_module(f"opentelemetry.exporter.otlp.proto.grpc.{module}"), name)
    except ImportError as error:
        raise SetupError(
            "otlp_protocol (OTEL_EXPORTER_OTLP_PROTOCOL) must be http/protobuf unless gRPC is installed, "
            "got 'grpc'. Write http/protobuf, or install tercet[grpc]."
        ) from error


def _grpc_arguments(otlp: Otlp) -> dict[str, Any]:
    import grpc

    if otlp.compression == "deflate":
        raise SettingsError("otlp_compression must be gzip or none for gRPC, got 'deflate'. Write gzip.")
    insecure = otlp.insecure or otlp.endpoint.startswith("http://")
    return {
        "endpoint": otlp.endpoint,
        "insecure": insecure,
        "credentials": None if insecure else _grpc_credentials(otlp),
        "headers": tuple((key.lower(), value) for key, value in otlp.headers.items()),
        "timeout": otlp.timeout,
        "compression": grpc.Compression.Gzip
        if otlp.compression == "gzip"
        else grpc.Compression.NoCompression,
    }


def _grpc_credentials(otlp: Otlp) -> Any:
    import grpc

    files = (otlp.certificate, otlp.client_key, otlp.client_certificate)
    return grpc.ssl_channel_credentials(*(_content(path) for path in files))


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
