"""What may happen to each objective, and what its rules must then say: each alert in time, and no other."""

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction

from tercet.declare.burn_rate import MINUTE, burn_rate
from tercet.declare.metric import EXPORT_ITEMS, EXPORT_WAITING
from tercet.declare.names import label_name
from tercet.declare.objective import Catalog, Filter, Objective, Service
from tercet.generate import names, rules
from tercet.generate.presence import reporting_services
from tercet.generate.promql import Match, equal, select
from tercet.generate.rule_tests import Story
from tercet.generate.samples import find_samples

#: Minutes that a story lasts at least.
_LENGTH = 20
_PER_MINUTE = 600
_ENVIRONMENT = "production"
#: Of a label that no query looks at, by which good and bad events are in series of their own.
_APART = "tercet_test"

_Series = tuple[tuple[str, str], ...]
_Expected = tuple[tuple[str, tuple[str, ...]], ...]


def service_stories(
    service: Service, objectives: Iterable[Objective], catalog: Catalog, *, is_missed: bool
) -> Iterator[Story]:
    """Tell what may happen to a service, which may be missed when it is silent, and to its objectives."""
    if is_missed:
        yield from _silences(service, catalog)
    for objective in objectives:
        if objective.indicator.kind == "query":
            yield from _queried(objective, catalog)
        else:
            yield from (_minutes if objective.indicator.counts_minutes else _events)(objective, catalog)


def _silences(service: Service, catalog: Catalog) -> Iterator[Story]:
    def story(what: str, alerts: list[str], *series: tuple[str, str]) -> Story:
        recorded = equal(names.SERVICE, service.name), equal(names.SLO, names.PRESENCE)
        return Story(f"{service.name}: {what}", series, ((_firing(*recorded), _counts(alerts)),), _LENGTH)

    silent = [names.silence_alert(service.name)]
    here, there = (
        select(names.TARGET_INFO, *rules.of_service(service, catalog.environment or environment))
        for environment in (_ENVIRONMENT, "staging")
    )
    yield story("was never there", silent)
    yield story("there", [], (here, f"1x{_LENGTH}"))
    yield story("no longer there", silent, (here, "1x3"))
    if not catalog.environment:
        yield story("no longer in one environment", silent, (here, "1x3"), (there, f"1x{_LENGTH}"))


def telemetry_stories(catalog: Catalog) -> Iterator[Story]:
    """Tell what may happen to telemetry itself."""
    services = reporting_services(catalog)
    job = equal(names.JOB, services[0].job if services else "any")
    always: _Series = ()
    if services:
        here, there = (
            _reports(services[0], catalog.environment or each) for each in (_ENVIRONMENT, "staging")
        )
        always = ((here, f"1x{_LENGTH}"),)
        silent = _telemetry(names.ALL_SILENT)
        yield Story("no service ever reported", (), silent, _LENGTH)
        yield Story("no service reports any longer", ((here, "1x3 stale"),), silent, _LENGTH)
        yield Story("one service reports", always, _telemetry(), _LENGTH)
        if not catalog.environment:
            gone = (there, "1x3 stale")
            yield Story("no service reports from one environment", (*always, gone), silent, _LENGTH)
    for name, metric, values, alert in (
        ("items are lost from the first one on", EXPORT_ITEMS, f"_x15 3x{_LENGTH}", "TelemetryDropped"),
        ("items are lost", EXPORT_ITEMS, f"0+1x{_LENGTH}", "TelemetryDropped"),
        ("items were lost long ago", EXPORT_ITEMS, f"3x{_LENGTH}", None),
        ("too many wait", EXPORT_WAITING, f"{catalog.waiting_limit + 1}x{_LENGTH}", "TelemetryWaiting"),
    ):
        outcome = [equal(label_name("outcome"), "refused")] if metric is EXPORT_ITEMS else []
        labels = (
            job,
            *rules.of_environment(catalog.environment),
            equal(label_name("signal"), "traces"),
            *outcome,
        )
        series = (*always, (select(names.series(metric), *labels), values))
        yield Story(name, series, _telemetry(*filter(None, [alert])), _LENGTH)
    many = select(
        "orders_total", job, *rules.of_environment(catalog.environment), equal(names.OVERFLOW, "true")
    )
    told = _telemetry("TelemetryOverflow")
    yield Story("a metric overflows", (*always, (many, f"1x{_LENGTH}")), told, _LENGTH)


def _reports(service: Service, environment: str) -> str:
    recorded = equal(names.SERVICE, service.name), equal(names.SLO, names.PRESENCE)
    return select(names.REPORTING_ENVIRONMENTS, *recorded, equal(names.ENVIRONMENT, environment))


def _telemetry(*alerts: str) -> _Expected:
    return ((_firing(equal(names.SLO, names.TELEMETRY)), _counts([names.WATCHDOG, *alerts])),)


def _events(objective: Objective, catalog: Catalog) -> Iterator[Story]:
    """Tell of an objective whose events are good or bad."""
    called, slow = f"{objective.service.name} {objective.name}", objective.source.kind == "latency"
    length = max([_LENGTH, *(symptom.lasting // MINUTE + 10 for symptom in objective.symptoms)])

    def story(what: str, good: str, bad: str, alerts: list[str], *holds: tuple[str, int]) -> Story:
        series = _raw(objective, catalog, good, bad)
        return Story(f"{called}: {what}", series, _expected(objective, alerts, holds), length)

    many = max(_PER_MINUTE, objective.minimum_events)
    nothing, much = f"0x{length}", f"0+{many}x{length}"
    yield story("everything is bad", nothing, much, _all_alerts(objective), (names.PERIOD_RATIO, 1))
    yield Story(
        f"{called}: processes end with their first sample, and all was bad",
        tuple(_of_lives(_raw(objective, catalog, "0 stale", f"{many} stale"))),
        _expected(objective, _burning_above(objective, Fraction(1)), ()),
        _LENGTH,
    )
    yield story("idle", nothing, nothing, [], *_WHOLE)
    # Of what counts failures, the series of the first one does not exist yet.
    yield story("nothing bad yet", much, nothing if slow else "", [], *_WHOLE)
    # So late that the shortest window is still full of it.
    yield story("one bad of three", f"0x{length - 3} 2x2", f"0x{length - 3} 1x2", [])
    share = Fraction(3, 2) * min(_limits(objective).values())
    if share < 1:
        bad = max(6, objective.minimum_events)
        total = round(bad / share)
        flow = f"0+{total - bad}x{length}", f"0+{bad}x{length}"
        yield story("a slow burn", *flow, _alerts_above(objective, Fraction(bad, total)))
    blind = _expected(objective, [names.blind_alert(objective)], ())
    if objective.indicator.counted != "metric":
        info = select(names.TARGET_INFO, *rules.of_service(objective.service, catalog.environment))
        yield Story(f"{called}: nobody counts", ((info, f"1x{_LENGTH}"),), blind, _LENGTH)
        return
    ended = _raw(objective, catalog, f"0+{many}x3 stale", "0x3 stale")
    yield Story(f"{called}: nothing is counted any longer", ended, blind, 2 * _LENGTH)
    if slow:
        count = select(rules.counted(objective.indicator), *_labels(objective, catalog))
        yield Story(f"{called}: no bucket ends at the threshold", ((count, much),), blind, length)


def _queried(objective: Objective, catalog: Catalog) -> Iterator[Story]:
    """Tell of queries what can be told without knowing what they read."""
    blind = _expected(objective, [names.blind_alert(objective)], ())
    yield Story(f"{objective.service.name} {objective.name}: no result", (), blind, _LENGTH)
    if find_samples(rules.queries_of(objective.indicator)) is not None:
        yield from _events(objective, catalog)


def _minutes(objective: Objective, catalog: Catalog) -> Iterator[Story]:
    """Tell of an objective whose minutes are good or bad."""
    called, indicator = f"{objective.service.name} {objective.name}", objective.indicator
    # Whole numbers well on either side of the threshold; a rate takes five minutes to get there.
    high, length = 10 * int(indicator.threshold) + 10, max(_LENGTH, objective.minimum_events + 10)
    if indicator.kind == "throughput":
        good, bad, raw = f"0+{high * MINUTE}", "0", rules.counted(indicator)
    else:
        good, bad, raw = "0", f"{high}", names.series(indicator.metric)
    series = select(raw, *_labels(objective, catalog))
    # promtool's time begins at midnight.
    counts = indicator.hours is None or indicator.hours[0] == 0
    if counts:
        blind = _expected(objective, [names.blind_alert(objective)], ())
        ended = series, f"{good}x3 stale"
        yield Story(f"{called}: nothing is counted any longer", (ended,), blind, 2 * _LENGTH)
    for what, values, alerts, holds in (
        ("every minute is bad", bad, _all_alerts(objective), ()),
        ("every minute is good", good, [], _WHOLE),
    ):
        expected = _expected(objective, alerts, holds) if counts else _expected(objective, [], ())
        when = what if counts else f"{what}, at an hour that does not count"
        yield Story(f"{called}: {when}", ((series, f"{values}x{length}"),), expected, length)


_WHOLE = (
    (names.BAD_EVENTS, 0),
    (names.bad_ratio(rules.RAW), 0),
    (names.PERIOD_RATIO, 0),
    (names.REMAINING, 1),
)


def _expected(objective: Objective, alerts: list[str], holds: Iterable[tuple[str, int]]) -> _Expected:
    recorded = rules.of(objective)
    values = (
        (f"sum({select(name, *recorded)})", (f"{{labels: '{{}}', value: {value}}}",)) for name, value in holds
    )
    return (_firing(*recorded), _counts(alerts)), *values


def _counts(alerts: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{{labels: '{{alertname=\"{name}\"}}', value: 1}}" for name in sorted(alerts))


def _firing(*matches: Match) -> str:
    return f"count by (alertname) ({select('ALERTS', equal('alertstate', 'firing'), *matches)})"


def _limits(objective: Objective) -> dict[str, Fraction]:
    """Say above which share of bad events each burn alert fires."""
    budget = Fraction(objective.budget)
    return {
        names.burn_alert(objective, window): burn_rate(window, objective.period) * budget
        for window, _ in objective.burns()
    }


def _all_alerts(objective: Objective) -> list[str]:
    return _alerts_above(objective, Fraction(1))


def _alerts_above(objective: Objective, share: Fraction) -> list[str]:
    """List the alerts that fire while a share of all events is as bad as can be."""
    slow = objective.indicator.kind == "latency"
    suffering = [
        names.symptom_alert(objective, position)
        for position, symptom in enumerate(objective.symptoms)
        if share > Fraction(objective.budget if slow else symptom.above)
    ]
    return _burning_above(objective, share) + suffering


def _burning_above(objective: Objective, share: Fraction) -> list[str]:
    return [name for name, limit in _limits(objective).items() if share > limit]


# The raw series: what Prometheus would have of the service.


def _labels(objective: Objective, catalog: Catalog, chosen: Filter | None = None) -> list[Match]:
    values = {key: allowed[0] for key, allowed in (chosen or objective.indicator.where)}
    return [
        equal(names.JOB, objective.service.job),
        equal(names.ENVIRONMENT, catalog.environment or _ENVIRONMENT),
        *(equal(label_name(key), value) for key, value in values.items() if value),
    ]


def _raw(objective: Objective, catalog: Catalog, good: str, bad: str) -> _Series:
    """Make what events leave: buckets, or counters; and both where a symptom looks at what is counted."""
    if objective.source.kind == "query":
        return _of_queries(objective, catalog, good, bad)
    if objective.source.kind == "latency":
        return _histogram(objective, catalog, good, bad)
    looked_at = _histogram(objective, catalog, good, bad or "0") if objective.boundaries else ()
    return *_counters(objective, catalog, good, bad), *looked_at


def _of_lives(series: _Series) -> Iterator[tuple[str, str]]:
    """Make it the series of processes that come one after the other, each with one sample."""
    for minute in range(_LENGTH // 2, _LENGTH - 2, 2):
        for selected, values in series:
            yield f'{selected.removesuffix("}")},tercet_life="{minute}"}}', f"_x{minute} {values}"


def _counters(objective: Objective, catalog: Catalog, good: str, bad: str) -> _Series:
    indicator = objective.source
    where = dict(indicator.where)
    wrong = dict(indicator.bad) or {"error.type": ("500",)}
    key = next(iter(wrong))
    fine = next((value for value in where.get(key, ("fine",)) if value not in wrong[key]), "fine")
    of_good = where | ({key: (fine,)} if indicator.bad else {})
    counted = rules.counted(indicator)
    series = (
        (select(counted, *_labels(objective, catalog, tuple(of_good.items()))), good),
        (select(counted, *_labels(objective, catalog, tuple((where | wrong).items()))), bad),
    )
    return tuple(pair for pair in series if pair[1])


def _histogram(objective: Objective, catalog: Catalog, good: str, bad: str) -> _Series:
    """Make buckets of which the bad events are in the last one alone, and the good ones in each."""
    indicator = objective.indicator
    labels, series = _labels(objective, catalog), names.series(indicator.metric)
    bounds = sorted({*map(float, objective.boundaries), indicator.metric.buckets[-1]})
    within = [f"{bound:g}" for bound in bounds]
    fast, slow = (
        [(select(f"{series}_count", *labels, instance), values)]
        + [(select(f"{series}_bucket", *labels, instance, equal("le", bound)), inside) for bound in within]
        + [(select(f"{series}_bucket", *labels, instance, equal("le", "+Inf")), values)]
        for instance, values, inside in (
            (equal("instance", "fast"), good, good),
            (equal("instance", "slow"), bad, _at_zero(bad)),
        )
    )
    return *fast, *slow


def _at_zero(values: str) -> str:
    """Write samples at the same times as others, all of them 0.

    >>> _at_zero("0+600x3 stale"), _at_zero("0x17 1x2"), _at_zero("600 stale")
    ('0x3 stale', '0x17 0x2', '0 stale')
    """
    return re.sub(r"\b[0-9+]+(?=x|\b)", "0", values)


def _of_queries(objective: Objective, catalog: Catalog, good: str, bad: str) -> _Series:
    samples = find_samples(rules.queries_of(objective.indicator))
    assert samples is not None
    return tuple(
        (
            select("", *(equal(label, value) for label, value in ({_APART: which} | dict(labels)).items())),
            values,
        )
        for which, series, values in (("good", samples.good, good), ("bad", samples.bad, bad))
        for labels in series
        if values
    )
