"""The ledger of a declared metric: its series, found by a tuple of attribute values and counted in place.

The SDK makes an object, cleans the attributes and hashes them, sorted, for each measurement; this is a tenth
of its cost. Readers see no difference: `export.metered` turns what is collected here into their data points.
"""

import logging
import os
import threading
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableSequence
from contextlib import suppress
from dataclasses import replace
from math import inf, nan
from time import time, time_ns
from typing import Final

from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext

from tercet.declare.layout import BUCKETS, COUNT, HIGHEST, LOWEST, SET_AT, TOTAL
from tercet.declare.metric import (
    LONGEST_VALUE,
    METRICS_OVERFLOWED,
    MOST_SERIES,
    Metric,
    Values,
    overflow_message,
)
from tercet.emit.sketch import Recent
from tercet.fast.stand_in import has_twin

#: What is remembered of one measurement: value, time in nanoseconds, trace id, span id.
Measured = tuple[float, int, int, int]
#: Where the numbers of one series are kept; shared memory makes them outlive the process.
Numbers = MutableSequence[float]
#: From a metric, the values of one series (None for those beyond its limit) and a count to so many zeros.
Memory = Callable[[Metric, Values | None, int], Numbers]
#: The account that counts from the start of the process; others count from their last collection.
CUMULATIVE = 0
OVERFLOW: dict[str, str | int | bool] = {"otel.metric.overflow": True}
#: Where the trace flags stand in the ids of a span, which are a tuple.
_FLAGS: Final = 3
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


class RecentCell(Cell):
    """What one series of a summary has measured: sum and count of all, and a sketch of the latest."""

    __slots__ = ("recent",)

    def __init__(self, numbers: Numbers, start: int, recent: Recent) -> None:
        super().__init__(numbers, 0, start)
        self.recent = recent

    @property
    def count(self) -> int:
        """How many measurements there were."""
        return int(self.numbers[COUNT])

    def copy(self) -> "RecentCell":
        """See `Cell`."""
        return RecentCell(list(self.numbers), self.start, self.recent.copy())


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
        most_series: How many there may be; what the metric declares goes before.

    Attributes:
        metric: As declared.
        most_series: How many series there may be, besides the one for measurements beyond.
        cumulative: The account that counts from the start of the process; it is always open.
        exemplar_flags: Trace flags of which one must be set for a measurement to become an exemplar; 0 for
            none ever, -1 for each.
        overflowed: Told, once for each measurement or bound series that finds the ledger full.
        is_told: Whether somebody was told already that it is full.
        ask: Called before each collection, to bring the values up to date.
    """

    #: How many numbers and exemplars a series of the kind has.
    _numbers, _exemplars = 1, 1

    def __init__(self, metric: Metric, most_series: int = MOST_SERIES) -> None:
        self.metric = metric
        self.cumulative = CUMULATIVE
        self.exemplar_flags = 1
        self.overflowed: Callable[[Ledger], None] = tell_of_overflow
        self.is_told = False
        self.ask: Callable[[], None] = lambda: None
        self.most_series = metric.limit or most_series
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

    def open(self, account: int, *, so_far: bool = False) -> None:
        """Count for one more account: from now on, or what is measured so far as well."""
        with self._lock:
            if account in self._accounts:
                return
            self._accounts[account] = now = time_ns()
            for values, series in self._series.items():
                cell = series.cells[CUMULATIVE].copy() if so_far else self._cell(account, values, now)
                series.cells = {**series.cells, account: cell}

    def close(self, account: int) -> None:
        """Count for an account no longer."""
        with self._lock:
            self._accounts.pop(account, None)
            for series in self._series.values():
                series.cells = {known: cell for known, cell in series.cells.items() if known != account}

    def series(self, values: Values, *, is_kept: bool = False) -> Series:
        """Return the series of these attribute values, which stand in the order of the declaration.

        Values are cut to a length that can be kept, and those cut to the same share a series.

        Args:
            values: The attribute values; None for one that is not there.
            is_kept: Whether the series shall be there before its first measurement; a bound one always is.
        """
        known = self._series.get(values)
        if known is not None and (known.is_kept or not is_kept):
            return known
        values = self._cleaned(values)
        with self._lock:
            is_full = values not in self._series and len(self._series) >= self.most_series
            key = None if is_full else values
            if key not in self._series:
                self._series[key] = Series(self._cells(key), is_kept=False)
            known = self._series[key]
            known.is_kept = known.is_kept or is_kept
        if is_full:  # Without the lock: whoever is told may take others.
            self.overflowed(self)
        return known

    def _cleaned(self, values: Values) -> Values:
        """Make values that any exporter can write, and that take little to keep.

        It costs only those that are new, or that are not kept as they come.
        """
        missing = len(self.metric.attributes) - len(values)
        return (*map(cleaned, values), *[None] * missing)

    def widen(self, keys: Iterable[str]) -> None:
        """Let the series carry more attributes; those that there are stay without them."""
        with self._lock:
            new = tuple(key for key in keys if key not in self.metric.attributes)
            self.metric = replace(self.metric, attributes=(*self.metric.attributes, *new))
            self._series = {self._cleaned(v) if v is not None else None: s for v, s in self._series.items()}

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

    def keep_only(self, told: Collection[int]) -> None:
        """Forget the series that are not among these, by their `id()`; what only grows is never gone."""
        if self.metric.kind == "counter":
            return
        with self._lock:
            gone = [
                values
                for values, series in self._series.items()
                if id(series) not in told and not series.is_kept
            ]
            for values in gone:
                # Whoever sees the numbers in a memory that is shared shall see that they are no more.
                self._series.pop(values).cells[CUMULATIVE].numbers[TOTAL] = nan

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
        self.ask()
        for values, series in list(self._series.items()):
            with self._lock:  # one by one: no measurement waits for all of them
                cell = self._take(values, series, account)
            if account == CUMULATIVE or self._has_measured(cell):
                yield OVERFLOW if values is None else self.metric.named(values), cell

    def read(self) -> Iterator[tuple[Values | None, tuple[float, ...], tuple[Measured, ...]]]:
        """Walk through the series that `collect` gives, by their values alone, for a third of the cost."""
        self.ask()
        for values, series in list(self._series.items()):
            with self._lock:
                cell = series.cells[CUMULATIVE]
                numbers, exemplars = self._told(cell), tuple(filter(None, cell.exemplars))
            yield values, numbers, exemplars

    def _told(self, cell: Cell) -> tuple[float, ...]:
        return tuple(cell.numbers)

    def _take(self, values: Values | None, series: Series, account: int) -> Cell:
        cell = series.cells[account]
        if account == CUMULATIVE:
            return cell.copy()
        series.cells[account] = self._cell(account, values, time_ns())
        return cell

    def _exemplar(self, value: float, ids: SpanContext) -> Measured | None:
        """Remember a measurement that leads to a trace."""
        flags = self.exemplar_flags
        is_exemplar = ids[_FLAGS] & flags or flags < 0
        return (value, time_ns(), ids[0], ids[1]) if is_exemplar else None

    def _has_measured(self, cell: Cell) -> bool:
        return bool(cell.numbers[TOTAL])


class Sums(Ledger):
    """The ledger of a counter or an up-down counter."""

    def add(self, amount: float, values: Values, ids: SpanContext) -> None:
        """Add to the series of these attribute values, within the span that `ids` name."""
        self.add_to(self._series.get(values) or self.series(values), amount, ids)

    def add_to(self, series: Series, amount: float, ids: SpanContext) -> None:
        """Add to a series."""
        exemplar = self._exemplar(amount, ids)
        with self._lock:
            for cell in series.cells.values():
                cell.numbers[TOTAL] += amount
                if exemplar is not None:
                    cell.exemplars[0] = exemplar

    def reach(self, series: Series, total: float) -> None:
        """Bring a series to a total that somebody else keeps, and may have started anew."""
        with self._lock:
            step = total - series.cells[CUMULATIVE].numbers[TOTAL]
            started_anew = step < 0 and self.metric.kind == "counter"
            for account, cell in series.cells.items():
                if account == CUMULATIVE:
                    cell.numbers[TOTAL] = total
                else:
                    cell.numbers[TOTAL] += total if started_anew else step


#: How the events of one series are counted: by what, how much is good at most, the series of good and of bad.
Count = tuple[Sums, float, Series, Series]
#: From the attributes of a series to how its events are counted; None where it has none.
Watch = Callable[[Mapping[str, str]], Count | None]


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

    reach = set_to


@has_twin()
def sort_in(value: float, bounds: tuple[float, ...], numbers: Numbers) -> int:
    """Add a measurement to the numbers of a histogram, and return which of its buckets has it.

    >>> numbers: Numbers = [0, inf, -inf, 0, 0]
    >>> sort_in(0.25, (1.0,), numbers), numbers
    (0, [0.25, 0.25, 0.25, 1, 0])
    """
    bucket = bisect_left(bounds, value)
    numbers[BUCKETS + bucket] += 1
    numbers[TOTAL] += value
    # Not `min` and `max`: two calls a measurement for what is hardly ever true.
    if value < numbers[LOWEST]:  # noqa: PLR1730
        numbers[LOWEST] = value
    if value > numbers[HIGHEST]:  # noqa: PLR1730
        numbers[HIGHEST] = value
    return bucket


class Histograms(Ledger):
    """The ledger of a histogram with the bounds of its declaration, and of objectives.

    What is recorded with its attribute values may be an event of objectives, too. Where it is none, that
    costs nothing: such a series is found in the same number of steps.

    Attributes:
        watches: What counts events among its measurements.
    """

    def __init__(self, metric: Metric, most_series: int = MOST_SERIES) -> None:
        self.watches: tuple[Watch, ...] = ()
        self._uncounted: dict[Values, Series] = {}
        self._counts: dict[Values, tuple[Count, ...]] = {}
        self._take_bounds(metric)
        super().__init__(metric, most_series)

    def _take_bounds(self, metric: Metric) -> None:
        self._bounds = metric.buckets
        self._exemplars = len(metric.buckets) + 1
        self._numbers = BUCKETS + self._exemplars

    def _start_anew(self) -> None:
        super()._start_anew()
        self._uncounted = {}

    def bound_at(self, bounds: Iterable[float]) -> bool:
        """Let buckets end at these bounds, too; say whether they do: what is measured cannot be parted."""
        with self._lock:
            metric = self.metric.bounded_at(bounds)
            if metric.buckets == self._bounds:
                return True
            if any(self._has_measured(each.cells[CUMULATIVE]) for each in self._series.values()):
                return False
            self.metric = metric
            self._take_bounds(metric)
            for values, series in self._series.items():
                # Whoever sees the numbers in a memory that is shared shall see that they are no more.
                series.cells[CUMULATIVE].numbers[TOTAL] = nan
                series.cells = self._cells(values)
            return True

    def watch(self, watch: Watch) -> None:
        """Count more events among the measurements from now on."""
        # In this order: whoever classifies meanwhile writes into what is thrown away.
        self.watches = (*self.watches, watch)
        self._uncounted, self._counts = {}, {}

    def record(self, value: float, values: Values, ids: SpanContext) -> None:
        """Record one measurement under these attribute values, taken within the span that `ids` name."""
        self.record_to(self._uncounted.get(values) or self._counted(value, values, ids), value, ids)

    def _counted(self, value: float, values: Values, ids: SpanContext) -> Series:
        """Find a series, and count a measurement of it for each objective of which it is an event."""
        uncounted = self._uncounted
        series = self.series(values)
        # Only series that are kept are remembered, so that there are no more of them here than there.
        if not self.count(value, values, ids) and self._series.get(values) is series:
            uncounted[values] = series
        return series

    def count(self, value: float, values: Values, ids: SpanContext) -> bool:
        """Count a measurement for each objective of which it is an event; say whether there is any."""
        if not self.watches:
            return False
        known = self._counts
        told = known.get(values)
        if told is None:
            attributes = {key: str(each) for key, each in self.metric.named(self._cleaned(values)).items()}
            told = tuple(count for watch in self.watches if (count := watch(attributes)) is not None)
            if self._series.get(values) is not None:
                known[values] = told
        for events, most, within, beyond in told:
            events.add_to(within if value <= most else beyond, 1, ids)
        return bool(told)

    def record_to(self, series: Series, value: float, ids: SpanContext) -> None:
        """Record one measurement in a series."""
        flags = self.exemplar_flags
        # As `_exemplar` does it: one call fewer for each request.
        leads = ids[_FLAGS] & flags or flags < 0
        exemplar = (value, time_ns(), ids[0], ids[1]) if leads else None
        with self._lock:
            for cell in series.cells.values():
                bucket = sort_in(value, self._bounds, cell.numbers)
                if exemplar is not None:
                    cell.exemplars[bucket] = exemplar

    def _emptied(self, numbers: Numbers) -> Numbers:
        numbers[LOWEST], numbers[HIGHEST] = inf, -inf
        return numbers

    def _has_measured(self, cell: Cell) -> bool:
        return any(cell.numbers[BUCKETS:])


class Summaries(Ledger):
    """The ledger of a summary: sum and count of all measurements, and quantiles of the latest ones."""

    _numbers, _exemplars = 2, 0

    def record_to(self, series: Series, value: float, ids: SpanContext) -> None:
        """Record one measurement in a series; it becomes no exemplar, whatever span it is taken in."""
        with self._lock:
            for cell in series.cells.values():
                cell.numbers[TOTAL] += value
                cell.numbers[COUNT] += 1
                cell.recent.add(value)  # type: ignore[attr-defined] # `_cell` makes no others

    def _cell(self, account: int, values: Values | None, start: int) -> Cell:
        return RecentCell(self._zeros(account, values), start, Recent(self.metric.window))

    def _told(self, cell: Cell) -> tuple[float, ...]:
        return (*cell.numbers, *cell.recent.quantiles(self.metric.quantiles))  # type: ignore[attr-defined]


def build_ledger(metric: Metric, most_series: int = MOST_SERIES) -> Ledger:
    """Make the ledger of a declared metric."""
    return _LEDGERS[metric.kind](metric, most_series)


_LEDGERS: dict[str, type[Ledger]] = {
    "counter": Sums,
    "up_down_counter": Sums,
    "gauge": Gauges,
    "histogram": Histograms,
    "summary": Summaries,
}


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


def tell_of_overflow(ledger: Ledger) -> None:
    """Count a measurement that found its ledger full, and say so once for each metric."""
    name = ledger.metric.name
    OVERFLOWED.add(1, (name,), INVALID_SPAN_CONTEXT)
    if not ledger.is_told:
        ledger.is_told = True
        with suppress(Exception):  # The application's logging may be the trouble.
            message = overflow_message(name, ledger.most_series, ledger.distinct())
            logging.getLogger("tercet").warning("%s", message)


#: Measurements that found no room; its own overflow is not told, for that would go on for ever.
OVERFLOWED = Sums(METRICS_OVERFLOWED)
OVERFLOWED.overflowed = lambda ledger: None
