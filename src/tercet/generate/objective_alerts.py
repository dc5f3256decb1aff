"""What an objective is watched by: its budget at each pace, its symptoms, and whether it can be seen."""

from collections.abc import Iterator

from tercet.declare.burn_rate import MINUTE, duration
from tercet.declare.metric import HTTP_SERVER_DURATION, SLO_EVENTS
from tercet.declare.names import label_name
from tercet.declare.objective import Advice, Catalog, Objective, Symptom, shown_share
from tercet.generate import explain, names, rules
from tercet.generate.alerts import IN_ENVIRONMENT, Alert
from tercet.generate.burn_alerts import burn_alert
from tercet.generate.promql import bound, number, rate, select, summed


def objective_alerts(objective: Objective, catalog: Catalog) -> Iterator[Alert]:
    """Watch an objective: its budget at each pace, its symptoms, and whether it can be measured at all."""
    for window, severity in objective.burns():
        yield burn_alert(objective, window, severity, catalog)
    for position, symptom in enumerate(objective.symptoms):
        make = _quantile if objective.indicator.kind == "latency" else _failing
        yield make(objective, position, symptom, catalog)
    if objective.indicator.counted != "metric":
        yield _uncounted(objective, catalog)
    elif objective.indicator.kind == "query":
        yield _unanswered(objective)
    elif objective.indicator.kind == "latency":
        yield _blind_to_what_is_slow(objective, catalog)
    else:
        yield _blind(objective)


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
    unit = indicator.metric.unit
    in_seconds = unit == "s"
    what = f"p{number(objective.target * 100)} of {'latency' if in_seconds else indicator.metric.name}"
    shown = "$value | humanizeDuration" if in_seconds else "$value | humanize"
    value = f"{{{{ {shown} }}}}{'' if in_seconds else explain.after_number(unit)}"
    limit = f"{number(symptom.above)}s" if in_seconds else explain.amount(symptom.above, unit)
    told = f"{what} is {value}", f"{what} was above {limit}", limit
    return _symptom(objective, position, symptom, catalog, expression=expression, told=told)


def _failing(objective: Objective, position: int, symptom: Symptom, catalog: Catalog) -> Alert:
    recorded, events = rules.of(objective), explain.words(objective).events
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
    few = f"; at least {objective.minimum_events} {explain.words(objective).events} were that bad"
    least = few if objective.minimum_events else ""
    return Alert(
        name=names.symptom_alert(objective, position),
        expression=expression,
        lasting=symptom.lasting,
        severity=symptom.severity,
        service=objective.service.name,
        team=objective.service.team,
        slo=objective.name,
        dashboard=explain.dashboard(objective),
        summary=f"{objective.service.name}{IN_ENVIRONMENT}: {now} (threshold: {limit})",
        meaning=(
            f"In the last {duration(rules.RAW)}, {meaning}, for {duration(symptom.lasting)} on end{least}. "
            "It tells what users feel right now. How much of the budget goes is for the Burn alerts to say."
        ),
        advice=objective.advice,
        queries=explain.queries(objective, catalog),
        depends_on=objective.service.depends_on,
    )


#: What may be behind it when nothing is counted any longer, and what to do about it.
_RENAMED = "The name of the metric, a route or another label is no longer what the objective asks for."
_UNUSED = "The processes are new, and nothing has happened in them yet."
_COMPARE = "Compare what is there now with what the objective asks for, and generate again."
_REACHED = "See whether work reaches the service at all."


def _blind(objective: Objective) -> Alert:
    name = objective.indicator.metric.name
    return _cannot_see(
        objective,
        _ended(objective),
        f"{IN_ENVIRONMENT}: no {name} is counted any longer",
        f"Of {name}, what counts here was there within a day, and is not any more.",
        causes=(_RENAMED, _UNUSED),
        actions=(_COMPARE, _REACHED),
        queries=(_there_now(objective),),
    )


def _blind_to_what_is_slow(objective: Objective, catalog: Catalog) -> Alert:
    metric, selected = objective.indicator.metric, rules.selection(objective, catalog.environment)
    bounds = " or ".join(dict.fromkeys(map(number, objective.boundaries)))
    is_of_server = metric.name == HTTP_SERVER_DURATION.name
    setting = "TERCET_DURATION_BUCKETS" if is_of_server else "`buckets` where it is declared"
    buckets = select(f"{names.series(metric)}_bucket", *selected)
    return _cannot_see(
        objective,
        f"{_ended(objective)}\nor on ({names.ENVIRONMENT}) {_without_bucket(objective, catalog)}",
        f"{IN_ENVIRONMENT}: {metric.name} is not counted any longer, or has no bucket that ends at {bounds}",
        f"What {metric.name} counts here was there within a day, and is not any more; or it comes from "
        f"processes in which no bucket ends at {bounds}, so that nobody knows what is slow in them.",
        causes=(
            _RENAMED,
            "Some processes run with other buckets than these rules were generated for, older or newer ones.",
            _UNUSED,
        ),
        actions=(
            _COMPARE,
            f"Add {bounds} to the buckets of the service ({setting}), or deploy the code that has them.",
            _REACHED,
        ),
        queries=(_there_now(objective), ("Which buckets are there?", f"count by (le) ({buckets})")),
    )


def _there_now(objective: Objective) -> tuple[str, str]:
    indicator = objective.indicator
    there = names.series(indicator.metric) if indicator.kind == "level" else rules.counted(indicator)
    labels = ", ".join((names.JOB, *map(label_name, indicator.metric.attributes)))
    return "What is there now, of whom?", f"count by ({labels}) ({there})"


def _ended(objective: Objective) -> str:
    """Find where it was counted within a day, about once in two minutes or more, and is no longer.

    What was idle at last is left alone: its processes may have been replaced in the night, and wait for work.
    """
    events = select(names.EVENTS, *rules.of(objective))
    often = f"{2 * MINUTE} * avg_over_time({events}[1d]) >= 1"
    at_last = f"last_over_time({events}[1d]) > 0"
    return rules.in_hours(objective, f"{often}\nand {at_last}\nunless ({_known(objective)})")


def _without_bucket(objective: Objective, catalog: Catalog) -> str:
    """Find what is measured without a bucket that somebody asks for."""
    selected = rules.selection(objective, catalog.environment)
    everything = select(rules.counted(objective.indicator), *selected)
    bucket = f"{names.series(objective.indicator.metric)}_bucket"
    lacking = "\n  or ".join(
        f"{everything} unless ignoring (le) {select(bucket, *selected, bound(boundary))}"
        for boundary in dict.fromkeys(objective.boundaries)
    )
    return f"group by ({names.ENVIRONMENT}) (\n  {lacking}\n)"


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
        # What is absent has no environment, and is no news where another alert tells of one.
        f"{_ended(objective)}\nor {bad} > 0 unless {events}\nor on () absent({_known(objective)})",
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
        queries=explain.asked(objective),
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
        dashboard=explain.dashboard(objective),
        summary=f"{called}{what}",
        meaning=meaning,
        advice=Advice(unseen, causes, actions),
        queries=queries,
        depends_on=depends_on,
    )
