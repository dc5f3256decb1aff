"""The alerts on a budget that goes too fast: by rates within minutes, and by counts where rates are blind."""

from fractions import Fraction

from tercet.declare.burn_rate import Severity, Window, burn_rate, duration
from tercet.declare.objective import MINIMUM_EVENTS, Catalog, Objective, shown_share
from tercet.generate import explain, names, rules
from tercet.generate.alerts import IN_ENVIRONMENT, Alert
from tercet.generate.promql import number, select


def burn_alert(objective: Objective, window: Window, severity: Severity, catalog: Catalog) -> Alert:
    """Watch how fast the budget of an objective goes, over one window."""
    factor = burn_rate(window, objective.period)
    long, words = duration(window.long), explain.words(objective)
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
        dashboard=explain.dashboard(objective),
        summary=(
            f"{objective.service.name} {objective.name}{IN_ENVIRONMENT}: "
            f"{{{{ $value | humanizePercentage }}}} of {bad}"
        ),
        meaning=_burn_meaning(objective, window, factor, words),
        advice=objective.advice,
        queries=explain.queries(objective, catalog),
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
    elif objective.indicator.counts_minutes:
        # Of its first minute, the share in all minutes that there are says nothing.
        minutes = f"{rules.INTERVAL} * {rules.over(select(names.EVENTS, *recorded), window.long)}"
        expression += f"\nand {minutes} >= {MINIMUM_EVENTS}"
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
    return max(window.short, rules.COUNTED_LATELY)


def _burn_meaning(objective: Objective, window: Window, factor: Fraction, words: explain.Words) -> str:
    long, short = duration(window.long), duration(window.short)
    period = "a calendar month" if objective.period.is_calendar else f"{objective.period.days} days"
    spent = duration_in_words(Fraction(objective.period.seconds) / factor)
    least = f"at least {objective.minimum_events} {words.events}, " if objective.minimum_events else ""
    return (
        f"The promise: {shown_share(objective.target)} of {words.events} {words.good}, over {period}. So "
        f"{shown_share(objective.budget)} may be bad, as much as {number(objective.budget_minutes)} minutes "
        "of total outage.\n\n"
        f"This budget goes {float(factor):.4g} times as fast as it may: more than "
        f"{shown_share(factor * Fraction(objective.budget))} were bad in the last {long}, "
        f"{least}and as many still are in the last {short}. "
        f"At this pace all of it is gone in {spent}. The alert ends when the last {short} are better."
        f"{_counted_meaning(objective, window, words) if objective.indicator.is_countable else ''}"
    )


def _counted_meaning(objective: Objective, window: Window, words: explain.Words) -> str:
    long, lately = duration(window.long), duration(_lately(window))
    few = f"fewer than {_plenty(objective, window)} {words.events} {words.bad} in the last {long}"
    return (
        f"\n\nWhere {few}, and where processes end before a rate can show what they did, "
        f"{words.events} are counted one by one. That is up to six minutes late, and ends when the last "
        f"{lately} are better. What all came at once does not count."
    )


def duration_in_words(seconds: Fraction) -> str:
    """Write a long time roughly, as people say it.

    >>> duration_in_words(Fraction(50 * 3600)), duration_in_words(Fraction(30 * 86400))
    ('50 hours', '30 days')
    """
    hours = seconds / 3600
    return f"{round(hours)} hours" if hours < 72 else f"{round(hours / 24)} days"  # noqa: PLR2004 - three days
