"""Declared metrics brought to life as OpenTelemetry instruments."""

import os
import threading
from collections.abc import Iterator

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation

from tercet.declare.metric import Metric


def build_histogram(meter: Meter, metric: Metric) -> Histogram:
    """Make the instrument of a declared histogram, with its buckets as advice to whoever has no view."""
    return meter.create_histogram(
        metric.name, metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
    )


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
            self._counts[values] = max(0, self._counts.get(values, 0) + by)

    def _observe(self, _options: CallbackOptions) -> Iterator[Observation]:
        with self._lock:
            counts = list(self._counts.items())
        for values, count in counts:
            yield Observation(count, dict(zip(self._keys, values, strict=True)))
