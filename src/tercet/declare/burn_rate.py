"""Burn rates: how fast an error budget goes, as windows that are data and factors that are computed.

An alert watches two windows at once, the long one for how much of the budget is gone and the short one for
whether it still goes; https://sre.google/workbook/alerting-on-slos/ has the reasoning.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

Severity = Literal["SEV-1", "SEV-2", "SEV-3", "SEV-4"]
Notify = Literal["page", "ticket"]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Response:
    """What a severity asks of people.

    Attributes:
        severity: Its name.
        notify: Whether it wakes somebody.
        within: Seconds until somebody works on it.
        words: The same for people to read.
    """

    severity: Severity
    notify: Notify
    within: int
    words: str


#: The founding document's severity levels.
RESPONSES: dict[str, Response] = {
    response.severity: response
    for response in (
        Response("SEV-1", "page", 15 * MINUTE, "15 minutes"),
        Response("SEV-2", "page", 30 * MINUTE, "30 minutes"),
        Response("SEV-3", "ticket", 4 * HOUR, "4 hours"),
        Response("SEV-4", "ticket", 7 * DAY, "1 week"),
    )
}


@dataclass(frozen=True, slots=True)
class Period:
    """The time that an error budget is for.

    Attributes:
        name: As the user writes it.
        days: Its length; of a calendar month, the length that factors are computed with.
        is_calendar: Whether the budget is whole again on the first of each month, in UTC.
    """

    name: str
    days: int
    is_calendar: bool = False

    @property
    def seconds(self) -> int:
        """Its length in seconds."""
        return self.days * DAY


PERIODS = {
    period.name: period for period in (Period("28d", 28), Period("30d", 30), Period("month", 30, True))
}


@dataclass(frozen=True, slots=True)
class Window:
    """A pace at which the budget goes that somebody should hear of.

    Attributes:
        long: Seconds over which `budget_share` goes.
        short: Seconds over which it must still be going, so that the alert ends when the trouble does.
        budget_share: The share of a whole period's budget.
        severity: How urgent it is, unless an objective says otherwise.
    """

    long: int
    short: int
    budget_share: Fraction
    severity: Severity


WINDOWS = (
    Window(1 * HOUR, 5 * MINUTE, Fraction(2, 100), "SEV-1"),
    Window(6 * HOUR, 30 * MINUTE, Fraction(5, 100), "SEV-2"),
    Window(1 * DAY, 2 * HOUR, Fraction(10, 100), "SEV-3"),
    Window(3 * DAY, 6 * HOUR, Fraction(10, 100), "SEV-4"),
)


@lru_cache(maxsize=64)  # of the same few windows and periods for each objective, alert and test
def burn_rate(window: Window, period: Period) -> Fraction:
    """Compute how many times faster than allowed the budget goes when its share goes within the window.

    >>> [float(burn_rate(window, PERIODS["30d"])) for window in WINDOWS]
    [14.4, 6.0, 3.0, 1.0]
    >>> [round(float(burn_rate(window, PERIODS["28d"])), 2) for window in WINDOWS]
    [13.44, 5.6, 2.8, 0.93]
    """
    return window.budget_share * period.seconds / window.long


def duration(seconds: int) -> str:
    """Write a time as Prometheus and people do.

    >>> duration(300), duration(5400), duration(30 * DAY)
    ('5m', '90m', '30d')
    """
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
