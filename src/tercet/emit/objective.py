"""Objectives beside the code that keeps them: `Objective`."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from opentelemetry.trace import get_current_span

from tercet.declare.metric import SLO_EVENTS, Metric
from tercet.emit.registry import REGISTRY, Registry

#: A share or a number, as documents have it: `"99.95%"`, `0.9995`, `"10,000"`.
Number = str | float
#: A value, or a list of them.
Values = str | Sequence[str]


@runtime_checkable
class Declared(Protocol):
    """A metric that code has declared: a `Counter`, a `Histogram`."""

    @property
    def metric(self) -> Metric:
        """The declaration."""
        ...


class Objective:
    """Promise a share of good events or minutes, beside the code that keeps the promise.

        Objective("checkout", kind="availability", target="99.95%", where={"http.route": "/orders"})

    It has the keys of `objectives.yaml`, and their rules; `tercet generate --module` reads both. What the
    document knows may be left to it: who is told, and for the service as a whole the runbook and the period.

    A running service gives its histogram a bucket that ends at the threshold, and counts each event as good
    or bad, in `slo.events`, where it is measured: exactly, and from zero on. That costs nothing to requests
    that are none of its events.

    Args:
        name: Unique in its service.
        kind: `availability`, `latency`, `throughput`, `level` or `query`.
        target: The share that must be good: `"99.95%"`, `0.9995`.
        service: Who promises; the service that the process is of when not given.
        period: `28d`, `30d` or `month`; the document's when not given.
        agreement: What customers were promised; looser than the target.
        metric: What it is about, or its name; HTTP requests that are served when not given.
        where: Which of them, by attribute: `{"http.route": "/orders"}`.
        bad: Which of those are bad, by attribute; those with an `error.type` when not given. For a query, the
            PromQL of bad events.
        forgive: Values of `error.type` that are not bad.
        good: For a query, the PromQL of good events, instead of the bad ones.
        total: For a query, the PromQL of all events.
        ratio: For a query, the PromQL of the share of bad events, instead of both.
        counted: `source`: where they are measured, which is what HTTP requests and `@observed` have when
            not given. `metric`: by rules, from the metric. `calls`: by `good()` and `bad()`.
        below: For latency, what is fast enough: `"500ms"`.
        at_least: For throughput, how many a second.
        at_most: For levels, how high.
        during: In which hours minutes count, in UTC: `"8-20"`.
        severity: For each pace, another severity than the usual one, or `off`.
        minimum_events: Bad events below which nobody is told.
        symptoms: Alerts on right now: `[{"above": "2.5s", "for": "5m", "severity": "SEV-2"}]`.
        runbook: What somebody who is woken must know: `impact`, `causes` and `actions`.
        registry: Where it is declared; one of your own is for tests.

    Raises:
        ObjectivesError: It breaks a rule; the message names the line. The rules of PromQL are looked at where
            `tercet[generate]` is installed, which reads it.
    """

    def __init__(
        self,
        name: str,
        *,
        kind: Literal["availability", "latency", "throughput", "level", "query"],
        target: Number,
        service: str | None = None,
        period: str | None = None,
        agreement: Number | None = None,
        metric: str | Declared | None = None,
        where: Mapping[str, Values] | None = None,
        bad: Mapping[str, Values] | str | None = None,
        forgive: Values | None = None,
        good: str | None = None,
        total: str | None = None,
        ratio: str | None = None,
        counted: Literal["source", "metric", "calls"] | None = None,
        below: Number | None = None,
        at_least: Number | None = None,
        at_most: Number | None = None,
        during: str | None = None,
        severity: Mapping[str, str] | None = None,
        minimum_events: int | None = None,
        symptoms: Sequence[Mapping[str, Number]] | None = None,
        runbook: Mapping[str, Values] | None = None,
        registry: Registry = REGISTRY,
    ) -> None:
        # Imported by services that promise something, and by no others.
        from tercet.declare.entry import parse_promise
        from tercet.declare.outline import say

        given = {
            "name": name,
            "kind": kind,
            "target": target,
            "service": service,
            "period": period,
            "agreement": agreement,
            "metric": _name_of(metric),
            "where": where,
            "bad": bad,
            "forgive": forgive,
            "good": good,
            "total": total,
            "ratio": ratio,
            "counted": counted,
            "below": below,
            "at_least": at_least,
            "at_most": at_most,
            "during": during,
            "severity": severity,
            "minimum_events": minimum_events,
            "symptoms": symptoms,
            "runbook": runbook,
        }
        frame = sys._getframe(1)
        content = {key: value for key, value in given.items() if value is not None}
        said = say(content, _shown(frame.f_code.co_filename), frame.f_lineno, f"Objective({name!r})")
        self._registry = registry
        self._promise = parse_promise(said, registry.declared())
        registry.objectives.add(self._promise)

    def __repr__(self) -> str:
        return f"<Objective {self._promise.objective.name}>"

    def good(self, events: int = 1) -> None:
        """Count events that were as they should be, for an objective that is counted by calls.

        Raises:
            MetricError: It is counted otherwise, where misuse raises: see the setting `metric_errors`.
        """
        self._count("good", events)

    def bad(self, events: int = 1) -> None:
        """Count events that were not.

        Raises:
            MetricError: See `good`.
        """
        self._count("bad", events)

    def _count(self, outcome: str, events: int) -> None:
        counted = self._promise.objective.indicator.counted
        if counted != "calls" or not isinstance(events, int) or events < 0:
            message = (
                f"{outcome}() must be called with a whole number of events, for an objective that is counted "
                f"by calls, got {events!r} for {self._promise.said.path}, counted by {counted}. "
                'Write counted="calls", or leave the call out.'
            )
            self._registry.refuse(SLO_EVENTS, "not_by_calls", message)
            return
        ids = get_current_span().get_span_context()
        self._registry.objectives.tell(self._promise, outcome, events, ids)


def _name_of(metric: str | Declared | None) -> str | None:
    """Take a declared metric by its name."""
    return metric.metric.name if isinstance(metric, Declared) else metric


def _shown(file: str) -> str:
    """Name a file of the code as people do who stand in its project."""
    with suppress(OSError, ValueError):  # It is elsewhere, or there is no place to stand in any more.
        return str(Path(file).relative_to(Path.cwd()))
    return file
