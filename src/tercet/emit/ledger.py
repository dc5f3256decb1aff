"""The ledger of a declared metric: its series, found by a tuple of attribute values and counted in place.

The SDK makes an object, cleans the attributes and hashes them, sorted, for each measurement; this is a tenth
of its cost. Readers see no difference: `export.metered` turns what is collected here into their data points.
"""

import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, MutableSequence
from time import time, time_ns
from typing import Final

from opentelemetry.trace import SpanContext

from tercet.declare.layout import BUCKETS, HIGHEST, LOWEST, SET_AT, TOTAL
from tercet.declare.metric import Metric, Values

#: What is remembered of one measurement: value, time in nanoseconds, trace id, span id.
Measured = tuple[float, int, int, int]
#: Where the numbers of one series are kept; shared memory makes them outlive the process.
Numbers = MutableSequence[float]
#: From a metric, the values of one series (None for those beyond its limit) and a count to so many zeros.
Memory = Callable[[Metric, Values | None, int], Numbers]
#: The account that counts from the start of the process; others count from their last collection.
CUMULATIVE = 0
OVERFLOW: dict[str, str | int | bool] = {"otel.metric.overflow": True}
MOST_SERIES = 2_000
#: Where the trace flags stand in the ids of a span, which are a tuple.
_FLAGS: Final = 3


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
        return self.numbers[TOTAL]

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


class Ledger:
    """The series of one declared metric.

    Whoever takes it opens an account for each reader that wants to know only what is new since it last asked.
    The number of series is bounded: measurements beyond go to one more that says so, and no total is lost.
    A forked child starts at zero: what its parent measured is its parent's to tell.

    Args:
        metric: As declared.
        most_series: How many there may be.

    Attributes:
        metric: As declared.
        cumulative: The account that counts from the start of the process; it is always open.
        exemplar_flags: Trace flags of which one must be set for a measurement to become an exemplar; 0 for
            none ever, -1 for each.
        overflowed: Told, once for each measurement or bound series that finds the ledger full.
    """

    #: How many numbers and exemplars a series of the kind has.
    _numbers, _exemplars = 1, 1

    def __init__(self, metric: Metric, most_series: int = MOST_SERIES) -> None:
        self.metric = metric
        self.cumulative = CUMULATIVE
        self.exemplar_flags = 1
        self.overflowed: Callable[[Ledger, Values], None] = lambda ledger, values: None
        self._most_series = most_series
        self._memory: Memory = private
        self._accounts = {CUMULATIVE: time_ns()}
        self._series: dict[Values | None, Series] = {}
        # A signal's handler, or the collection of garbage, may record while its own thread holds it.
        self._lock = threading.RLock()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        now = time_ns()
        self._accounts = dict.fromkeys(self._accounts, now)
        self._series = {values: series for values, series in self._series.items() if series.is_kept}
        for values, series in self._series.items():
            series.cells = self._cells(values)

    def move(self, memory: Memory) -> None:
        """Keep the cumulative numbers of all series in another memory from now on."""
        with self._lock:
            self._memory = memory
            for values, series in self._series.items():
                cell = series.cells[CUMULATIVE]
                moved = self._zeros(CUMULATIVE, values)
                for place, number in enumerate(cell.numbers):
                    moved[place] = number
                cell.numbers = moved

    def open(self, account: int) -> None:
        """Count for one more account from now on."""
        with self._lock:
            self._accounts[account] = now = time_ns()
            for values, series in self._series.items():
                series.cells = {**series.cells, account: self._cell(account, values, now)}

    def close(self, account: int) -> None:
        """Count for an account no longer."""
        with self._lock:
            self._accounts.pop(account, None)
            for series in self._series.values():
                series.cells = {known: cell for known, cell in series.cells.items() if known != account}

    def series(self, values: Values, *, is_kept: bool = False) -> Series:
        """Return the series of these attribute values, which stand in the order of the declaration.

        Args:
            values: The attribute values; None for one that is not there.
            is_kept: Whether the series shall be there before its first measurement; a bound one always is.
        """
        known = self._series.get(values)
        if known is None or (is_kept and not known.is_kept):
            with self._lock:
                known = self._make(values)
                known.is_kept = known.is_kept or is_kept
        return known

    def _make(self, values: Values) -> Series:
        is_full = values not in self._series and len(self._series) >= self._most_series
        key = None if is_full else values
        if is_full:
            self.overflowed(self, values)
        if key not in self._series:
            self._series[key] = Series(self._cells(key), is_kept=False)
        return self._series[key]

    def _cells(self, values: Values | None) -> dict[int, Cell]:
        now = time_ns()
        return {account: self._cell(account, values, now) for account in self._accounts}

    def _cell(self, account: int, values: Values | None, start: int) -> Cell:
        return Cell(self._zeros(account, values), self._exemplars, start)

    def _zeros(self, account: int, values: Values | None) -> Numbers:
        memory = self._memory if account == CUMULATIVE else private
        return self._emptied(memory(self.metric, values, self._numbers))

    def _emptied(self, numbers: Numbers) -> Numbers:
        return numbers

    def distinct(self) -> dict[str, int]:
        """Count the distinct values of each attribute, to see which one makes the series many."""
        with self._lock:
            known = [values for values in self._series if values is not None]
        columns = zip(*known, strict=True) if known else ()
        return {key: len(set(column)) for key, column in zip(self.metric.attributes, columns, strict=False)}

    def collect(self, account: int) -> Iterator[tuple[dict[str, str | int | bool], Cell]]:
        """Walk through the series of an account: their attributes, and what they have measured.

        All accounts but the cumulative one start again, and leave out what has measured nothing since.
        """
        for values in list(self._series):
            with self._lock:  # one by one: no measurement waits for all of them
                cell = self._take(values, self._series[values], account)
            if account == CUMULATIVE or self._has_measured(cell):
                yield OVERFLOW if values is None else self.metric.named(values), cell

    def read(self) -> Iterator[tuple[Values | None, tuple[float, ...], tuple[Measured, ...]]]:
        """Walk through the series that `collect` gives, by their values alone, for a third of the cost."""
        for values in list(self._series):
            with self._lock:
                cell = self._series[values].cells[CUMULATIVE]
                numbers, exemplars = tuple(cell.numbers), tuple(filter(None, cell.exemplars))
            yield values, numbers, exemplars

    def _take(self, values: Values | None, series: Series, account: int) -> Cell:
        cell = series.cells[account]
        if account == CUMULATIVE:
            return cell.copy()
        series.cells[account] = self._cell(account, values, time_ns())
        return cell

    def _has_measured(self, cell: Cell) -> bool:
        return bool(cell.numbers[TOTAL])


class Sums(Ledger):
    """The ledger of a counter or an up-down counter."""

    def add(self, amount: float, values: Values, ids: SpanContext) -> None:
        """Add to the series of these attribute values, within the span that `ids` name."""
        self.add_to(self._series.get(values) or self.series(values), amount, ids)

    def add_to(self, series: Series, amount: float, ids: SpanContext) -> None:
        """Add to a series."""
        flags = self.exemplar_flags
        is_exemplar = ids[_FLAGS] & flags or flags < 0
        exemplar = (amount, time_ns(), ids[0], ids[1]) if is_exemplar else None
        with self._lock:
            for cell in series.cells.values():
                cell.numbers[TOTAL] += amount
                if exemplar is not None:
                    cell.exemplars[0] = exemplar


class Gauges(Ledger):
    """The ledger of a gauge: for each series the value set last, and when."""

    _numbers, _exemplars = 2, 0

    def set(self, value: float, values: Values) -> None:
        """Set the value of the series of these attribute values."""
        self.set_to(self._series.get(values) or self.series(values), value)

    def set_to(self, series: Series, value: float) -> None:
        """Set the value of a series."""
        with self._lock:
            for cell in series.cells.values():
                cell.numbers[TOTAL], cell.numbers[SET_AT] = value, time()


class Histograms(Ledger):
    """The ledger of a histogram with the bounds of its declaration."""

    def __init__(self, metric: Metric, most_series: int = MOST_SERIES) -> None:
        self._bounds = metric.buckets
        self._exemplars = len(metric.buckets) + 1
        self._numbers = BUCKETS + self._exemplars
        super().__init__(metric, most_series)

    def record(self, value: float, values: Values, ids: SpanContext) -> None:
        """Record one measurement under these attribute values, taken within the span that `ids` name."""
        self.record_to(self._series.get(values) or self.series(values), value, ids)

    def record_to(self, series: Series, value: float, ids: SpanContext) -> None:
        """Record one measurement in a series."""
        bucket = bisect_left(self._bounds, value)
        flags = self.exemplar_flags
        is_exemplar = ids[_FLAGS] & flags or flags < 0
        exemplar = (value, time_ns(), ids[0], ids[1]) if is_exemplar else None
        with self._lock:
            for cell in series.cells.values():
                numbers = cell.numbers
                numbers[BUCKETS + bucket] += 1
                numbers[TOTAL] += value
                # Not `min` and `max`: two calls a measurement for what is hardly ever true.
                if value < numbers[LOWEST]:  # noqa: PLR1730
                    numbers[LOWEST] = value
                if value > numbers[HIGHEST]:  # noqa: PLR1730
                    numbers[HIGHEST] = value
                if exemplar is not None:
                    cell.exemplars[bucket] = exemplar

    def _emptied(self, numbers: Numbers) -> Numbers:
        numbers[LOWEST], numbers[HIGHEST] = float("inf"), float("-inf")
        return numbers

    def _has_measured(self, cell: Cell) -> bool:
        return any(cell.numbers[BUCKETS:])


def build_ledger(metric: Metric, most_series: int = MOST_SERIES) -> Ledger:
    """Make the ledger of a declared metric."""
    return _LEDGERS[metric.kind](metric, most_series)


_LEDGERS: dict[str, type[Ledger]] = {
    "counter": Sums,
    "up_down_counter": Sums,
    "gauge": Gauges,
    "histogram": Histograms,
}
