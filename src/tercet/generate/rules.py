"""What is recorded for an objective: its events, its bad events, and their ratio in each window.

Ratios are sums over sums, so that a quiet night weighs as little as it should. They are 0 where nothing
happened, from the first request on: never NaN, and never missing until the first error. Raw series are read
five minutes back, an hour to count; every longer window is summed from what has been recorded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from tercet.declare.burn_rate import MINUTE, duration
from tercet.declare.names import label_name
from tercet.declare.objective import Filter, Indicator, IndicatorKind, Objective, Service
from tercet.declare.query import Queries, Query
from tercet.generate import names
from tercet.generate.promql import Match, bound, equal, none_of, number, one_of, rate, ratio, select, summed
from tercet.generate.rulefile import Recording

#: Seconds between two evaluations, and so what one recorded sample stands for.
INTERVAL = MINUTE
#: The budget moves slowly, and summing over a month costs more.
BUDGET_INTERVAL = 2 * MINUTE
#: The window that is recorded from raw series, and needs no sum.
RAW = 5 * MINUTE
#: Seconds that counts look back at least: Kubernetes waits up to five minutes to start again what crashes.
COUNTED_LATELY = 10 * MINUTE
#: Samples in the budget's interval of what comes twice a minute; of what comes once, there are two or three.
_OFTEN = 4
_RATES = ("availability", "throughput")
_THIS_MONTH = 'count_values("month", month())'


def sli_rules(objective: Objective, environment: str) -> tuple[Recording, ...]:
    """Record what the alerts of an objective are computed from."""
    return tuple(_recorded(objective, *pair) for pair in _sli(objective, environment))


def budget_rules(objective: Objective, environment: str) -> tuple[Recording, ...]:
    """Record how much of the budget is left."""
    return tuple(_recorded(objective, *pair) for pair in _budget(objective, environment))


def of(objective: Objective) -> tuple[Match, Match]:
    """Match what is recorded for an objective."""
    return equal(names.SERVICE, objective.service.name), equal(names.SLO, objective.name)


def windows(objective: Objective) -> list[int]:
    """List the windows that are looked at, in seconds: the shortest, and those of the alerts."""
    return sorted({RAW, *(each for window, _ in objective.burns() for each in (window.long, window.short))})


def source_selection(objective: Objective, environment: str) -> tuple[Match, ...]:
    """Match the raw series in which its events are counted."""
    return _selection(objective, objective.source, environment)


def selection(objective: Objective, environment: str) -> tuple[Match, ...]:
    """Match the raw series of its metric that count for an objective."""
    return _selection(objective, objective.indicator, environment)


def of_service(service: Service, environment: str) -> tuple[Match, ...]:
    """Match everything that comes from a service."""
    return equal(names.JOB, service.job), *of_environment(environment)


def of_environment(environment: str) -> tuple[Match, ...]:
    """Match everything of an environment, or of all where none is named."""
    return (equal(names.ENVIRONMENT, environment),) if environment else ()


def _selection(objective: Objective, indicator: Indicator, environment: str) -> tuple[Match, ...]:
    return *of_service(objective.service, environment), *_filter(indicator.where)


def bad_selection(indicator: Indicator) -> tuple[Match, ...]:
    """Match those of them that are bad, for an indicator whose events fail."""
    return tuple(
        (none_of if condition.is_excluded else one_of)(label_name(condition.key), condition.values)
        for condition in indicator.failures
    )


def counted(indicator: Indicator) -> str:
    """Name the series that counts the events of an indicator."""
    series = names.series(indicator.metric)
    return f"{series}_count" if indicator.metric.kind == "histogram" else series


def line(indicator: Indicator) -> str:
    """Name the series that says where an objective draws its line through a panel on its metric."""
    seen = counted(indicator) if indicator.kind in _RATES else names.series(indicator.metric)
    return names.line(seen, indicator.kind)


def _line_at(objective: Objective) -> Decimal:
    return objective.budget if objective.indicator.kind == "availability" else objective.indicator.threshold


def over(series: str, seconds: int) -> str:
    """Sum up what was recorded in a window."""
    return f"sum_over_time({series}[{duration(seconds)}])"


def _filter(wanted: Filter) -> tuple[Match, ...]:
    return tuple(one_of(label_name(key), values) for key, values in wanted)


# Each pair is what is recorded, and from what.
_Pair = tuple[str, str]


def _recorded(objective: Objective, record: str, expression: str) -> Recording:
    return Recording(record, expression, {match.label: match.value for match in of(objective)})


def from_raw(objective: Objective, environment: str) -> Iterator[_Pair]:
    """Say what all events and the bad ones are recorded as, and from which expressions."""
    way = _Way(rate, names.EVENTS, names.BAD_EVENTS)
    yield from _EVENTS[objective.source.kind](objective, environment, way)


def _sli(objective: Objective, environment: str) -> Iterator[_Pair]:
    yield from from_raw(objective, environment)
    events, bad_events = select(names.EVENTS, *of(objective)), select(names.BAD_EVENTS, *of(objective))
    for window in windows(objective):
        summable = (bad_events, events) if window == RAW else (over(bad_events, window), over(events, window))
        yield names.bad_ratio(window), ratio(*summable)
    for window in sorted({window.long for window, _ in objective.burns()}):
        yield names.bad_count(window), f"{INTERVAL} * {over(bad_events, window)}"


def _budget(objective: Objective, environment: str) -> Iterator[_Pair]:
    if not objective.indicator.is_countable:
        events, bad_events = names.EVENTS, names.BAD_EVENTS
    else:
        events, bad_events = names.COUNTED_EVENTS, names.COUNTED_BAD_EVENTS
        exactly = _Way(partial(_counted, service=objective.service.name), events, bad_events)
        yield from _EVENTS[objective.source.kind](objective, environment, exactly)
    selected = [select(name, *of(objective)) for name in (bad_events, events)]
    if objective.period.is_calendar:
        monthly = (names.MONTHLY_BAD_EVENTS, names.MONTHLY_EVENTS)
        yield from zip(monthly, map(_with_month, selected), strict=True)
        sums = [_of_this_month(select(name, *of(objective))) for name in monthly]
    else:
        sums = [over(series, objective.period.seconds) for series in selected]
    yield names.PERIOD_RATIO, ratio(*sums)
    yield names.TARGET, f"vector({number(objective.target)})"
    if objective.indicator.kind != "query":  # no panel is on what only queries know
        yield line(objective.indicator), f"vector({number(_line_at(objective))})"
    yield names.REMAINING, f"1 - {select(names.PERIOD_RATIO, *of(objective))} / {number(objective.budget)}"
    minutes = number(objective.budget_minutes)
    yield names.REMAINING_MINUTES, f"{minutes} * {select(names.REMAINING, *of(objective))}"


def _with_month(series: str) -> str:
    return f"{series} * on () group_left (month) {_THIS_MONTH}"


def _of_this_month(series: str) -> str:
    return f"sum without (month) (sum_over_time({series}[31d]) and on (month) {_THIS_MONTH})"


def _counted(selected: str, service: str) -> str:
    """Count the events of two minutes, each exactly once, those too with which a series begins.

    A rate leaves out the first sample of a series and guesses at the edges, which is good enough for alerts.
    Here, what is there now is compared with what was there two minutes earlier; a series that was not there,
    or has begun again, began at zero: unless nothing came from its process for longer than is looked back,
    for nobody knows what it began with. Both are looked at two minutes late, when what is pushed has arrived.
    Of a series that began again meanwhile neither shows what it had counted before: `increase` guesses that,
    from a few samples at least. Of two it makes twice as much as they say.
    """
    interval = duration(BUDGET_INTERVAL)
    now = f"last_over_time({selected}[5m] offset {interval})"
    then = f"last_over_time({selected}[1h] offset {duration(2 * BUDGET_INTERVAL)})"
    # One minute more: it may have begun again just before the first sample that `increase` sees.
    resets = f"resets({selected}[{duration(BUDGET_INTERVAL + MINUTE)}] offset {interval})"
    often = f"count_over_time({selected}[{interval}] offset {interval}) >= {_OFTEN}"
    again = f"increase({selected}[{interval}] offset {interval}) and {resets} > 0 and {often}"
    returned = select(names.RETURNED_INSTANCES, equal(names.SERVICE, service))
    by_process = f"on ({names.JOB}, {names.INSTANCE})"
    return f"{again} or {now} - {then} >= 0 or {now} unless {by_process} {returned}"


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to see events: by their rate, or one by one.

    Attributes:
        take: From a selection of counters to what they have seen.
        events: What all events are recorded as.
        bad_events: What those of them are recorded as that are bad.
    """

    take: Callable[[str], str]
    events: str
    bad_events: str

    def of_all(self, selected: str) -> str:
        """See the events of a selection in each environment."""
        return summed(self.take(selected), names.ENVIRONMENT)


def _failures(objective: Objective, environment: str, way: _Way) -> Iterator[_Pair]:
    indicator, selected = objective.source, source_selection(objective, environment)
    yield way.events, way.of_all(select(counted(indicator), *selected))
    failed = way.of_all(select(counted(indicator), *selected, *bad_selection(indicator)))
    none_yet = f"or on ({names.ENVIRONMENT}) 0 * {select(way.events, *of(objective))}"
    yield way.bad_events, f"{failed}\n{none_yet}"


def _slowness(objective: Objective, environment: str, way: _Way) -> Iterator[_Pair]:
    indicator, selected = objective.indicator, selection(objective, environment)
    everything = select(counted(indicator), *selected)
    fast = select(f"{names.series(indicator.metric)}_bucket", *selected, bound(indicator.threshold))
    yield way.events, way.of_all(everything)
    # Series by series: where a process has no such bucket yet, nobody knows what is slow.
    slow = summed(f"({way.take(everything)}) - ignoring (le) ({way.take(fast)})", names.ENVIRONMENT)
    # Sums of floating-point numbers may differ by next to nothing, and never may a count be negative.
    yield way.bad_events, f"clamp_min({slow}, 0)"


# What users bring along may be missing or no number where nothing happened; what is recorded never is.


def queries_of(indicator: Indicator) -> Queries:
    """Return the queries of an indicator that is computed from some."""
    assert indicator.queries is not None
    return indicator.queries


def _queried(objective: Objective, environment: str, way: _Way) -> Iterator[_Pair]:
    queries, known = queries_of(objective.indicator), select(way.events, *of(objective))
    if queries.total is None:
        yield from _bad_shares(queries.part, way)
        return
    yield way.events, _seen(queries.total, queries, way)
    part = f"{_seen(queries.part, queries, way)}\nor on ({names.ENVIRONMENT}) 0 * {known}"
    bad = part if queries.kind == "bad" else f"{known} - on ({names.ENVIRONMENT}) ({part})"
    yield way.bad_events, f"clamp_min({bad}, 0)"


def _seen(query: Query, queries: Queries, way: _Way) -> str:
    if queries.are_countable:
        return summed(query.with_counters(way.take), names.ENVIRONMENT)
    text = query.at(RAW)
    a_second = f"{summed(text, names.ENVIRONMENT)}{f' / {RAW}' if query.is_per_window else ''}"
    return f"{a_second} >= 0 or 0 * group by ({names.ENVIRONMENT}) ({text})"


# A minute is an event, and there is one of them a minute.


def _bad_shares(ratio: Query, way: _Way) -> Iterator[_Pair]:
    text = ratio.at(RAW)
    there = f"group by ({names.ENVIRONMENT}) ({text})"
    yield way.events, f"{there} / {INTERVAL}"
    worst = f"clamp(max by ({names.ENVIRONMENT}) ({text}), 0, 1)"
    yield way.bad_events, f"({worst} >= 0 or 0 * {there}) / {INTERVAL}"


def _too_few(objective: Objective, environment: str, way: _Way) -> Iterator[_Pair]:
    flow = way.take(select(counted(objective.indicator), *selection(objective, environment)))
    bad = f"{summed(flow, names.ENVIRONMENT)} < bool {number(objective.indicator.threshold)}"
    yield from _minutes(objective, flow, bad, way, looks_back=RAW)


def _too_high(objective: Objective, environment: str, way: _Way) -> Iterator[_Pair]:
    indicator = objective.indicator
    raw = select(names.series(indicator.metric), *selection(objective, environment))
    whole = "sum" if indicator.is_summed else "max"
    bad = f"{whole} by ({names.ENVIRONMENT}) ({raw}) > bool {number(indicator.threshold)}"
    yield from _minutes(objective, raw, bad, way)


def _minutes(objective: Objective, seen: str, bad: str, way: _Way, looks_back: int = 0) -> Iterator[_Pair]:
    there = f"group by ({names.ENVIRONMENT}) ({seen})"
    yield way.events, in_hours(objective, f"{there} / {INTERVAL}", looks_back)
    yield way.bad_events, in_hours(objective, f"({bad}) / {INTERVAL}", looks_back)


_EVENTS: dict[IndicatorKind, Callable[[Objective, str, _Way], Iterator[_Pair]]] = {
    "availability": _failures,
    "latency": _slowness,
    "throughput": _too_few,
    "level": _too_high,
    "query": _queried,
}


def in_hours(objective: Objective, expression: str, looks_back: int = 0) -> str:
    """Keep what was seen within some hours of the day, and of which all that was looked at was."""
    if objective.indicator.hours is None:
        return expression
    first, last = objective.indicator.hours
    within = f"{expression} and on () (hour() >= {first} < {last})"
    began = f" and on () (hour(vector(time() - {looks_back})) >= {first} < {last})"
    return f"{within}{began}" if looks_back else within
