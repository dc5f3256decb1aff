"""Objectives of running code: their buckets, and their events, counted as good or bad where they happen."""

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanContext

from tercet.declare.metric import SLO_EVENTS
from tercet.emit.ledger import Count, Histograms, Series, Sums, Watch
from tercet.errors import ObjectivesError

if TYPE_CHECKING:  # what reads promises is imported by processes that make some
    from tercet.declare.promise import Promise

_logger = logging.getLogger("tercet")


class Objectives:
    """What the code of a process promises, and the histograms that measure it.

    Promises and histograms come in any order: code that is imported declares its objectives when the process
    is set up already.

    Attributes:
        events: How often each promise was kept, and how often not.
    """

    def __init__(self) -> None:
        self.events = Sums(SLO_EVENTS)
        self._promises: dict[tuple[str, str], Promise] = {}
        self._histograms: list[Histograms] = []
        self._service: str | None = None
        self._told: set[str] = set()

    def __iter__(self) -> Iterator["Promise"]:
        return iter(list(self._promises.values()))

    def add(self, promise: "Promise") -> None:
        """Keep a promise from now on.

        Raises:
            ObjectivesError: Another one has its name; the same code may be imported twice.
        """
        key = promise.service, promise.objective.name
        known = self._promises.setdefault(key, promise)
        if known.said.place != promise.said.place:
            raise ObjectivesError(
                f"{promise.said.place}: {promise.said.path}.name must be unique, and {known.said.place} has "
                f"it, got {promise.objective.name!r}. Give it another name, or remove one of the two."
            )
        self._promises[key] = promise
        self._begin()

    def take(self, histogram: Histograms) -> None:
        """Give a histogram the buckets that objectives need, and count their events in it."""
        if histogram not in self._histograms:
            self._histograms.append(histogram)
            self._begin_in(histogram)

    def bind(self, service: str) -> None:
        """Take note of which service this process is: it keeps no promise of another one."""
        self._service = service
        self._begin()

    def tell(self, promise: "Promise", outcome: str, amount: int, ids: SpanContext) -> None:
        """Count events of which the code knows whether they are good."""
        if self._service is None or self._is_own(promise):
            self.events.add_to(self._outcome(promise, outcome), amount, ids)

    def _is_own(self, promise: "Promise") -> bool:
        """Say whether this process keeps a promise; one that names its service waits until ours is known."""
        return promise.service in ("", self._service)

    def _begin(self) -> None:
        for promise in filter(self._is_own, self):
            if promise.objective.indicator.counted != "metric":
                for outcome in ("good", "bad"):
                    self._outcome(promise, outcome)
        for histogram in self._histograms:
            self._begin_in(histogram)

    def _begin_in(self, histogram: Histograms) -> None:
        own = [
            promise
            for promise in filter(self._is_own, self)
            if promise.objective.indicator.metric.name == histogram.metric.name
        ]
        for promise in own:
            is_bound = histogram.bound_at(map(float, promise.objective.boundaries))
            if not is_bound and promise.said.place not in self._told:
                self._told.add(promise.said.place)
                _logger.warning(
                    "%s: %s must be declared before %s measures anything; its buckets stay as they are.",
                    promise.said.place,
                    promise.said.path,
                    histogram.metric.name,
                )
        watches = tuple(
            self._watch(promise) for promise in own if promise.objective.indicator.counted == "source"
        )
        if watches or histogram.watches:
            histogram.watch(watches)

    def _watch(self, promise: "Promise") -> Watch:
        indicator = promise.objective.indicator
        good, bad = self._outcome(promise, "good"), self._outcome(promise, "bad")

        def count(attributes: Mapping[str, str]) -> Count | None:
            if not indicator.takes(attributes):
                return None
            return self.events, indicator.slowest(attributes), good, bad

        return count

    def _outcome(self, promise: "Promise", outcome: str) -> Series:
        # There at zero, so that a rate sees the first event too.
        return self.events.series((promise.objective.name, outcome), is_kept=True)
