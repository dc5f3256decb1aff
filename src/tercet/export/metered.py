"""The SDK's meter provider, with tercet's ledgers among what each of its readers collects.

Its readers see no difference: they get the same data points, with their own temporality.
"""

import itertools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from time import time_ns
from typing import Any, Protocol, runtime_checkable

from opentelemetry import metrics
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Exemplar,
    ExemplarFilter,
    Meter,
    MeterProvider,
)
from opentelemetry.sdk.metrics import (
    Counter as CounterInstrument,
)
from opentelemetry.sdk.metrics import (
    Histogram as HistogramInstrument,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from tercet.declare.metric import MOST_SERIES, Kind, Values, overflow_message
from tercet.declare.metric import Metric as Declared
from tercet.export.summary import Summary, SummaryDataPoint, takes_summaries

Attributes = dict[str, str | int | bool]
_logger = logging.getLogger("tercet")


class Cell(Protocol):
    """What one series has measured; a number has no buckets, and no extremes."""

    start: int
    exemplars: list[tuple[float, int, int, int] | None]

    @property
    def value(self) -> float: ...  # noqa: D102 - see `emit.ledger`
    @property
    def lowest(self) -> float: ...  # noqa: D102
    @property
    def highest(self) -> float: ...  # noqa: D102
    @property
    def buckets(self) -> list[int]: ...  # noqa: D102


#: From a metric, the attribute values of one series and a count to so many zeros.
Memory = Callable[[Declared, Values | None, int], MutableSequence[float]]


class Recent(Protocol):
    """The latest measurements of a summary's series."""

    def quantiles(self, wanted: Sequence[float]) -> list[float]: ...  # noqa: D102 - see `emit.sketch`


class RecentCell(Cell, Protocol):
    """What one series of a summary has measured."""

    recent: Recent

    @property
    def count(self) -> int: ...  # noqa: D102


class Ledger(Protocol):
    """The series of one declared metric, with an account for each reader that wants only what is new."""

    metric: Declared
    cumulative: int
    exemplar_flags: int
    most_series: int

    def open(self, account: int, *, so_far: bool = False) -> None:
        """Count for one more account: from now on, or what is measured so far as well."""
        ...

    def close(self, account: int) -> None:
        """Count for an account no longer."""
        ...

    def move(self, memory: Memory) -> None:
        """Keep the cumulative numbers of all series in another memory from now on."""
        ...

    def collect(self, account: int) -> Iterator[tuple[Attributes, Any]]:
        """Walk through the series of an account: their attributes, and the `Cell` of each."""
        ...


@runtime_checkable
class ReadsLedgers(Protocol):
    """A reader that reads the ledgers themselves, as they are when it wants them."""

    ledgers: Callable[[], Iterable[Any]]


_EVERY, _SAMPLED, _NONE = -1, 1, 0
#: A ledger may be taken by more than one provider, as in tests; 0 is its own account.
_accounts = itertools.count(1)


class LeanMeter(Meter):
    """A meter of the SDK that takes ledgers, too."""

    _provider: "LeanMeterProvider"

    def take(self, ledger: Ledger) -> Ledger:
        """Let readers collect a ledger; return the one that they collect, the same one for each name."""
        return self._provider.take(self._instrumentation_scope, ledger)


class LeanMeterProvider(MeterProvider):
    """The SDK's provider, with tercet's ledgers among what each reader collects.

    Args:
        readers: What collects.
        resource: Who emits.
        exemplar_filter: Which measurements may become exemplars.
        views: For the SDK's own instruments.
        most_series: How many series a ledger may have that does not say so itself.
    """

    def __init__(
        self,
        readers: Sequence[MetricReader],
        resource: Resource,
        exemplar_filter: ExemplarFilter,
        views: Sequence[View],
        most_series: int = MOST_SERIES,
    ) -> None:
        super().__init__(readers, resource, exemplar_filter, shutdown_on_exit=False, views=views)
        self._begin(most_series)

    def _begin(self, most_series: int) -> None:
        self._free()
        # Not `_handle_fork`: upstream remembers that of the class which the provider was made of.
        os.register_at_fork(after_in_child=self._free)
        self._memory: Memory | None = None
        self._most_series = most_series
        self._told: set[str] = set()
        self._exemplar_flags = _flags(self._sdk_config.exemplar_filter)
        self._ledgers: dict[InstrumentationScope, dict[str, Ledger]] = {}
        self._accounts: dict[MetricReader, int] = {}
        self._collected_at: dict[MetricReader, int] = {}
        for reader in self._measurement_consumer._reader_storages:
            self._open(reader)

    def _free(self) -> None:
        # A signal's handler may declare a metric while its own thread does.
        self._taking = threading.RLock()

    def get_meter(self, *args: Any, **kwargs: Any) -> metrics.Meter:
        """Return the meter of a scope; the same one each time."""
        meter = super().get_meter(*args, **kwargs)
        if type(meter) is Meter:
            meter.__class__ = LeanMeter
            meter._provider = self  # type: ignore[attr-defined] # it has just become one
        return meter

    def add_metric_reader(self, metric_reader: MetricReader) -> None:
        """Let one more reader collect."""
        super().add_metric_reader(metric_reader)
        self._open(metric_reader)

    def remove_metric_reader(self, metric_reader: MetricReader) -> None:
        """Let a reader collect no longer."""
        super().remove_metric_reader(metric_reader)
        self._collected_at.pop(metric_reader, None)
        if metric_reader in self._accounts:
            account = self._accounts.pop(metric_reader)
            for ledger in self._all_ledgers():
                ledger.close(account)

    def added(self) -> list[MetricReader]:
        """List all readers, whoever has added them."""
        return [*self._measurement_consumer._reader_storages]

    def take(self, scope: InstrumentationScope, ledger: Ledger) -> Ledger:
        """Let readers collect a ledger in a scope; return the one that they collect under its name.

        What it has measured before is theirs, too.
        """
        with self._taking:
            taken = self._ledgers.setdefault(scope, {}).setdefault(ledger.metric.name, ledger)
            if taken is ledger:
                ledger.exemplar_flags = self._exemplar_flags
                ledger.most_series = ledger.metric.limit or self._most_series
                if self._memory is not None:
                    ledger.move(self._memory)
                for reader in list(self._accounts):
                    self._open_in(ledger, reader, so_far=True)
            return taken

    def _all_ledgers(self) -> list[Ledger]:
        return [ledger for known in list(self._ledgers.values()) for ledger in list(known.values())]

    def move(self, memory: Memory) -> None:
        """Keep the cumulative numbers of all ledgers, and of those to come, in another memory."""
        with self._taking:
            self._memory = memory
            for ledger in self._all_ledgers():
                ledger.move(memory)

    def _open(self, reader: MetricReader) -> None:
        if isinstance(reader, ReadsLedgers):
            reader.ledgers = self._all_ledgers
        self._accounts[reader] = next(_accounts)
        self._collected_at[reader] = 0
        for ledger in self._all_ledgers():
            self._open_in(ledger, reader, so_far=False)
        reader._set_collect_callback(self._collect)  # type: ignore[arg-type] # upstream's is untrue

    def _open_in(self, ledger: Ledger, reader: MetricReader, *, so_far: bool) -> None:
        if _temporality(reader, ledger.metric.kind) is AggregationTemporality.DELTA:
            ledger.open(self._accounts[reader], so_far=so_far)

    def _collect(self, reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        """Collect the SDK's instruments and the ledgers, as one."""
        data = self._measurement_consumer.collect(reader, timeout_millis)
        self._tell_of_overflow(data)
        if isinstance(reader, ReadsLedgers):
            return data if data is not None or not self._ledgers else self._of_resource()
        since, self._collected_at[reader] = self._collected_at[reader], time_ns()
        own = [
            ScopeMetrics(scope, found, scope.schema_url or "")
            for scope, known in list(self._ledgers.items())
            if (
                found := list(
                    filter(None, (self._read(each, reader, since) for each in list(known.values())))
                )
            )
        ]
        if not own:
            return data
        theirs = data.resource_metrics[0].scope_metrics if data is not None else ()
        return self._of_resource(_joined([*theirs, *own]))

    def _of_resource(self, found: Sequence[ScopeMetrics] = ()) -> MetricsData:
        resource = self._sdk_config.resource
        return MetricsData([ResourceMetrics(resource, found, resource.schema_url)])

    def _tell_of_overflow(self, data: MetricsData | None) -> None:
        """Name each instrument of the SDK that has no room for more series, once."""
        for resource in data.resource_metrics if data is not None else ():
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                points = metric.data.data_points
                if len(points) > self._most_series and metric.name not in self._told:
                    self._told.add(metric.name)
                    _logger.warning("%s", overflow_message(metric.name, self._most_series, _distinct(points)))

    def _read(self, ledger: Ledger, reader: MetricReader, since: int) -> Metric | None:
        declared = ledger.metric
        if declared.kind == "summary" and not takes_summaries(reader):
            return None
        temporality = _temporality(reader, declared.kind)
        is_delta = temporality is AggregationTemporality.DELTA
        series = ledger.collect(self._accounts[reader] if is_delta else ledger.cumulative)
        data = _DATA[declared.kind](declared, series, temporality, since)
        return Metric(declared.name, declared.help, declared.unit, data) if data.data_points else None


def adopt(provider: MeterProvider, most_series: int = MOST_SERIES) -> None:
    """Let the readers of a provider that somebody else made collect ledgers, too.

    It stays as it is otherwise: resource, views and readers. One of a class of its own is left alone.
    """
    if type(provider) is MeterProvider:
        provider.__class__ = LeanMeterProvider
        provider._begin(most_series)  # type: ignore[attr-defined] # it has just become one


def _temporality(reader: MetricReader, kind: Kind) -> AggregationTemporality:
    """Say how a reader wants a kind; what goes up and down, or is a state, is always whole."""
    instrument = {"counter": CounterInstrument, "histogram": HistogramInstrument}.get(kind)
    if instrument is None:
        return AggregationTemporality.CUMULATIVE
    kinds = reader._instrument_class_temporality.items()
    return next(temporality for known, temporality in kinds if issubclass(known, instrument))


def _distinct(points: Iterable[Any]) -> dict[str, int]:
    """Count the different values of each attribute."""
    values: dict[str, set[str]] = {}
    for point in points:
        for key, value in (point.attributes or {}).items():
            values.setdefault(key, set()).add(str(value))
    return {key: len(known) for key, known in values.items()}


def _joined(scopes: Iterable[ScopeMetrics]) -> list[ScopeMetrics]:
    """Put metrics of the same scope together."""
    joined: dict[InstrumentationScope, ScopeMetrics] = {}
    for each in scopes:
        before = joined.get(each.scope)
        found = each.metrics if before is None else [*before.metrics, *each.metrics]
        joined[each.scope] = ScopeMetrics(each.scope, found, each.schema_url)
    return list(joined.values())


Found = Iterable[tuple[Attributes, Cell]]


def _histogram(
    declared: Declared, series: Found, temporality: AggregationTemporality, since: int
) -> Histogram:
    now = time_ns()
    points = [
        HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=cell.start,
            time_unix_nano=now,
            count=(count := sum(buckets := cell.buckets)),
            sum=cell.value,
            bucket_counts=buckets,
            explicit_bounds=declared.buckets,
            # A series that is there before its first measurement has neither; infinity would say so badly.
            min=cell.lowest if count else 0.0,
            max=cell.highest if count else 0.0,
            exemplars=_exemplars(cell, since),
        )
        for attributes, cell in series
    ]
    return Histogram(points, temporality)


def _sum(declared: Declared, series: Found, temporality: AggregationTemporality, since: int) -> Sum:
    return Sum(_numbers(series, since), temporality, is_monotonic=declared.kind == "counter")


def _gauge(declared: Declared, series: Found, temporality: AggregationTemporality, since: int) -> Gauge:
    return Gauge(_numbers(series, since))


def _numbers(series: Found, since: int) -> list[NumberDataPoint]:
    now = time_ns()
    return [
        NumberDataPoint(attributes, cell.start, now, cell.value, _exemplars(cell, since))
        for attributes, cell in series
    ]


def _summary(
    declared: Declared,
    series: Iterable[tuple[Attributes, RecentCell]],
    temporality: AggregationTemporality,
    since: int,
) -> Summary:
    now, wanted = time_ns(), declared.quantiles
    return Summary(
        [
            SummaryDataPoint(
                attributes=attributes,
                start_time_unix_nano=cell.start,
                time_unix_nano=now,
                count=cell.count,
                sum=cell.value,
                quantiles=list(zip(wanted, cell.recent.quantiles(wanted), strict=True)),
            )
            for attributes, cell in series
        ]
    )


_DATA: dict[Kind, Any] = {
    "counter": _sum,
    "up_down_counter": _sum,
    "gauge": _gauge,
    "histogram": _histogram,
    "summary": _summary,
}


def _exemplars(cell: Cell, since: int) -> list[Exemplar]:
    return [
        Exemplar({}, value, at, span_id, trace_id)
        for value, at, trace_id, span_id in filter(None, cell.exemplars)
        if at > since
    ]


def _flags(exemplar_filter: ExemplarFilter) -> int:
    if isinstance(exemplar_filter, AlwaysOffExemplarFilter):
        return _NONE
    return _EVERY if isinstance(exemplar_filter, AlwaysOnExemplarFilter) else _SAMPLED
