"""Objectives: what share of what happens in a service must be good, over which time, and who answers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from tercet.declare.burn_rate import MINUTE, WINDOWS, Period, Severity, Window, burn_rate, duration
from tercet.declare.metric import (
    HTTP_CLIENT_DURATION,
    HTTP_SERVER_DURATION,
    OPERATION_DURATION,
    SLO_EVENTS,
    Metric,
)
from tercet.declare.parse import Unusable
from tercet.declare.query import Queries

IndicatorKind = Literal["availability", "latency", "throughput", "level", "query"]
#: Where events are counted as good or bad: by rules, from what the metric has measured; at the source, where
#: the metric is measured; or by calls of the code that knows.
Counted = Literal["metric", "source", "calls"]
#: Attribute keys, each with the values it may have.
Filter = tuple[tuple[str, tuple[str, ...]], ...]

#: Which kinds of metric each kind of indicator can be read from.
READS: dict[IndicatorKind, tuple[str, ...]] = {
    "availability": ("counter", "histogram"),
    "latency": ("histogram",),
    "throughput": ("counter", "histogram"),
    "level": ("gauge", "up_down_counter"),
    "query": (),
}
#: What tercet measures itself, so that it can count events there as well.
SOURCES = frozenset(
    metric.name for metric in (HTTP_SERVER_DURATION, HTTP_CLIENT_DURATION, OPERATION_DURATION)
)
#: Bad events within the long window below which nobody is alerted: a share of next to nothing says nothing.
MINIMUM_EVENTS = 10
_HOURS_A_DAY = 24
#: The `slo` of alerts on the telemetry itself, and the service of those that belong to none.
TELEMETRY = "telemetry"
#: The `slo` of alerts on services that are silent.
PRESENCE = "presence"


@dataclass(frozen=True, slots=True)
class Condition:
    """What an attribute must be, or must not be; one that is not there is empty.

    >>> Condition("status", ("failed", "lost")).holds({"status": "lost"})
    True
    >>> Condition("error.type", ("",), is_excluded=True).holds({"status": "lost"})
    False
    """

    key: str
    values: tuple[str, ...]
    is_excluded: bool = False

    def holds(self, attributes: Mapping[str, str]) -> bool:
        """Say whether attributes are as they must be."""
        return (attributes.get(self.key, "") in self.values) is not self.is_excluded


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """What is measured: events that are good or bad, or minutes in which a number was where it should be.

    Attributes:
        kind: `availability`: events that failed are bad. `latency`: events that took longer than `threshold`
            are bad. `throughput`: minutes with fewer than `threshold` events a second are bad. `level`:
            minutes in which the number was above `threshold` are bad. `query`: what `queries` say.
        metric: What it is read from, except by queries.
        where: Which of the metric's series count.
        bad: Which of them are bad; without it, those with an `error.type`.
        forgiven: Values of `error.type` that burn no budget.
        threshold: In the metric's unit; events a second for throughput.
        counted: Where events are counted as good or bad.
        hours: The hours of the day, in UTC, in which minutes count; from the first up to the last.
        queries: What a `query` is computed from; a ratio counts each minute by its share of bad events.
    """

    kind: IndicatorKind
    metric: Metric = HTTP_SERVER_DURATION
    where: Filter = ()
    bad: Filter = ()
    forgiven: tuple[str, ...] = ()
    threshold: Decimal = Decimal(0)
    hours: tuple[int, int] | None = None
    counted: Counted = "metric"
    queries: Queries | None = None

    @property
    def counts_minutes(self) -> bool:
        """Whether minutes are good or bad, rather than events."""
        by_ratio = self.queries is not None and self.queries.kind == "ratio"
        return self.kind in ("throughput", "level") or by_ratio

    @property
    def is_summed(self) -> bool:
        """Whether its level is that of all processes together, as of what goes up and down in each.

        Of a gauge, the worst counts.
        """
        return self.kind == "level" and self.metric.kind == "up_down_counter"

    @property
    def is_countable(self) -> bool:
        """Whether its events can be counted one by one."""
        return not self.counts_minutes and (self.queries is None or self.queries.are_countable)

    @property
    def failures(self) -> tuple[Condition, ...]:
        """What is so of events that fail, for rules and for running code alike."""
        if self.bad:
            return tuple(Condition(key, values) for key, values in self.bad)
        return (Condition("error.type", ("", *self.forgiven), is_excluded=True),)

    def takes(self, attributes: Mapping[str, str]) -> bool:
        """Say whether what has these attributes is an event of it."""
        return all(Condition(key, values).holds(attributes) for key, values in self.where)

    def slowest(self, attributes: Mapping[str, str]) -> float:
        """Say how much an event with these attributes may measure and be good; -inf where it is bad."""
        if self.kind == "latency":
            return float(self.threshold)
        return -math.inf if all(condition.holds(attributes) for condition in self.failures) else math.inf


def counted_events(name: str, counted: Counted = "metric") -> Indicator:
    """Read an objective from the events that the code has counted for it.

    Args:
        name: Of the objective.
        counted: By whom.
    """
    return Indicator(
        kind="availability",
        metric=SLO_EVENTS,
        where=(("slo", (name,)),),
        bad=(("outcome", ("bad",)),),
        counted=counted,
    )


@dataclass(frozen=True, slots=True)
class Advice:
    """What somebody who is woken must know.

    Attributes:
        impact: Who suffers, and how.
        causes: What it may be.
        actions: What to do first, in this order.
    """

    impact: str
    causes: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Symptom:
    """An alert on what users feel right now, in the words of the founding document: `p99 > 2.5 s for 5m`.

    Attributes:
        above: A share of bad events, or the quantile of the objective's own target, in the metric's unit.
        lasting: Seconds it must last.
        severity: How urgent it is.
    """

    above: Decimal
    lasting: int
    severity: Severity


@dataclass(frozen=True, slots=True)
class Service:
    """Who an objective is for.

    Attributes:
        name: Its `service.name`.
        team: Who is called.
        namespace: Its `service.namespace`, or empty.
        depends_on: What it needs to work: other services of the document, or anything else by name.
        place: The file and the line that say so, for messages.
    """

    name: str
    team: str
    namespace: str = ""
    depends_on: tuple[str, ...] = ()
    place: str = field(default="", compare=False)

    @property
    def job(self) -> str:
        """What Prometheus calls it, by its own rule for what comes over OTLP.

        >>> Service("orders", "shop").job, Service("orders", "shop", namespace="eu").job
        ('orders', 'eu/orders')
        """
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Promise a share of good events, or good minutes, over a period.

    Attributes:
        name: Unique in its service.
        service: Who promises.
        indicator: What is measured.
        target: The share that must be good, below 1.
        period: Over which time.
        advice: What somebody who is woken must know.
        agreement: The share that customers were promised, looser than the target; None without one.
        severities: For each window, how urgent it is; None where nobody is told.
        minimum_events: Bad events in a long window below which nobody is told; 0 where a ratio does not say.
        symptoms: Alerts on what users feel right now.
        place: The file and the line that say so, for messages.
    """

    name: str
    service: Service
    indicator: Indicator
    target: Decimal
    period: Period
    advice: Advice
    agreement: Decimal | None = None
    severities: Mapping[Window, Severity | None] = field(
        default_factory=lambda: {window: window.severity for window in WINDOWS}
    )
    minimum_events: int = MINIMUM_EVENTS
    symptoms: tuple[Symptom, ...] = ()
    place: str = field(default="", compare=False)

    @property
    def source(self) -> Indicator:
        """What its rules read: the indicator, or the events of it that were counted at the source."""
        return counted_events(self.name) if self.indicator.counted == "source" else self.indicator

    @property
    def boundaries(self) -> tuple[Decimal, ...]:
        """Where buckets of its histogram must end."""
        if self.indicator.kind != "latency":
            return ()
        return self.indicator.threshold, *(symptom.above for symptom in self.symptoms)

    @property
    def budget(self) -> Decimal:
        """The share that may be bad, exactly."""
        return 1 - self.target

    @property
    def budget_minutes(self) -> Fraction:
        """The budget as minutes in which everything is bad, of those that count.

        99.95 % over 30 days leave 21.6 minutes.
        """
        first, last = self.indicator.hours or (0, _HOURS_A_DAY)
        return Fraction(self.budget) * self.period.seconds * (last - first) / _HOURS_A_DAY / 60

    def burns(self) -> list[tuple[Window, Severity]]:
        """List the windows of which somebody is told, the fastest first."""
        return [(window, severity) for window in WINDOWS if (severity := self.severities[window])]


@dataclass(frozen=True, slots=True)
class Receiver:
    """One way to tell people; what is secret stays in files.

    Attributes:
        kind: `pagerduty`, `opsgenie`, `slack` or `webhook`.
        options: Alertmanager's own options for it.
    """

    kind: str
    options: Mapping[str, str]


#: How a team is told: `page`, `ticket`, and `escalate` when a page outlives its response time.
Contacts = Mapping[str, tuple[Receiver, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where people find things.

    Attributes:
        grafana: Address of Grafana.
        runbooks: Address of the folder in which the generated runbooks are published.
    """

    grafana: str
    runbooks: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything that is promised, and everything needed to generate what watches over it.

    Attributes:
        source: Name of the document, for headers.
        objectives: In the order of the document.
        services: All services by name.
        metrics: All declared metrics by name.
        links: Where people find things.
        team: Who answers for the telemetry itself.
        contacts: By team.
        deadman: Who is told each minute that alerting works, and raises the alarm when it is not told.
        environment: The only `deployment.environment.name` that counts; every one for itself when empty.
        waiting_limit: Items that may wait for export in one service before somebody looks.
    """

    source: str
    objectives: tuple[Objective, ...]
    services: Mapping[str, Service]
    metrics: Mapping[str, Metric]
    links: Links
    team: str
    contacts: Mapping[str, Contacts]
    deadman: tuple[Receiver, ...]
    environment: str
    waiting_limit: int


def refuse_deaf(objective: Objective) -> None:
    """Refuse an objective of which a window could never tell anybody, with the arithmetic.

    Raises:
        Unusable: Even if everything were bad, the burn rate would stay below a window's factor.
    """
    for window, severity in objective.burns():
        factor = burn_rate(window, objective.period)
        bad = factor * Fraction(objective.budget)
        if bad >= 1:
            rule = (
                f"above {shown_share(1 - 1 / factor)}: {severity} needs {float(factor):g} times "
                f"{shown_share(objective.budget)} = {shown_share(bad)} bad, which never happens"
            )
            raise Unusable(
                rule, f"Raise it, or tell nobody of this: severity: {{{duration(window.long)}: off}}."
            )


def refuse_too_many(objective: Objective) -> None:
    """Refuse a minimum of bad minutes that a window does not have.

    Raises:
        Unusable: The window is shorter.
    """
    if objective.indicator.counts_minutes:
        shortest = objective.burns()[0][0].long
        if objective.minimum_events * MINUTE > shortest:
            rule = f"{shortest // MINUTE} at most, the minutes of {duration(shortest)}"
            raise Unusable(rule, "Lower it, or turn that pace off.")


def refuse_between_buckets(threshold: Decimal, metric: Metric, *, can_be_forced: bool) -> None:
    """Refuse a threshold that the running histogram cannot tell from its neighbours.

    Args:
        threshold: In the metric's unit.
        metric: With the buckets that run.
        can_be_forced: Whether an objective in code would give it the boundary.

    Raises:
        Unusable: It is no bucket boundary.
    """
    if float(threshold) in metric.buckets:
        return
    below = [bound for bound in metric.buckets if bound < threshold][-1:]
    above = [bound for bound in metric.buckets if bound > threshold][:1]
    neighbours = " or ".join(f"{bound:g}" for bound in below + above)
    setting = "TERCET_DURATION_BUCKETS=" if metric.name.startswith("http.") else "buckets: "
    bounds = ",".join(f"{bound:g}" for bound in sorted((*metric.buckets, float(threshold))))
    raise Unusable(
        f"a bucket boundary of {metric.name}",
        (f"Write {neighbours}, or add it: " if neighbours else "Add it: ")
        + f"{setting}{bounds}"
        + ("; an Objective in the code of the service adds it by itself." if can_be_forced else "."),
    )


def refuse_beyond_buckets(threshold: Decimal, metric: Metric) -> None:
    """Refuse a limit that no quantile of the running histogram is ever above.

    Raises:
        Unusable: It is the last bucket boundary, or beyond.
    """
    *lower, highest = metric.buckets
    if threshold >= highest:
        mend = f"Write {lower[-1]:g}, or add a higher boundary." if lower else "Add a higher boundary."
        rule = f"below {highest:g}, the last boundary of {metric.name}: no quantile is ever above it"
        raise Unusable(rule, mend)


def shown_share(share: Decimal | Fraction) -> str:
    """Write a share as people do.

    >>> shown_share(Decimal("0.9995")), shown_share(Fraction(72, 10000)), shown_share(Fraction(1, 3))
    ('99.95 %', '0.72 %', '33.33333 %')
    """
    return f"{float(share * 100):.7g} %"
