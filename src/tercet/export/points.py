"""From a collection of metrics to requests that the collector has taken, every point counted."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)

from tercet.export.batch import Account, Posts
from tercet.export.spool import Parcel
from tercet.export.summary import encode


class PostedPoints(MetricExporter):
    """Post what a reader collects, and count its points.

    A collection that cannot be delivered is not kept: cumulative sums are whole again in the next one, and
    deltas are lost.

    Args:
        link: Where it goes.
        halve: From a request that is too large to two smaller ones; none when it is one point.
        temporality: Which instruments report deltas.
        timeout: Seconds for one request, if the link allows more.
    """

    takes_summaries = True

    def __init__(
        self,
        link: Posts,
        halve: Callable[[bytes], Sequence[Parcel]],
        *,
        temporality: dict[type, AggregationTemporality],
        timeout: float,
    ) -> None:
        super().__init__(preferred_temporality=temporality)
        self.link = link
        self._halve = halve
        self._timeout = timeout
        self._are_deltas = AggregationTemporality.DELTA in temporality.values()
        self._start_at_zero()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_at_zero)

    def _start_at_zero(self) -> None:
        #: Whether the last collection was, all of it.
        self.is_delivered = True
        self._counting = threading.Lock()
        self._delivered = 0
        self._dropped: Counter[str] = Counter()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: Any
    ) -> MetricExportResult:
        """Send one collection.

        The reader's own time limit is not asked: for its last collection that is the interval, which says
        nothing about how long an export may take. Whoever waits for an export does not wait for longer.
        """
        count = usable = _points(metrics_data)
        try:
            body = _encoded(metrics_data)
        except Exception:  # An observable's callback can have brought anything; others are no worse for it.
            metrics_data = self._without_unusable(metrics_data)
            usable = _points(metrics_data)
            body = _encoded(metrics_data) if usable else b""  # The resource itself may be unusable.
        is_sent = bool(usable or not count) and self._is_sent(Parcel(self.link.pack(body), usable))
        # Set when it is known, for whoever flushed may ask while the next one is on its way.
        self.is_delivered = is_sent and usable == count
        return MetricExportResult.SUCCESS if self.is_delivered else MetricExportResult.FAILURE

    def _without_unusable(self, metrics_data: MetricsData) -> MetricsData:
        """Leave out the metrics that cannot be encoded, and count their points."""
        return MetricsData(
            [
                replace(
                    resource,
                    scope_metrics=[
                        replace(scope, metrics=[*self._usable(resource, scope)])
                        for scope in resource.scope_metrics
                    ],
                )
                for resource in metrics_data.resource_metrics
            ]
        )

    def _usable(self, resource: ResourceMetrics, scope: ScopeMetrics) -> Iterator[Metric]:
        for metric in scope.metrics:
            alone = MetricsData([replace(resource, scope_metrics=[replace(scope, metrics=[metric])])])
            try:
                _encoded(alone)
            except Exception as error:
                self.link.tell(f"one metric could not be encoded ({type(error).__name__})")
                self._count("encode_failed", _points(alone))
            else:
                yield metric

    def _is_sent(self, parcel: Parcel) -> bool:
        answer = self.link.post(parcel.packed, self._timeout, parcel.count if self._are_deltas else None)
        if answer.kind == "delivered":
            rejected = min(answer.rejected, parcel.count)
            self._count("delivered", parcel.count - rejected)
            self._count("rejected", rejected)
            return True
        halves = self._halve(parcel.packed) if answer.kind == "too_large" and parcel.count > 1 else ()
        if not halves:
            self._count("unavailable" if answer.kind == "later" else answer.kind, parcel.count)
        sent = [self._is_sent(half) for half in halves]
        return bool(sent) and all(sent)

    def _count(self, outcome: str, count: int) -> None:
        with self._counting:
            if outcome == "delivered":
                self._delivered += count
            elif count:
                self._dropped[outcome] += count

    def account(self) -> Account:
        """Say what became of all points that were collected."""
        with self._counting:
            delivered, dropped = self._delivered, dict(self._dropped)
        return Account(delivered + sum(dropped.values()), delivered, dropped)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Say that nothing is waiting: each export is sent at once."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:
        """Do nothing: the link has nothing to close."""


def _encoded(metrics_data: MetricsData) -> bytes:
    body: bytes = encode(metrics_data).SerializeToString()
    return body


def _points(metrics_data: MetricsData) -> int:
    return sum(
        len(metric.data.data_points)
        for resource in metrics_data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )
