r"""Pictures of what code emits, for your tests and for ours.

from tercet.testing import capture, span_tree

def test_placing_an_order_charges_the_card():
    with capture() as seen:
        place_order()
    assert span_tree(seen.spans) == "place order\n  charge card"
"""

import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from tercet.configure.handle import Observability
from tercet.configure.logs import build_log_stream
from tercet.configure.setup import current, setup_process
from tercet.declare.settings import Settings
from tercet.emit.logs import install
from tercet.errors import SetupError

__all__ = ["Capture", "Measured", "capture", "span_tree"]

P = TypeVar("P")

_NOWHERE = {
    "traces_exporter": "none",
    "metrics_exporter": "none",
    "logs_exporter": "none",
    "log_format": "off",
    # A test is where the misuse of a metric should be seen.
    "metric_errors": "raise",
    "usage": "off",  # It is the machine's, not the test's.
}
_DELTA: dict[type, AggregationTemporality] = dict.fromkeys(
    (Counter, Histogram, ObservableCounter), AggregationTemporality.DELTA
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one series measured while a capture was open.

    Attributes:
        attributes: The attributes of the series.
        value: The sum of what was added or recorded, or a gauge's last value.
        count: How many values a histogram recorded; 1 for other kinds.
    """

    attributes: dict[str, Any]
    value: float
    count: int

    def plus(self, later: "Measured") -> "Measured":
        """Add what the same series measured later."""
        return Measured(self.attributes, self.value + later.value, self.count + later.count)


@dataclass(slots=True)
class Capture:
    """What was emitted while it was open.

    Attributes:
        spans: Ended spans, in the order of their end.
        logs: Log records as they leave over OTLP, in order.
    """

    spans: list[ReadableSpan] = field(default_factory=list)
    logs: list[ReadableLogRecord] = field(default_factory=list)
    _measured: dict[str, dict[frozenset[Any], Measured]] = field(default_factory=dict)

    def measured(self, name: str) -> list[Measured]:
        """Return what the metric `name` has measured so far, one entry a series; empty when nothing."""
        if _keeper().open is self:
            self._collect()
        return list(self._measured.get(name, {}).values())

    def _collect(self) -> None:
        for metric in _collected(_keeper().reader):
            adds_up = getattr(metric.data, "aggregation_temporality", None) is AggregationTemporality.DELTA
            series = self._measured.setdefault(metric.name, {})
            for key, point in _points(metric):
                before = series.get(key) if adds_up else None
                series[key] = point if before is None else before.plus(point)


@contextmanager
def capture() -> Iterator[Capture]:
    """Collect everything that this process emits, until the block ends.

    Sets tercet up if nothing is yet, sending nothing anywhere.

    Raises:
        SetupError: Another capture is open; there is one at a time.
    """
    keeper = _keeper()
    if not keeper.lock.acquire(blocking=False):
        raise SetupError("capture() must be the only one open, got another. Close that first, or use it.")
    try:
        list(_collected(keeper.reader))  # what happened before is not ours
        keeper.open = seen = Capture()
        yield seen
        seen._collect()
    finally:
        keeper.open = None
        keeper.lock.release()


def span_tree(spans: Sequence[ReadableSpan]) -> str:
    """Draw spans as an indented tree of their names, in the order of their start.

    A span whose parent is not among them stands at the left.
    """
    by_id = {span.context.span_id: span for span in spans}
    lines: list[str] = []

    def draw(parent: int | None, depth: int) -> None:
        for span in sorted(spans, key=lambda each: each.start_time or 0):
            if _parent_among(span, by_id) == parent:
                lines.append("  " * depth + span.name)
                draw(span.context.span_id, depth + 1)

    draw(None, 0)
    return "\n".join(lines)


def _parent_among(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> int | None:
    return span.parent.span_id if span.parent is not None and span.parent.span_id in by_id else None


class _Reader(InMemoryMetricReader):
    takes_summaries = True


class _Keeper(SpanProcessor, LogRecordProcessor):
    """Stand in the pipelines for good, and keep what passes while a capture is open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: Capture | None = None
        self.reader = _Reader(preferred_temporality=_DELTA)

    def on_end(self, span: ReadableSpan) -> None:
        if self.open is not None:
            self.open.spans.append(span)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if self.open is not None:
            resource = log_record.resource or Resource.get_empty()
            self.open.logs.append(
                ReadableLogRecord(
                    log_record.log_record, resource, instrumentation_scope=log_record.instrumentation_scope
                )
            )

    def shutdown(self) -> None:
        """Keep on; the pipelines end, not the captures."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _setup_nowhere() -> Observability:
    # As an agent would: the code under test may set itself up, too, and gets this.
    return setup_process(Settings.load({}, service_name="test", **_NOWHERE), by_agent=True)


@functools.cache
def _keeper() -> _Keeper:
    handle = current() or _setup_nowhere()
    # An exporter of logs is what makes the stream emit records; here the keeper stands in for one.
    provider = _provider(LoggerProvider, _logs.get_logger_provider())
    install(build_log_stream(handle.settings, handle.settings.service_name, provider, {}))
    keeper = _Keeper()
    _provider(TracerProvider, trace.get_tracer_provider()).add_span_processor(keeper)
    _provider(LoggerProvider, _logs.get_logger_provider()).add_log_record_processor(keeper)
    _provider(MeterProvider, metrics.get_meter_provider()).add_metric_reader(keeper.reader)
    return keeper


def _provider(kind: type[P], provider: object) -> P:
    assert isinstance(provider, kind)
    return provider


def _collected(reader: InMemoryMetricReader) -> Iterable[Any]:
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _points(metric: Any) -> Iterator[tuple[frozenset[Any], Measured]]:
    for point in metric.data.data_points:
        attributes = dict(point.attributes or {})
        value, count = (point.value, 1) if hasattr(point, "value") else (point.sum, point.count)
        yield frozenset(attributes.items()), Measured(attributes, value, count)
