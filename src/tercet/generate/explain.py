"""What is told of an objective: how people speak of it, and what to ask Prometheus about it."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from tercet.declare.burn_rate import duration
from tercet.declare.metric import HTTP_SERVER_DURATION
from tercet.declare.names import label_name
from tercet.declare.objective import Catalog, Indicator, Objective
from tercet.generate import names, rules
from tercet.generate.promql import number, rate, select, summed


@dataclass(frozen=True, slots=True)
class Words:
    """How people speak of an objective."""

    events: str
    good: str
    bad: str


def words(objective: Objective) -> Words:
    """Find the words for the events of an objective."""
    indicator = objective.indicator
    threshold = number(indicator.threshold)
    are_requests = indicator.queries is None and indicator.metric.name == HTTP_SERVER_DURATION.name
    events = "requests" if are_requests else "events"
    name, limit = indicator.metric.name, amount(indicator.threshold, indicator.metric.unit)
    level = f"{'the sum of ' if indicator.is_summed else ''}{name}"
    sized = Words(events, f"have {name} at {limit} at most", f"had {name} above {limit}")
    timed = Words(events, f"take {limit} at most", f"took longer than {limit}")
    return {
        "availability": Words(events, "succeed", "failed"),
        "latency": timed if indicator.metric.unit == "s" else sized,
        "throughput": Words("minutes", f"have {threshold}/s or more", f"had fewer than {threshold}/s"),
        "level": Words("minutes", f"have {level} at {limit} at most", f"had {level} above {limit}"),
        "query": Words("minutes" if indicator.counts_minutes else events, "are good", "were bad"),
    }[indicator.kind]


def amount(value: Decimal, unit: str) -> str:
    """Write a number with its unit, as people do.

    >>> amount(Decimal("0.5"), "s"), amount(Decimal(2000), "By"), amount(Decimal(7), "1")
    ('0.5 s', '2,000 bytes', '7')
    """
    whole, point, rest = number(value).partition(".")
    return f"{int(whole):,}{point}{rest}{after_number(unit)}"


def after_number(unit: str) -> str:
    """Write a unit as it stands behind a number; what only says what is counted is left out.

    >>> after_number("By"), after_number("{order}"), after_number("1")
    (' bytes', '', '')
    """
    named = {"By": "bytes", "1": ""}.get(unit, unit)
    return f" {named}" if named and not named.startswith("{") else ""


def dashboard(objective: Objective) -> str:
    """Name the dashboard that shows what it is about: only its own one shows what only queries know."""
    return names.SLO_DASHBOARD if objective.indicator.kind == "query" else names.DASHBOARD


def asked(objective: Objective) -> tuple[tuple[str, str], ...]:
    """Ask what the objective's own queries ask."""
    own = rules.queries_of(objective.indicator)
    part = f"What is {'good' if own.kind == 'good' else 'bad'}?", own.part.at(rules.RAW).strip()
    if own.total is None:
        return (part,)
    return part, ("How much traffic is there?", own.total.at(rules.RAW).strip())


def queries(objective: Objective, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    """Ask what somebody wants to know first who is told of an objective: a question, and a query."""
    indicator, selected = objective.indicator, rules.selection(objective, catalog.environment)
    budget = tuple(_budget_queries(objective))
    if indicator.kind == "query":
        return *asked(objective), *budget
    if indicator.kind == "level":
        return *_levels(indicator, select(names.series(indicator.metric), *selected)), *budget
    keys = [label_name(key) for key in indicator.metric.attributes]
    counted = rules.counted(indicator)
    traffic = ("How much traffic is there?", summed(rate(select(counted, *selected)), names.ENVIRONMENT))
    if indicator.kind == "latency":
        slow = rate(select(f"{names.series(indicator.metric)}_bucket", *selected))
        by = [key for key in keys if key != label_name("error.type")]
        worst = f"topk(5, histogram_quantile({number(objective.target)}, {summed(slow, *by, 'le')}))"
        return ("What is slow?", worst), traffic, *budget
    if indicator.kind == "availability":
        failed = rate(select(counted, *selected, *rules.bad_selection(indicator)))
        return ("What fails, and how?", f"topk(5, {summed(failed, *keys)})"), traffic, *budget
    return traffic, *budget


def _budget_queries(objective: Objective) -> Iterator[tuple[str, str]]:
    recorded = rules.of(objective)
    if objective.indicator.is_countable:
        lately = rules.COUNTED_LATELY
        bad = rules.over(select(names.COUNTED_BAD_EVENTS, *recorded), lately)
        yield f"How many were bad in the last {duration(lately)}, also of processes that ended?", bad
    yield "How much of the budget is left?", select(names.REMAINING, *recorded)


def _levels(indicator: Indicator, each: str) -> Iterator[tuple[str, str]]:
    """Ask for what is compared with the threshold, and for what it consists of."""
    if indicator.is_summed:
        yield "How high is it in all?", summed(each, names.ENVIRONMENT)
        yield "What does it consist of?", each
    else:
        yield "Where is it too high?", each
