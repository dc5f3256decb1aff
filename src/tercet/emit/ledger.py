"""The ledger of a declared metric: its series, found by a tuple of attribute values and counted in place.

The SDK makes an object, cleans the attributes and hashes them, sorted, for each measurement; this is a tenth
of its cost. Readers see no difference: `export.metered` turns what is collected here into their data points.
"""

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from math import nan
from time import time, time_ns
from typing import Final

from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext

from tercet.declare.layout import SET_AT, TOTAL
from tercet.declare.metric import METRICS_OVERFLOWED, MOST_SERIES, Metric, Values, overflow_message
from tercet.emit.series import Cell, Measured, Memory, Numbers, Series, cleaned, private

#: The account that counts from the start of the process; others count from their last collection.
CUMULATIVE = 0
OVERFLOW: dict[str, str | int | bool] = {"otel.metric.overflow": True}
#: Where the trace flags stand in the ids of a span, which are a tuple.
FLAGS: Final = 3


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
        is_exemplar = ids[FLAGS] & flags or flags < 0
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
