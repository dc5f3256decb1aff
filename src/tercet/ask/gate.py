"""Whether enough of each budget is left to deploy."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tercet.ask.budgets import Budget
from tercet.declare.objective import shown_share
from tercet.errors import SettingsError

_BAR = re.compile(r"([0-9]{0,3}\.?[0-9]{1,9})\s*(%?)").fullmatch


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a bar makes of budgets.

    Attributes:
        bar: The share that must be left.
        below: Those with less.
        unknown: Those of which nobody can tell, and that were not let through.
        let_through: Those without any data that may pass.
        enough: The others.
    """

    bar: Decimal
    below: tuple[Budget, ...]
    unknown: tuple[Budget, ...]
    let_through: tuple[Budget, ...]
    enough: tuple[Budget, ...]

    @property
    def passed(self) -> bool:
        """Whether to go on."""
        return not self.below and not self.unknown


def parse_bar(text: str) -> Decimal:
    """Read what must be left.

    >>> parse_bar("10%"), parse_bar("0.25")
    (Decimal('0.1'), Decimal('0.25'))

    Raises:
        SettingsError: It is no share of a budget.
    """
    match = _BAR(text.strip())
    bar = Decimal(match[1]) / (100 if match[2] else 1) if match else None
    if bar is None or bar > 1:
        forgot_sign = match and not match[2] and bar is not None and bar <= 100  # noqa: PLR2004 - a percentage
        mend = f"{text.strip()}%" if forgot_sign else "10%"
        raise SettingsError(
            f"--min-budget must be a percentage, or a share from 0 to 1, got {text!r}. Write {mend}."
        )
    return bar


def judge(budgets: Sequence[Budget], bar: Decimal, *, allow_no_data: bool = False) -> Verdict:
    """Hold budgets against a bar.

    Args:
        budgets: What is left.
        bar: The share that must be.
        allow_no_data: Whether an objective without data passes, as one does that is new. One that Prometheus
            watches with another target never does.
    """
    without_data = [each for each in budgets if each.remaining is None and not each.is_outdated]
    unknown = [each for each in budgets if each.unknown and each not in without_data]
    known = [each for each in budgets if not each.unknown]
    return Verdict(
        bar,
        below=tuple(each for each in known if not each.has(float(bar))),
        unknown=tuple(unknown if allow_no_data else [*unknown, *without_data]),
        let_through=tuple(without_data if allow_no_data else ()),
        enough=tuple(each for each in known if each.has(float(bar))),
    )


def explain(verdict: Verdict) -> str:
    """Say what was decided, and why."""
    return "\n".join(_reasons(verdict))


def _reasons(verdict: Verdict) -> Iterator[str]:
    bar = shown_share(verdict.bar)
    for budget in verdict.below:
        # Down, or what is short of the bar by a hair would be called the bar.
        left = f"{math.floor(1e4 * (budget.remaining or 0.0) + 1e-6) / 100:g} %"
        yield f"REFUSED: {_name(budget)} has {left} of its budget left, below {bar}."
    for budget in verdict.unknown:
        mend = "" if budget.is_outdated else " Let it pass with --allow-no-data."
        yield f"REFUSED: {_name(budget)}: {budget.unknown}.{mend}"
    for budget in verdict.let_through:
        yield f"LET THROUGH: {_name(budget)}: {budget.unknown}."
    if verdict.passed:
        yield f"PASSED: {bar} or more is left of {len(verdict.enough)} of {_count(verdict)} budgets."


def _count(verdict: Verdict) -> int:
    return len(verdict.enough) + len(verdict.let_through)


def _name(budget: Budget) -> str:
    where = f" in {budget.environment}" if budget.environment else ""
    return f"{budget.objective.service.name} {budget.objective.name}{where}"
