"""Objectives of running code: their buckets, and their events, counted as good or bad where they happen."""

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from opentelemetry.trace import SpanContext

from tercet.declare.metric import SLO_EVENTS
from tercet.emit.distributions import Count, Histograms, Watch
from tercet.emit.forks import in_children
from tercet.emit.ledger import Sums
from tercet.emit.series import Series
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
        self._free()
        in_children(self._free)

    def _free(self) -> None:
        # A histogram and a promise that come at once must meet once.
        self._meeting = threading.RLock()

    def __iter__(self) -> Iterator["Promise"]:
        return iter(list(self._promises.values()))

    def add(self, promise: "Promise") -> None:
        """Keep a promise from now on; the same one again, as of code that is imported twice, is one.

        Raises:
            ObjectivesError: Another one has its name.
        """
        with self._meeting:
            known = self._promises.setdefault((promise.service, promise.objective.name), promise)
            if known is promise:
                self._begin(promise)
        if known.objective != promise.objective:
            raise ObjectivesError(
                f"{promise.said.place}: {promise.said.path}.name must be unique, and {known.said.place} has "
                f"it, got {promise.objective.name!r}. Give it another name, or remove one of the two."
            )

    def take(self, histogram: Histograms) -> None:
        """Give a histogram the buckets that objectives need, and count their events in it."""
        with self._meeting:
            if histogram not in self._histograms:
                self._histograms.append(histogram)
                for promise in self:
                    self._begin_in(histogram, promise)

    def bind(self, service: str) -> None:
        """Take note of which service this process is: it keeps no promise of another one."""
        with self._meeting:
            waiting = [promise for promise in self if not self._is_own(promise)]
            self._service = service
            for promise in waiting:
                self._begin(promise)

    def tell(self, promise: "Promise", outcome: str, amount: int, ids: SpanContext) -> None:
        """Count events of which the code knows whether they are good."""
        if self._service is None or self._is_own(promise):
            self.events.add_to(self._outcome(promise, outcome), amount, ids)

    def _is_own(self, promise: "Promise") -> bool:
        """Say whether this process keeps a promise; one that names its service waits until ours is known."""
        return promise.service in ("", self._service)

    def _keeps(self, promise: "Promise") -> bool:
        """Say whether this process keeps a promise; of two of one name, one of which names us, the first."""
        name = promise.objective.name
        own = (each for each in self if each.objective.name == name and self._is_own(each))
        return next(own, None) is promise

    def _begin(self, promise: "Promise") -> None:
        if self._is_own(promise) and not self._keeps(promise):
            _logger.warning(
                "%s: %s.name must be unique in %s; what came first is kept. Give it another name.",
                promise.said.place,
                promise.said.path,
                self._service or "a service",
            )
        if self._keeps(promise) and promise.objective.indicator.counted == "calls":
            for outcome in ("good", "bad"):
                self._outcome(promise, outcome)
        for histogram in self._histograms:
            self._begin_in(histogram, promise)

    def _begin_in(self, histogram: Histograms, promise: "Promise") -> None:
        objective, name = promise.objective, histogram.metric.name
        if objective.indicator.metric.name != name or not self._keeps(promise):
            return
        if not histogram.bound_at(map(float, objective.boundaries)):
            _logger.warning(
                "%s: %s must be declared before %s measures anything; its buckets stay as they are.",
                promise.said.place,
                promise.said.path,
                name,
            )
        # Nothing is there, not even zeros, where nobody measures: an alert tells of that.
        if objective.indicator.counted == "source":
            histogram.watch(self._watch(promise))

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
