"""The ledgers of distributions: a histogram's buckets, whose measurements objectives count, and a summary."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from math import inf, nan
from time import time_ns

from opentelemetry.trace import SpanContext

from tercet.declare.layout import BUCKETS, COUNT, HIGHEST, LOWEST, TOTAL
from tercet.declare.metric import MOST_SERIES, Metric, Values
from tercet.emit.ledger import CUMULATIVE, FLAGS, Ledger, Sums
from tercet.emit.series import Cell, Numbers, Series
from tercet.emit.sketch import Recent
from tercet.fast.stand_in import has_twin

#: How the events of one series are counted: by what, how much is good at most, the series of good and of bad.
Count = tuple[Sums, float, Series, Series]
#: From the attributes of a series to how its events are counted; None where it has none.
Watch = Callable[[Mapping[str, str]], Count | None]


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
        leads = ids[FLAGS] & flags or flags < 0
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
