"""Exporters beside our own: to the console, or any that is installed under a name."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality

from tercet.declare.settings import Settings, Signal
from tercet.errors import SettingsError

#: Our own, which goes through an outbox.
OTLP = "otlp"
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


def build_exporter(name: str, signal: Signal) -> Any:
    """Make an exporter that is not our own.

    Raises:
        SettingsError: The name is not installed.
    """
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
