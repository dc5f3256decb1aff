"""Declared metrics brought to life as instruments that cost little to use."""

import os
import threading
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from tercet.declare.metric import Metric, Values
from tercet.emit.events import Objectives
from tercet.emit.ledger import Histograms, Ledger


class Recorder(Protocol):
    """What measurements of a histogram are recorded with."""

    def record(self, value: float, values: Values, ids: SpanContext) -> None:
        """Record one measurement under these attribute values, taken within the span that `ids` name."""
        ...


@runtime_checkable
class TakesLedgers(Protocol):
    """A meter whose readers collect ledgers, too."""

    def take(self, ledger: Ledger) -> Ledger:
        """Let readers collect a ledger; return the one that they collect, the same one for each name."""
        ...


def build_recorder(meter: Meter, metric: Metric, objectives: Objectives | None = None) -> Recorder:
    """Make the instrument of a declared histogram: a ledger where the meter takes one, else the API's.

    Args:
        meter: Of whoever measures.
        metric: As declared.
        objectives: Those that a ledger has buckets for, and whose events it counts.
    """
    if isinstance(meter, TakesLedgers):
        taken = meter.take(Histograms(metric))
        if isinstance(taken, Histograms):
            if objectives is not None:
                objectives.take(taken)
            return taken
    return ApiRecorder(meter, metric)


class ApiRecorder:
    """A declared histogram as an instrument of the API, for a meter that somebody else brought."""

    def __init__(self, meter: Meter, metric: Metric) -> None:
        self._metric = metric
        self._histogram = meter.create_histogram(
            metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
        )

    def record(self, value: float, values: Values, ids: SpanContext) -> None:
        """See `Recorder`."""
        context = set_span_in_context(NonRecordingSpan(ids))
        self._histogram.record(value, self._metric.named(values), context)


class ActiveCounts:
    """Count what is going on right now, by attributes, without a measurement per step.

    The counts are read when metrics are collected; one step costs a dictionary entry and a lock that is free.
    A forked child starts at zero: what its parent is doing is not going on in the child.
    """

    def __init__(self, meter: Meter, metric: Metric) -> None:
        self._keys = metric.attributes
        self._start_at_zero()
        os.register_at_fork(after_in_child=self._start_at_zero)
        meter.create_observable_up_down_counter(metric.name, [self._observe], metric.unit, metric.help)

    def _start_at_zero(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], int] = {}

    def step(self, values: tuple[str, ...], by: int) -> None:
        """Add `by` to the count of these attribute values, which stand in the order of the declaration."""
        with self._lock:
            count = self._counts.get(values, 0) + by
            # A child that is forked within a request ends what its parent has begun.
            self._counts[values] = count if count > 0 else 0

    def _observe(self, _options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            counts = list(self._counts.items())
        for values, count in counts:
            yield Observation(count, dict(zip(self._keys, values, strict=True)))
