"""Upstream's exporters: over OTLP by gRPC, to the console, or any that is installed under a name."""

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


def exporter_names(signal: Signal, settings: Settings) -> Iterator[str]:
    """Walk through the exporters that the settings name for a signal; `none` and `prometheus` are none."""
    return (name for name in getattr(settings, f"{signal}_exporter") if name not in ("none", "prometheus"))


def is_posted(name: str, signal: Signal, settings: Settings) -> bool:
    """Say whether an exporter is our own, OTLP over HTTP."""
    return name == "otlp" and settings.otlp(signal).protocol == "http/protobuf"


def build_exporter(name: str, signal: Signal, settings: Settings) -> Any:
    """Make one of upstream's exporters.

    Raises:
        SettingsError: The name is not installed.
        SetupError: gRPC is asked for and not installed.
    """
    if name == "otlp":
        return _build_grpc(signal, settings)
    if name == "console":
        module, exporter = _CONSOLE[signal]
        return getattr(import_module(module), exporter)()
    return _installed(signal, name)


def _installed(signal: Signal, name: str) -> Any:
    found = list(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
    if not found:
        raise SettingsError(
            f"{signal}_exporter (OTEL_{signal.upper()}_EXPORTER) must be otlp, console, none or an installed "
            f"exporter, got {name!r}. Install the package that has it, or write otlp."
        )
    return found[0].load()()


def temporality(settings: Settings) -> dict[type, AggregationTemporality]:
    """Say which instruments report deltas; all others report sums since the start."""
    return dict.fromkeys(_DELTA[settings.metric_temporality], AggregationTemporality.DELTA)


def _build_grpc(signal: Signal, settings: Settings) -> Any:
    extra = {"preferred_temporality": temporality(settings)} if signal == "metrics" else {}
    module, name = _MODULES[signal]
    return _grpc_class(module, name)(**_grpc_arguments(settings.otlp(signal)), **extra)


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
    scheme = otlp.endpoint.partition("://")[0]
    insecure = scheme == "http" or (otlp.insecure and scheme != "https")
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
