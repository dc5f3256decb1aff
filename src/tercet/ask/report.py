"""Budgets for people, who may have just been woken, and for scripts."""

from collections.abc import Iterator, Sequence
from typing import Any

from tercet.ask.budgets import Budget, Health
from tercet.declare.objective import shown_share

_COLOURS: dict[Health, int] = {"GREEN": 32, "YELLOW": 33, "RED": 31, "NO DATA": 35}
_TITLES = (
    *(
        "",
        "SERVICE",
        "OBJECTIVE",
        "ENVIRONMENT",
        "BUDGET LEFT",
        "MINUTES",
        "BURNS",
        "BAD",
        "TARGET",
        "SLA",
    ),
    *("PERIOD", ""),
)
#: Columns of numbers, which read best from their right edge.
_NUMBERS = range(4, 10)
_UNKNOWN = "-"


def render_budgets(budgets: Sequence[Budget], *, in_colour: bool = False) -> str:
    """Write budgets as a table."""
    rows = [_TITLES, *(tuple(_cells(budget)) for budget in budgets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    if in_colour:
        for number, budget in enumerate(budgets, 1):
            word = budget.health
            lines[number] = f"\x1b[1;{_COLOURS[word]}m{word}\x1b[0m{lines[number][len(word) :]}"
    return "\n".join(lines)


def _cells(budget: Budget) -> Iterator[str]:
    objective = budget.objective
    yield budget.health
    yield from (objective.service.name, objective.name, budget.environment or _UNKNOWN)
    yield _UNKNOWN if budget.remaining is None else f"{100 * budget.remaining:.1f} %"
    yield _UNKNOWN if budget.minutes is None else f"{budget.minutes:.1f}"
    yield _UNKNOWN if budget.burn_rate is None else f"{budget.burn_rate:.1f}x"
    yield _UNKNOWN if budget.error_ratio is None else f"{100 * budget.error_ratio:.4g} %"
    yield shown_share(objective.target)
    yield _UNKNOWN if objective.agreement is None else shown_share(objective.agreement)
    yield objective.period.name
    firing = ", ".join(f"{each.alert} ({each.severity})" for each in budget.firing)
    yield "; ".join(filter(None, (budget.unknown, firing)))


def describe(budget: Budget) -> dict[str, Any]:
    """Make of a budget what JSON can hold; shares are from 0 to 1, and null is what nobody knows."""
    objective = budget.objective
    return {
        "service": objective.service.name,
        "objective": objective.name,
        "environment": budget.environment or None,
        "health": budget.health,
        "unknown": budget.unknown or None,
        "budget_remaining": budget.remaining,
        "budget_remaining_minutes": budget.minutes,
        "error_ratio": budget.error_ratio,
        "burn_rate": budget.burn_rate,
        "target": float(objective.target),
        "agreement": None if objective.agreement is None else float(objective.agreement),
        "period": objective.period.name,
        "firing": [{"alert": each.alert, "severity": each.severity} for each in budget.firing],
    }
