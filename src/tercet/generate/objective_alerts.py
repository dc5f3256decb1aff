"""What an objective is watched by: its budget at each pace, its symptoms, and whether it can be seen."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from tercet.declare.burn_rate import MINUTE, Severity, Window, burn_rate, duration
from tercet.declare.metric import HTTP_SERVER_DURATION, SLO_EVENTS
from tercet.declare.names import label_name
from tercet.declare.objective import Advice, Catalog, Indicator, Objective, Symptom, shown_share
from tercet.generate import names, rules
from tercet.generate.alerts import IN_ENVIRONMENT, Alert
from tercet.generate.promql import bound, number, rate, select, summed

#: Seconds that counts look back at least: Kubernetes waits up to five minutes to start again what crashes.
_COUNTED_LATELY = 10 * MINUTE


def objective_alerts(objective: Objective, catalog: Catalog) -> Iterator[Alert]:
    """Watch an objective: its budget at each pace, its symptoms, and whether it can be measured at all."""
    for window, severity in objective.burns():
        yield _burn(objective, window, severity, catalog)
    for position, symptom in enumerate(objective.symptoms):
        make = _quantile if objective.indicator.kind == "latency" else _failing
        yield make(objective, position, symptom, catalog)
    if objective.indicator.counted != "metric":
        yield _uncounted(objective, catalog)
    elif objective.indicator.kind == "latency":
        yield _blind(objective, catalog)
    if objective.indicator.kind == "query":
        yield _unanswered(objective)


def _burn(objective: Objective, window: Window, severity: Severity, catalog: Catalog) -> Alert:
    factor = burn_rate(window, objective.period)
    long, words = duration(window.long), _words(objective)
    threshold = shown_share(factor * Fraction(objective.budget))
    bad = f"{words.events} {words.bad} in the last {long} (threshold: {threshold})"
    limit = f"{number(factor)} * {number(objective.budget)}"
    expression = _burning(objective, window, limit)
    if objective.indicator.is_countable:
        expression += f"\nor {_burning_unseen(objective, window, limit)}"
    return Alert(
        name=names.burn_alert(objective, window),
        expression=expression,
        severity=severity,
        service=objective.service.name,
        team=objective.service.team,
        slo=objective.name,
        dashboard=_dashboard(objective),
        summary=(
            f"{objective.service.name} {objective.name}{IN_ENVIRONMENT}: "
            f"{{{{ $value | humanizePercentage }}}} of {bad}"
        ),
        meaning=_burn_meaning(objective, window, factor, words),
        advice=objective.advice,
        queries=_queries(objective, catalog),
        depends_on=objective.service.depends_on,
    )


def _burning(objective: Objective, window: Window, limit: str) -> str:
    """Find where more is bad than may be, for long and still, by rates: within minutes."""
    recorded = rules.of(objective)
    expression = (
        f"{select(names.bad_ratio(window.long), *recorded)} > {limit}\n"
        f"and {select(names.bad_ratio(window.short), *recorded)} > {limit}"
    )
    if objective.minimum_events:
        many = select(names.bad_count(window.long), *recorded)
        expression += f"\nand {many} >= {objective.minimum_events}"
    return expression


def _burning_unseen(objective: Objective, window: Window, limit: str) -> str:
    """Find the same by what was counted, some minutes later, where rates see little of it, or little is bad.

    They see nothing of a process that ends with its first sample; and where a few requests fail in an hour,
    they say every few minutes that it is over. What all came at once is no burn: so does everything that a
    process ever counted, when Prometheus is new to it.
    """
    recorded = rules.of(objective)
    bad, events = (select(name, *recorded) for name in (names.COUNTED_BAD_EVENTS, names.COUNTED_EVENTS))
    long, lately, many = window.long, _lately(window), rules.over(bad, window.long)
    by_rates = rules.over(select(names.BAD_EVENTS, *recorded), lately + rules.RAW)
    return (
        f"{many}\n  / {rules.over(events, long)} > {limit}\n"
        f"and {rules.over(bad, lately)}\n  / {rules.over(events, lately)} > {limit}\n"
        f"and {many} >= {objective.minimum_events}\n"
        # What comes within a minute may be recorded in two halves.
        f"and {many}\n  > 3 * max_over_time({bad}[{duration(long)}])\n"
        # Rates guess at the edges; of what they see, they see about all, and of short lives, next to nothing.
        f"unless (\n  {rules.INTERVAL} * {by_rates}\n    >= {rules.over(bad, lately)} / 2\n"
        f"  and {many} >= {_plenty(objective, window)}\n)"
    )


def _plenty(objective: Objective, window: Window) -> int:
    """Count what must be bad in a long window to be enough for an alert in each short one."""
    return objective.minimum_events * (window.long // window.short)


def _lately(window: Window) -> int:
    return max(window.short, _COUNTED_LATELY)


def _burn_meaning(objective: Objective, window: Window, factor: Fraction, words: "_Words") -> str:
    long, short = duration(window.long), duration(window.short)
    period = "a calendar month" if objective.period.is_calendar else f"{objective.period.days} days"
    spent = duration_in_words(Fraction(objective.period.seconds) / factor)
    least = f"at least {objective.minimum_events} {words.events}, " if objective.minimum_events else ""
    return (
        f"The promise: {shown_share(objective.target)} of {words.events} {words.good}, over {period}. So "
        f"{shown_share(objective.budget)} may be bad, as much as {number(objective.budget_minutes)} minutes "
        "of total outage.\n\n"
        f"This budget goes {number(factor)} times as fast as it may: more than "
        f"{shown_share(factor * Fraction(objective.budget))} were bad in the last {long}, "
        f"{least}and as many still are in the last {short}. "
        f"At this pace all of it is gone in {spent}. The alert ends when the last {short} are better."
        f"{_counted_meaning(objective, window, words) if objective.indicator.is_countable else ''}"
    )


def _counted_meaning(objective: Objective, window: Window, words: "_Words") -> str:
    long, lately = duration(window.long), duration(_lately(window))
    few = f"fewer than {_plenty(objective, window)} {words.events} {words.bad} in the last {long}"
    return (
        f"\n\nWhere {few}, and where processes end before a rate can show what they did, "
        f"{words.events} are counted one by one. That is up to six minutes late, and ends when the last "
        f"{lately} are better. What all came at once does not count."
    )


def _quantile(objective: Objective, position: int, symptom: Symptom, catalog: Catalog) -> Alert:
    indicator, selected = objective.indicator, rules.selection(objective, catalog.environment)
    bucket = f"{names.series(indicator.metric)}_bucket"
    buckets = summed(rate(select(bucket, *selected)), names.ENVIRONMENT, "le")
    total = summed(rate(select(rules.counted(indicator), *selected)), names.ENVIRONMENT)
    within = summed(rate(select(bucket, *selected, bound(symptom.above))), names.ENVIRONMENT)
    expression = (
        f"histogram_quantile({number(objective.target)}, {buckets}) > {number(symptom.above)}\n"
        f"and {total} - {within} >= {_a_few(objective)}"
    )
    in_seconds = indicator.metric.unit == "s"
    what = f"p{number(objective.target * 100)} of {'latency' if in_seconds else indicator.metric.name}"
    value = f"{{{{ $value | {'humanizeDuration' if in_seconds else 'humanize'} }}}}"
    limit = f"{number(symptom.above)}{'s' if in_seconds else ''}"
    told = f"{what} is {value}", f"{what} was above {limit}", limit
    return _symptom(objective, position, symptom, catalog, expression=expression, told=told)


def _failing(objective: Objective, position: int, symptom: Symptom, catalog: Catalog) -> Alert:
    recorded, events = rules.of(objective), _words(objective).events
    expression = (
        f"{select(names.bad_ratio(rules.RAW), *recorded)} > {number(symptom.above)}\n"
        f"and {select(names.BAD_EVENTS, *recorded)} >= {_a_few(objective)}"
    )
    limit = shown_share(symptom.above)
    told = (
        f"{{{{ $value | humanizePercentage }}}} of {events} fail",
        f"more than {limit} of {events} failed",
        limit,
    )
    return _symptom(objective, position, symptom, catalog, expression=expression, told=told)


def _a_few(objective: Objective) -> str:
    """Write the rate of bad events below which nobody is told: a share of next to nothing says nothing."""
    return f"{objective.minimum_events} / {rules.RAW}"


def _symptom(
    objective: Objective,
    position: int,
    symptom: Symptom,
    catalog: Catalog,
    *,
    expression: str,
    told: tuple[str, str, str],
) -> Alert:
    now, meaning, limit = told
    few = f"; at least {objective.minimum_events} {_words(objective).events} were that bad"
    least = few if objective.minimum_events else ""
    return Alert(
        name=names.symptom_alert(objective, position),
        expression=expression,
        lasting=symptom.lasting,
        severity=symptom.severity,
        service=objective.service.name,
        team=objective.service.team,
        slo=objective.name,
        dashboard=_dashboard(objective),
        summary=f"{objective.service.name}{IN_ENVIRONMENT}: {now} (threshold: {limit})",
        meaning=(
            f"In the last {duration(rules.RAW)}, {meaning}, for {duration(symptom.lasting)} on end{least}. "
            "It tells what users feel right now. How much of the budget goes is for the Burn alerts to say."
        ),
        advice=objective.advice,
        queries=_queries(objective, catalog),
        depends_on=objective.service.depends_on,
    )


def _blind(objective: Objective, catalog: Catalog) -> Alert:
    events, bad = (select(name, *rules.of(objective)) for name in (names.EVENTS, names.BAD_EVENTS))
    indicator = objective.indicator
    boundary = f"{number(indicator.threshold)} {indicator.metric.unit}"
    buckets = select(
        f"{names.series(indicator.metric)}_bucket", *rules.selection(objective, catalog.environment)
    )
    return _cannot_see(
        objective,
        f"{events} unless {bad}",
        f"{IN_ENVIRONMENT}: no bucket ends at {boundary}",
        f"Events are counted, but no bucket of {indicator.metric.name} ends at {boundary}.",
        causes=("The service runs with other buckets than the document was generated for.",),
        actions=(
            f"Add {number(indicator.threshold)} to the buckets of the service (TERCET_DURATION_BUCKETS).",
            "Or change the objective to a boundary that exists, and generate again.",
        ),
        queries=(("Which buckets are there?", f"count by (le) ({buckets})"),),
    )


def _uncounted(objective: Objective, catalog: Catalog) -> Alert:
    running = select(names.TARGET_INFO, *rules.of_service(objective.service, catalog.environment))
    counted = select(names.series(SLO_EVENTS), *rules.of_service(objective.service, catalog.environment))
    what = f"{SLO_EVENTS.name} of {objective.name}"
    return _cannot_see(
        objective,
        # Not by environment: what a service says of itself has one, also where its metrics have none.
        f"group({running}) unless on () group({_known(objective)})",
        f": the service runs, and counts no {what}",
        f"The service counts {what} itself, from 0 on, as soon as it runs. There is none.",
        causes=(
            "The service runs code that does not declare the objective, older or newer than these rules.",
            "The module that declares it is not imported by the service.",
        ),
        actions=(
            "Compare the version that runs with the one that the rules were generated from.",
            "Deploy the code that declares it, or generate the rules again without it.",
        ),
        queries=(("What is counted?", f"sum by ({names.SLO}) ({counted})"),),
    )


def _unanswered(objective: Objective) -> Alert:
    events, bad = (select(name, *rules.of(objective)) for name in (names.EVENTS, names.BAD_EVENTS))
    return _cannot_see(
        objective,
        f"absent({_known(objective)})\nor {bad} > 0 unless {events}",
        f"{IN_ENVIRONMENT}: its queries have no result",
        "The query of all events has no result, or none in an environment in which the other query has one.",
        causes=(
            "What the queries read is no longer there, or has another name or other labels.",
            "Nothing happened, and the query has no result then instead of 0.",
        ),
        actions=(
            "Try the queries below in Prometheus, and take out one matcher after the other.",
            "Correct the queries of the objective, and generate again.",
        ),
        queries=_asked(objective),
        depends_on=objective.service.depends_on,
    )


def _known(objective: Objective) -> str:
    """Find what is known of its events in any way: of short lives, counts know and rates do not."""
    ways = (names.EVENTS, names.COUNTED_EVENTS) if objective.indicator.is_countable else (names.EVENTS,)
    return " or ".join(select(name, *rules.of(objective)) for name in ways)


def _cannot_see(
    objective: Objective,
    expression: str,
    what: str,
    meaning: str,
    *,
    causes: tuple[str, ...],
    actions: tuple[str, ...],
    queries: tuple[tuple[str, str], ...],
    depends_on: tuple[str, ...] = (),
) -> Alert:
    """Tell that nobody would be told: an objective whose events cannot be seen."""
    called = f"{objective.service.name} {objective.name}"
    unseen = f"Nobody is told when {objective.service.name} breaks its promise on {objective.name}."
    return Alert(
        name=names.blind_alert(objective),
        expression=expression,
        lasting=15 * MINUTE,
        severity="SEV-3",
        service=objective.service.name,
        team=objective.service.team,
        slo=objective.name,
        dashboard=_dashboard(objective),
        summary=f"{called}{what}",
        meaning=meaning,
        advice=Advice(unseen, causes, actions),
        queries=queries,
        depends_on=depends_on,
    )


def _dashboard(objective: Objective) -> str:
    """Name the dashboard that shows what it is about: only its own one shows what only queries know."""
    return names.SLO_DASHBOARD if objective.indicator.kind == "query" else names.DASHBOARD


def _asked(objective: Objective) -> tuple[tuple[str, str], ...]:
    queries = rules.queries_of(objective.indicator)
    part = f"What is {'good' if queries.kind == 'good' else 'bad'}?", queries.part.at(rules.RAW).strip()
    if queries.total is None:
        return (part,)
    return part, ("How much traffic is there?", queries.total.at(rules.RAW).strip())


def _queries(objective: Objective, catalog: Catalog) -> tuple[tuple[str, str], ...]:
    indicator, selected = objective.indicator, rules.selection(objective, catalog.environment)
    budget = tuple(_budget_queries(objective))
    if indicator.kind == "query":
        return *_asked(objective), *budget
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
        bad = rules.over(select(names.COUNTED_BAD_EVENTS, *recorded), _COUNTED_LATELY)
        yield f"How many were bad in the last {duration(_COUNTED_LATELY)}, also of processes that ended?", bad
    yield "How much of the budget is left?", select(names.REMAINING, *recorded)


def _levels(indicator: Indicator, each: str) -> Iterator[tuple[str, str]]:
    """Ask for what is compared with the threshold, and for what it consists of."""
    if indicator.is_summed:
        yield "How high is it in all?", summed(each, names.ENVIRONMENT)
        yield "What does it consist of?", each
    else:
        yield "Where is it too high?", each


@dataclass(frozen=True, slots=True)
class _Words:
    """How people speak of an objective."""

    events: str
    good: str
    bad: str


def _words(objective: Objective) -> _Words:
    indicator = objective.indicator
    threshold = number(indicator.threshold)
    are_requests = indicator.queries is None and indicator.metric.name == HTTP_SERVER_DURATION.name
    events = "requests" if are_requests else "events"
    time = f"{threshold} {indicator.metric.unit}"
    level = f"{'the sum of ' if indicator.is_summed else ''}{indicator.metric.name}"
    return {
        "availability": _Words(events, "succeed", "failed"),
        "latency": _Words(events, f"take {time} at most", f"took longer than {time}"),
        "throughput": _Words("minutes", f"have {threshold}/s or more", f"had fewer than {threshold}/s"),
        "level": _Words(
            "minutes",
            f"have {level} at {threshold} at most",
            f"had {level} above {threshold}",
        ),
        "query": _Words("minutes" if indicator.counts_minutes else events, "are good", "were bad"),
    }[indicator.kind]


def duration_in_words(seconds: Fraction) -> str:
    """Write a long time roughly, as people say it.

    >>> duration_in_words(Fraction(50 * 3600)), duration_in_words(Fraction(30 * 86400))
    ('50 hours', '30 days')
    """
    hours = seconds / 3600
    return f"{round(hours)} hours" if hours < 72 else f"{round(hours / 24)} days"  # noqa: PLR2004 - three days
