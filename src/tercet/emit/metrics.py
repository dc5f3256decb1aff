"""Declared metrics brought to life as instruments that cost little to use."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from tercet.declare.metric import Metric, Values
from tercet.emit.distributions import Histograms
from tercet.emit.events import Objectives
from tercet.emit.ledger import Ledger


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

    It is counted when metrics are collected; to begin and to end cost one access to a dictionary each, which
    needs no lock. A forked child starts at zero: what its parent is doing is not going on in the child.

    Attributes:
        going: By the `id()` of what is going on, its attribute values, in the order of the declaration.
            Whoever begins writes itself here, and takes itself out at the end. Not the thing itself: then one
            that is abandoned would never be collected, and so never end.
        known: The attribute values that there are, by themselves, so that each is kept once; see `learn`.
    """

    def __init__(self, meter: Meter, metric: Metric) -> None:
        self._keys = metric.attributes
        self._start_at_zero()
        os.register_at_fork(after_in_child=self._start_at_zero)
        meter.create_observable_up_down_counter(metric.name, [self._observe], metric.unit, metric.help)

    def _start_at_zero(self) -> None:
        self.going: dict[int, tuple[str, ...]] = {}
        self.known: dict[tuple[str, ...], tuple[str, ...]] = {}

    def learn(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Count for these attribute values from now on: at zero where nothing goes on."""
        return self.known.setdefault(values, values)

    def _observe(self, _options: CallbackOptions) -> Iterator[Observation]:
        # Copied in one step, for others begin and end meanwhile.
        counts = Counter(list(self.going.values()))
        for values in list(self.known):
            yield Observation(counts[values], dict(zip(self._keys, values, strict=True)))
