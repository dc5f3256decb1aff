"""One series of a declared metric: what it has measured, in one cell for each account."""

from collections.abc import Callable, MutableSequence
from typing import Final

from tercet.declare.layout import BUCKETS, HIGHEST, LOWEST, TOTAL
from tercet.declare.metric import LONGEST_VALUE, Metric, Values

#: What is remembered of one measurement: value, time in nanoseconds, trace id, span id.
Measured = tuple[float, int, int, int]
#: Where the numbers of one series are kept; shared memory makes them outlive the process.
Numbers = MutableSequence[float]
#: From a metric, the values of one series (None for those beyond its limit) and a count to so many zeros.
Memory = Callable[[Metric, Values | None, int], Numbers]
#: The largest number that the wire can say as a whole one.
_MOST: Final = 2**63 - 1


def private(metric: Metric, values: Values | None, count: int) -> Numbers:
    """Keep numbers in this process alone."""
    return [0] * count


class Cell:
    """What one series has measured for one account.

    Attributes:
        numbers: By the places of `declare.layout`.
        exemplars: The latest measurement of each bucket that leads to a trace; one for a sum.
        start: Nanoseconds since 1970 from when it counts.
    """

    __slots__ = ("exemplars", "numbers", "start")

    def __init__(self, numbers: Numbers, exemplars: int, start: int) -> None:
        self.numbers = numbers
        self.exemplars: list[Measured | None] = [None] * exemplars
        self.start = start

    @property
    def value(self) -> float:
        """The total of a sum or a histogram, the value of a gauge."""
        total = self.numbers[TOTAL]
        return total if -_MOST <= total <= _MOST else float(total)

    @property
    def lowest(self) -> float:
        """The lowest measurement of a histogram."""
        return self.numbers[LOWEST]

    @property
    def highest(self) -> float:
        """The highest measurement of a histogram."""
        return self.numbers[HIGHEST]

    @property
    def buckets(self) -> list[int]:
        """How many measurements each bucket of a histogram has by itself."""
        return [int(count) for count in self.numbers[BUCKETS:]]

    def copy(self) -> "Cell":
        """Copy it, to be read while measurements go on."""
        twin = Cell(list(self.numbers), 0, self.start)
        twin.exemplars = self.exemplars.copy()
        return twin


class Series:
    """One series: its cell in each account.

    Attributes:
        cells: By account.
        is_kept: Whether it is there, at zero, before its first measurement, in forked children too.
    """

    __slots__ = ("cells", "is_kept")

    def __init__(self, cells: dict[int, Cell], is_kept: bool) -> None:
        self.cells = cells
        self.is_kept = is_kept


def cleaned(value: object) -> str | int | None:
    """Make of anything a value that an attribute can have, cut to what is worth keeping."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_MOST <= value <= _MOST:
        return int(value)
    try:
        text = str.__str__(value) if isinstance(value, str) else str(value)
    except Exception:  # The application's own classes can say no.
        text = type(value).__name__
    return text[:LONGEST_VALUE].encode(errors="replace").decode()
