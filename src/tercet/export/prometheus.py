"""A reader that collects when it is scraped, and says it in the words of Prometheus; `scrape` serves it."""

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation

from tercet.declare.metric import METRICS, Across, Kind, Values
from tercet.declare.metric import Metric as Declared
from tercet.declare.names import label_name, metric_name, unit_name
from tercet.export import native
from tercet.export.exposition import (
    Exposition,
    Family,
    Heading,
    Measured,
    Series,
    exemplar_by_bucket,
    label_text,
)
from tercet.export.sheets import Sheet

Add = Callable[..., bool]
T = TypeVar("T")

_TRACE = 2  # where it stands in what is remembered of a measurement
_TARGET = Heading("target", "info", "What is scraped: its resource.")
_OVERFLOW = {"otel.metric.overflow": True}
# Attributes and metrics whose names begin so speak of a single process.
_OF_A_PROCESS = ("process.", "cpython.")

_logger = logging.getLogger("tercet.prometheus")


class Ledger(Protocol):
    """The series of one declared metric."""

    metric: Declared

    def read(self) -> Iterator[tuple[Values | None, tuple[float, ...], tuple[Measured, ...]]]:
        """Walk through its series: attribute values, numbers since the process started, exemplars."""
        ...


class Others(Protocol):
    """The other workers of the same service."""

    def publish(self, told: Sheet) -> None:
        """Let them know what only this process can collect, and the exemplars of all that it measures."""
        ...

    def add_others(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Add what they have measured, those that have ended included; gauges by their rules."""
        ...

    def close(self) -> None:
        """Publish no more."""
        ...


class PrometheusReader(MetricReader):
    """Collect metrics when Prometheus asks for them.

    Every instrument is cumulative and every histogram has explicit buckets, whatever the environment asks of
    other readers. A view may still choose exponential ones: those are left out of the scrape and named once,
    for their bounds change as they measure, which the text formats cannot tell.

    Attributes:
        ledgers: What gives the ledgers, which are read where they are: as the SDK's data points they would
            cost a scrape twice as much.
        workers: What the other workers of the same service measure; None where there are none.
    """

    def __init__(self) -> None:
        super().__init__(preferred_aggregation={HistogramInstrument: ExplicitBucketHistogramAggregation()})
        self.ledgers: Callable[[], Iterable[Ledger]] = tuple
        self.workers: Others | None = None
        self.describe = Describer()
        self._is_shut_down = False
        self._scraping = threading.Lock()
        self._collected: MetricsData | None = None
        self._exemplars: dict[tuple[str, str], tuple[Measured, ...]] = {}
        self._left_out: set[tuple[str, str]] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._scraping = threading.Lock()

    def render(self, openmetrics: bool) -> bytes:
        """Collect, and write the result as text; one scrape at a time, each of them whole.

        Args:
            openmetrics: OpenMetrics 1.0, with exemplars, instead of the classic format 0.0.4.

        Returns:
            UTF-8; without any family before the first measurement and after shutdown.

        Raises:
            Exception: What the SDK raises when callbacks of instruments take more than ten seconds.
        """
        pause = Breath()
        with self._scraping:
            exposition = Exposition() if self._is_shut_down else self._expose(pause)
        return exposition.render(openmetrics=openmetrics, pause=pause).encode()

    def publish(self) -> None:
        """Let the other workers know what only this process can collect."""
        with self._scraping:
            if not self._is_shut_down:
                self._publish(Exposition(), Breath())

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: whoever wants the metrics scrapes."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop collecting, once the other workers know the last of it; later scrapes are empty."""
        if not self._is_shut_down and self.workers is not None:
            self.publish()
            self.workers.close()
        self._is_shut_down = True

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._collected = metrics_data

    def _expose(self, pause: Callable[[], object]) -> Exposition:
        exposition = Exposition()
        if self.workers is None:
            self._add_collected(exposition, pause)
            self._add_ledgers(exposition, pause)
        else:
            self._publish(exposition, pause)
            self.workers.add_others(exposition, pause)
        return exposition

    def _publish(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Say first what is shown then, so that no later scrape of another worker shows less of it."""
        if self.workers is not None:
            self._add_collected(exposition, pause)
            told = Sheet()
            told.add(exposition.families, pause)
            self._add_ledgers(exposition, pause)
            told.add_exemplars(exposition.families)
            self.workers.publish(told)

    def _add_collected(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Collect the SDK's own instruments."""
        for resource_metrics in self._collect_anew():
            self._add_target(exposition, resource_metrics.resource.attributes)
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    self._attempt(exposition, scope_metrics.scope.name, metric.name, self._add, metric, pause)
        self._remember_exemplars(exposition.families)

    def _collect_anew(self) -> Sequence[ResourceMetrics]:
        self._collected = None
        self.collect()
        collected: MetricsData | None = self._collected
        return collected.resource_metrics if collected is not None else ()

    def _add_target(self, exposition: Exposition, attributes: Mapping[str, Any]) -> None:
        family = exposition.open(_TARGET)
        if family is not None:
            shown = {key: attributes[key] for key in attributes if self.workers is None or not _of_one(key)}
            family.series[label_text(_labels(shown))] = ((1.0,), (), ())

    def _add_ledgers(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        for ledger in self.ledgers():
            self._attempt(exposition, "tercet", ledger.metric.name, _add_ledger, self.describe, ledger, pause)

    def _attempt(self, exposition: Exposition, scope_name: str, name: str, add: Add, *arguments: Any) -> None:
        try:
            added = add(exposition, *arguments)
            reason = "another instrument of a different type has its name"
        except Exception as error:  # one instrument must not cost the scrape
            added, reason = False, str(error)
        if not added and (scope_name, name) not in self._left_out:
            self._left_out.add((scope_name, name))
            _logger.warning("Instrument %r is left out of the Prometheus scrape: %s.", name, reason)

    def _add(self, exposition: Exposition, metric: Metric, pause: Callable[[], object]) -> bool:
        if isinstance(metric.data, ExponentialHistogram):
            raise ValueError("the text formats have no exponential buckets")
        heading = self.describe.heading(
            metric.name, metric.unit or "", metric.description or "", _kind(metric.data), _across(metric.name)
        )
        family = exposition.open(heading)
        if family is None:
            return False
        for point in metric.data.data_points:
            family.add(self.describe.labels(heading, point.attributes or {}), _series(point))
            pause()
        return True

    def _remember_exemplars(self, families: Iterable[Family]) -> None:
        """Keep the latest exemplar of each bucket: the SDK hands each out once, to whoever scrapes first."""
        remembered = {}
        for family in families:
            for labels, series in family.series.items():
                key = (family.heading.name, labels)
                known = self._exemplars.get(key, ())
                numbers, bounds, exemplars = series
                if known or exemplars:
                    latest = exemplar_by_bucket((numbers, bounds, known + exemplars))
                    remembered[key] = exemplars = tuple(latest.values())
                    family.series[labels] = numbers, bounds, exemplars
        self._exemplars = remembered


class Breath:
    """Let other threads have their turn now and then: Python alone lets them wait for five milliseconds."""

    _EVERY, _SECONDS = 0.002, 0.00005

    def __init__(self) -> None:
        self._next = time.perf_counter() + self._EVERY

    def __call__(self) -> None:
        """Pause, if it is time to."""
        if time.perf_counter() > self._next:
            # Not for nothing: a thread that only lets go has the interpreter back before another one wakes.
            # And not gevent's, whose other greenlets would find locks taken by their own thread.
            native.sleep(self._SECONDS)
            self._next = time.perf_counter() + self._EVERY


class Describer:
    """Translate metrics and attributes, and remember the texts: each scrape asks for the same ones."""

    _MOST = 50_000

    def __init__(self) -> None:
        self._headings: dict[tuple[str, ...], Heading] = {}
        self._texts: dict[object, str] = {}

    def heading(self, name: str, unit: str, help_text: str, kind: Kind, across: Across) -> Heading:
        """Say what the series of a metric have in common.

        Raises:
            ValueError: Prometheus has no name for it.
        """
        key = (name, unit, help_text, kind, across)
        known = self._headings.get(key)
        if known is None:
            known = self._remember(self._headings, key, _heading(*key))
        return known

    def declared(self, metric: Declared) -> Heading:
        """Do so for a declared metric.

        Raises:
            ValueError: See above.
        """
        return self.heading(metric.name, metric.unit, metric.help, metric.kind, metric.across)

    def labels(self, heading: Heading, attributes: Mapping[str, Any]) -> str:
        """Write attributes as labels."""
        reserved = _reserved(heading)
        key = (
            reserved,
            *[(k, v) if v.__class__ is str else (k, None, repr(v)) for k, v in attributes.items()],
        )
        known = self._texts.get(key)
        if known is None:
            known = self._remember(self._texts, key, label_text(_labels(attributes, reserved)))
        return known

    def values(self, heading: Heading, metric: Declared, values: Values | None) -> str:
        """Write the attribute values of a ledger's series as labels."""
        key = (heading.name, metric.attributes, values)
        known = self._texts.get(key)
        if known is None:
            attributes = _OVERFLOW if values is None else metric.named(values)
            text = label_text(_labels(attributes, _reserved(heading)))
            known = self._remember(self._texts, key, text)
        return known

    def _remember(self, texts: dict[Any, T], key: object, text: T) -> T:
        if len(texts) >= self._MOST:
            texts.clear()
        texts[key] = text
        return text


def _heading(name: str, unit: str, help_text: str, kind: Kind, across: Across) -> Heading:
    translated = metric_name(name, unit, kind)
    if not translated:
        raise ValueError("its name holds no letter or digit that a Prometheus name may contain")
    unit = "ratio" if kind == "gauge" and unit == "1" else unit_name(unit)
    translated = translated.removesuffix("_total") if kind == "counter" else translated
    # Never empty: `promtool check metrics` asks for it.
    help_text = _encodable(help_text) or f"The instrument {_encodable(name)} has no description."
    return Heading(translated, kind, help_text, unit, across)


_OWN_LABELS: Mapping[str, str] = {"histogram": "le", "summary": "quantile"}


def _reserved(heading: Heading) -> str:
    """Name the label that the series themselves need, if any."""
    if heading.kind in _OWN_LABELS:
        return _OWN_LABELS[heading.kind]
    return "worker" if heading.across == "each" else ""


_DECLARED: Mapping[str, Across] = {metric.name: metric.across for metric in METRICS}


def _across(name: str) -> Across:
    """Choose what is shown of a gauge of the SDK: what nobody declared is a state of all, or of a process.

    What one process says of itself means nothing in place of what another one says, and no rule suits both
    its uptime and its share of the processor; so each is shown.
    """
    return _DECLARED.get(name, "each" if name.startswith(_OF_A_PROCESS) else "last")


def _add_ledger(
    exposition: Exposition, describe: Describer, ledger: Ledger, pause: Callable[[], object]
) -> bool:
    metric = ledger.metric
    heading = describe.declared(metric)
    family = exposition.open(heading)
    if family is None:
        return False
    bounds = metric.quantiles or metric.buckets
    for values, numbers, measured in ledger.read():
        exemplars = tuple(each for each in measured if each[_TRACE]) if measured else ()
        family.add(describe.values(heading, metric, values), (numbers, bounds, exemplars))
        pause()
    return True


def _kind(data: Sum | Gauge | Histogram) -> Kind:
    if isinstance(data, Sum):
        return "counter" if data.is_monotonic else "up_down_counter"
    return "gauge" if isinstance(data, Gauge) else "histogram"


def _series(point: NumberDataPoint | HistogramDataPoint) -> Series:
    exemplars = tuple(map(_measured, filter(_leads_to_a_trace, point.exemplars))) if point.exemplars else ()
    if isinstance(point, NumberDataPoint):
        return (point.value, point.time_unix_nano / 1e9), (), exemplars
    # Its lowest and highest measurement are in neither format.
    numbers = (float(point.sum), math.inf, -math.inf, *point.bucket_counts)
    return numbers, tuple(point.explicit_bounds), exemplars


def _leads_to_a_trace(exemplar: SdkExemplar) -> bool:
    return bool(exemplar.trace_id and exemplar.span_id) and not math.isnan(exemplar.value)


def _measured(exemplar: SdkExemplar) -> Measured:
    """Translate an exemplar, without the attributes that a view has filtered out on purpose."""
    return exemplar.value, exemplar.time_unix_nano, exemplar.trace_id or 0, exemplar.span_id or 0


def _of_one(attribute: str) -> bool:
    """Say whether an attribute of the resource tells one worker from the others."""
    return attribute == "service.instance.id" or attribute.startswith(_OF_A_PROCESS)


def _labels(attributes: Mapping[str, Any], reserved: str = "") -> Iterator[tuple[str, str]]:
    """Translate attributes; values whose keys share a label are joined in the order of their keys."""
    values: dict[str, list[str]] = {}
    for key in sorted(attributes):
        name = label_name(key)
        values.setdefault(f"exported_{name}" if name == reserved else name, []).append(
            _label_value(attributes[key])
        )
    joined = ((name, ";".join(filter(None, texts))) for name, texts in sorted(values.items()))
    return ((name, text) for name, text in joined if text)  # to Prometheus an empty label is no label


def _label_value(value: object) -> str:
    return _encodable(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()
