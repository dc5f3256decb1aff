"""Series of a histogram between measurement and collection: found by a tuple, counted in place."""

import os
import threading
from bisect import bisect_left
from collections.abc import Iterator
from time import time_ns

from opentelemetry.trace import SpanContext

from tercet.declare.metric import Metric, Values

#: What is remembered of one measurement: value, time in nanoseconds, trace id, span id.
Measured = tuple[float, int, int, int]
#: The account that counts from the start of the process; others count from their last collection.
CUMULATIVE = 0
OVERFLOW: dict[str, str | int | bool] = {"otel.metric.overflow": True}
_MOST_SERIES = 2_000


class Cell:
    """What one series has measured for one account."""

    __slots__ = ("buckets", "exemplars", "highest", "lowest", "start", "total")

    def __init__(self, buckets: int, start: int) -> None:
        self.buckets = [0] * buckets
        self.total = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")
        self.exemplars: list[Measured | None] = [None] * buckets
        self.start = start

    def copy(self) -> "Cell":
        """Copy it, to be read while measurements go on."""
        twin = Cell(0, self.start)
        twin.buckets, twin.exemplars = self.buckets.copy(), self.exemplars.copy()
        twin.total, twin.lowest, twin.highest = self.total, self.lowest, self.highest
        return twin


class Durations:
    """A histogram whose series are found by a tuple: a tenth of the SDK's cost a measurement.

    Whoever takes it opens an account for each reader that wants to know only what is new since it last asked.
    The number of series is bounded: measurements beyond go to one more that says so, and no total is lost.
    A forked child starts with no series: what its parent measured is its parent's to tell.

    Args:
        metric: As declared.
        most_series: How many there may be.

    Attributes:
        metric: As declared.
        exemplar_flags: Trace flags of which one must be set for a measurement to become an exemplar; 0 for
            none ever, -1 for each.
    """

    def __init__(self, metric: Metric, most_series: int = _MOST_SERIES) -> None:
        self.metric = metric
        self.exemplar_flags = 1
        self._most_series = most_series
        self._accounts = {CUMULATIVE: time_ns()}
        self._start_empty()
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_empty(self) -> None:
        # A signal's handler may record while its own thread holds it.
        self._lock = threading.RLock()
        self._series: dict[Values | None, dict[int, Cell]] = {}

    def _start_anew(self) -> None:
        self._start_empty()
        self._accounts = dict.fromkeys(self._accounts, time_ns())

    def open(self, account: int) -> None:
        """Count for one more account from now on."""
        with self._lock:
            self._accounts[account] = now = time_ns()
            for cells in self._series.values():
                cells[account] = self._cell(now)

    def close(self, account: int) -> None:
        """Count for an account no longer."""
        with self._lock:
            self._accounts.pop(account, None)
            for cells in self._series.values():
                cells.pop(account, None)

    def record(self, seconds: float, values: Values, ids: SpanContext) -> None:
        """Record one duration under these attribute values, measured within the span that `ids` name."""
        bucket = bisect_left(self.metric.buckets, seconds)
        is_exemplar = ids.trace_flags & self.exemplar_flags or self.exemplar_flags < 0
        exemplar = (seconds, time_ns(), ids.trace_id, ids.span_id) if is_exemplar else None
        with self._lock:
            for cell in (self._series.get(values) or self._make_series(values)).values():
                cell.buckets[bucket] += 1
                cell.total += seconds
                cell.lowest = min(cell.lowest, seconds)
                cell.highest = max(cell.highest, seconds)
                if exemplar is not None:
                    cell.exemplars[bucket] = exemplar

    def _make_series(self, values: Values) -> dict[int, Cell]:
        is_full = len(self._series) >= self._most_series
        key = None if is_full else values
        if key not in self._series:
            now = time_ns()
            self._series[key] = {
                account: self._cell(max(start, now)) for account, start in self._accounts.items()
            }
        return self._series[key]

    def _cell(self, start: int) -> Cell:
        return Cell(len(self.metric.buckets) + 1, start)

    def collect(self, account: int) -> Iterator[tuple[dict[str, str | int | bool], Cell]]:
        """Walk through the series of an account: their attributes, and what they have measured.

        All accounts but the cumulative one start again, and leave out what has measured nothing since.
        """
        with self._lock:
            found = [(values, self._take(cells, account)) for values, cells in self._series.items()]
        for values, cell in found:
            if account == CUMULATIVE or any(cell.buckets):
                yield OVERFLOW if values is None else self.metric.named(values), cell

    def _take(self, cells: dict[int, Cell], account: int) -> Cell:
        cell = cells[account]
        if account == CUMULATIVE:
            return cell.copy()
        cells[account] = self._cell(time_ns())
        return cell
