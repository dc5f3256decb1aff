"""The SDK's meter provider, with tercet's ledgers among what each of its readers collects.

Its readers see no difference: they get the same data points, with their own temporality.
"""

import itertools
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

from tercet.declare.metric import Kind, Values
from tercet.declare.metric import Metric as Declared

Attributes = dict[str, str | int | bool]


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


class Ledger(Protocol):
    """The series of one declared metric, with an account for each reader that wants only what is new."""

    metric: Declared
    cumulative: int
    exemplar_flags: int

    def open(self, account: int) -> None:
        """Count for one more account from now on."""
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
    """

    def __init__(
        self,
        readers: Sequence[MetricReader],
        resource: Resource,
        exemplar_filter: ExemplarFilter,
        views: Sequence[View],
    ) -> None:
        self._exemplar_flags = _flags(exemplar_filter)
        self._taking = threading.Lock()
        self._memory: Memory | None = None
        self._ledgers: dict[InstrumentationScope, dict[str, Ledger]] = {}
        self._accounts: dict[MetricReader, int] = {}
        self._collected_at: dict[MetricReader, int] = {}
        self._next_account = itertools.count(1)
        super().__init__(readers, resource, exemplar_filter, shutdown_on_exit=False, views=views)
        for reader in readers:
            self._open(reader)

    def _handle_fork(self) -> None:
        self._taking = threading.Lock()
        super()._handle_fork()

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

    def take(self, scope: InstrumentationScope, ledger: Ledger) -> Ledger:
        """Let readers collect a ledger in a scope; return the one that they collect under its name."""
        with self._taking:
            known = self._ledgers.setdefault(scope, {})
            if ledger.metric.name not in known:
                known[ledger.metric.name] = ledger
                ledger.exemplar_flags = self._exemplar_flags
                if self._memory is not None:
                    ledger.move(self._memory)
                for reader in self._accounts:
                    self._open_in(ledger, reader)
            return known[ledger.metric.name]

    def _all_ledgers(self) -> list[Ledger]:
        with self._taking:
            return [ledger for known in self._ledgers.values() for ledger in known.values()]

    def move(self, memory: Memory) -> None:
        """Keep the cumulative numbers of all ledgers, and of those to come, in another memory."""
        with self._taking:
            self._memory = memory
            ledgers = [ledger for known in self._ledgers.values() for ledger in known.values()]
        for ledger in ledgers:
            ledger.move(memory)

    def _open(self, reader: MetricReader) -> None:
        if isinstance(reader, ReadsLedgers):
            reader.ledgers = self._all_ledgers
        self._accounts[reader] = next(self._next_account)
        self._collected_at[reader] = 0
        for ledger in self._all_ledgers():
            self._open_in(ledger, reader)
        reader._set_collect_callback(self._collect)  # type: ignore[arg-type] # upstream's is untrue

    def _open_in(self, ledger: Ledger, reader: MetricReader) -> None:
        if _temporality(reader, ledger.metric.kind) is AggregationTemporality.DELTA:
            ledger.open(self._accounts[reader])

    def _collect(self, reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        """Collect the SDK's instruments and the ledgers, as one."""
        data = self._measurement_consumer.collect(reader, timeout_millis)
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

    def _read(self, ledger: Ledger, reader: MetricReader, since: int) -> Metric | None:
        declared = ledger.metric
        temporality = _temporality(reader, declared.kind)
        is_delta = temporality is AggregationTemporality.DELTA
        series = ledger.collect(self._accounts[reader] if is_delta else ledger.cumulative)
        data = _DATA[declared.kind](declared, series, temporality, since)
        return Metric(declared.name, declared.help, declared.unit, data) if data.data_points else None


def _temporality(reader: MetricReader, kind: Kind) -> AggregationTemporality:
    """Say how a reader wants a kind; what goes up and down, or is a state, is always whole."""
    instrument = {"counter": CounterInstrument, "histogram": HistogramInstrument}.get(kind)
    if instrument is None:
        return AggregationTemporality.CUMULATIVE
    kinds = reader._instrument_class_temporality.items()
    return next(temporality for known, temporality in kinds if issubclass(known, instrument))


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
            count=sum(buckets := cell.buckets),
            sum=cell.value,
            bucket_counts=buckets,
            explicit_bounds=declared.buckets,
            min=cell.lowest,
            max=cell.highest,
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


_DATA: dict[Kind, Any] = {
    "counter": _sum,
    "up_down_counter": _sum,
    "gauge": _gauge,
    "histogram": _histogram,
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
