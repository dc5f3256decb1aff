"""Metrics of your own: declared once, in a line, and used from then on.

A measurement never fails, blocks or waits for the set-up: it counts from the declaration on, and is exported
once the process is set up.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from opentelemetry.trace import get_current_span

from tercet.declare.metric import DEFAULT_BUCKETS, DURATION_BUCKETS, Across
from tercet.emit.declaration import MOST, Asked, Declared, Observe, Ready, at_once, build_metric
from tercet.emit.distributions import Histograms, Summaries
from tercet.emit.ledger import Gauges, Sums
from tercet.emit.registry import REGISTRY, Registry
from tercet.emit.series import Series

#: Series of a summary, unless it says otherwise; each takes as much memory as a hundred of a counter.
SUMMARY_SERIES = 100
QUANTILES = (0.5, 0.9, 0.95, 0.99)


class _Counted(Asked[Sums]):
    def add(self, amount: float = 1, /, **attributes: object) -> None:
        """Add to the series of these attributes.

        Args:
            amount: How much.
            attributes: Of the declared keys; those left out are not there. A key with dots is written
                `**{"http.route": route}`.

        Raises:
            MetricError: A rule is broken, where that raises: see the setting `metric_errors`.
        """
        number = self._number(amount)
        if number is not None:
            ids = get_current_span().get_span_context()
            self._ledger.add_to(self._series(attributes), number, ids)

    def bind(self, **attributes: object) -> "BoundCounter":
        """Return what counts under these attributes only, and costs less; the series is there from now on.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        return BoundCounter(self, self._series(attributes, is_kept=True))


class Counter(_Counted):
    """Count what only ever grows: orders, bytes, errors.

    >>> orders = Counter("shop.orders", "Orders processed.", attributes=("status", "payment_method"))
    >>> orders.add(1, status="paid", payment_method="card")

    The same declaration again returns the same series. A counter without attributes is there, at 0, from its
    declaration on; one with attributes as `ready` says, so that `rate()` sees the first error too.

    Args:
        name: The name in OpenTelemetry; Prometheus adds the unit and `_total`, if the name has them not.
        help: What it means, in one sentence.
        attributes: The only keys that measurements may have.
        unit: A UCUM code such as `s` or `By`, or what is counted, in braces.
        limit: How many series there may be; the setting `metric_series_limit` when not given.
        ready: Combinations of attributes that are there, at 0, from the declaration on: the values of each
            key, as in `{"status": ["paid", "failed"]}`, or the combinations one by one.
        observe: Asked for the total at each collection, in place of `add`: a number, or pairs of attributes
            and a number.
        registry: Where it is declared; one of your own is for tests.

    Raises:
        MetricError: The declaration breaks a rule.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - what everybody calls it
        *,
        attributes: Sequence[str] = (),
        unit: str = "",
        limit: int | None = None,
        ready: Ready = (),
        observe: Observe | None = None,
        registry: Registry = REGISTRY,
    ) -> None:
        metric = build_metric("counter", name, help, unit, attributes, limit=limit)
        super().__init__(metric, registry, ready or at_once(attributes, observe))
        self._ask_with(observe)


class UpDownCounter(_Counted):
    """Count what comes and goes, and adds up over all processes: connections, jobs in a queue.

    >>> open_connections = UpDownCounter("shop.connections", "Open connections.", attributes=("pool",))
    >>> open_connections.add(1, pool="main")
    >>> open_connections.add(-1, pool="main")

    Args:
        name: See `Counter`; Prometheus adds the unit only.
        help: See `Counter`.
        attributes: See `Counter`.
        unit: See `Counter`.
        limit: See `Counter`.
        ready: See `Counter`.
        observe: See `Counter`; what it does not name any more is gone.
        registry: See `Counter`.

    Raises:
        MetricError: The declaration breaks a rule.
    """

    _least = -MOST

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - what everybody calls it
        *,
        attributes: Sequence[str] = (),
        unit: str = "",
        limit: int | None = None,
        ready: Ready = (),
        observe: Observe | None = None,
        registry: Registry = REGISTRY,
    ) -> None:
        metric = build_metric("up_down_counter", name, help, unit, attributes, limit=limit)
        super().__init__(metric, registry, ready or at_once(attributes, observe))
        self._ask_with(observe)


class BoundCounter:
    """A counter under attributes that are known beforehand."""

    __slots__ = ("_add_to", "_counter", "_series")

    def __init__(self, counter: _Counted, series: Series) -> None:
        self._counter, self._series, self._add_to = counter, series, counter._ledger.add_to

    def add(self, amount: float = 1, /) -> None:
        """Add to the series.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        number = self._counter._number(amount)
        if number is not None:
            self._add_to(self._series, number, get_current_span().get_span_context())


class Gauge(Asked[Gauges]):
    """Tell a state that means something by itself in each process: a temperature, a version, a share.

    >>> temperature = Gauge("oven.temperature", "How hot it is.", unit="Cel", attributes=("oven",))
    >>> temperature.set(180, oven="left")
    >>> size = Gauge("shop.pool.size", "Connections of the pool.", observe=lambda: 5)

    Args:
        name: See `Counter`; Prometheus adds the unit, and `_ratio` for the unit `1`.
        help: See `Counter`.
        attributes: See `Counter`.
        unit: See `Counter`.
        limit: See `Counter`.
        observe: Asked at each collection, in place of `set`: a number, or pairs of attributes and a number;
            what it does not name any more is gone.
        across: What one scrape for several workers shows: the value set last, or their sum, max or min, or
            each, with the number of its worker.
        registry: See `Counter`.

    Raises:
        MetricError: The declaration breaks a rule.
    """

    _least = -MOST

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - what everybody calls it
        *,
        attributes: Sequence[str] = (),
        unit: str = "",
        limit: int | None = None,
        observe: Observe | None = None,
        across: Across = "last",
        registry: Registry = REGISTRY,
    ) -> None:
        metric = build_metric("gauge", name, help, unit, attributes, limit=limit, across=across)
        super().__init__(metric, registry)
        self._ask_with(observe)

    def set(self, value: float, /, **attributes: object) -> None:
        """Set the value of the series of these attributes.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        self._take(attributes, value)

    def bind(self, **attributes: object) -> "BoundGauge":
        """Return what sets the value under these attributes only, and costs less.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        self._values(attributes)
        return BoundGauge(self, attributes)


class BoundGauge:
    """A gauge under attributes that are known beforehand; its series is there from the first value on."""

    __slots__ = ("_attributes", "_gauge")

    def __init__(self, gauge: Gauge, attributes: Mapping[str, object]) -> None:
        self._gauge, self._attributes = gauge, attributes

    def set(self, value: float, /) -> None:
        """Set the value of the series.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        self._gauge._take(self._attributes, value)


M = TypeVar("M", Histograms, Summaries)


class _Recorded(Declared[M]):
    def record(self, value: float, /, **attributes: object) -> None:
        """Record a measurement under these attributes.

        Args:
            value: Zero or more.
            attributes: See `Counter.add`.

        Raises:
            MetricError: A rule is broken, where that raises: see the setting `metric_errors`.
        """
        number = self._number(value)
        if number is not None:
            ids = get_current_span().get_span_context()
            self._ledger.record_to(self._series(attributes), number, ids)

    def bind(self, **attributes: object) -> "BoundHistogram":
        """Return what records under these attributes only, and costs less; the series is there from now on.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        return BoundHistogram(self, self._series(attributes, is_kept=True))


class Histogram(_Recorded[Histograms]):
    """Measure how something is distributed, so that it adds up over processes and hosts: durations, sizes.

    >>> waited = Histogram("shop.queue.wait", "Time in the queue.", unit="s", attributes=("queue",))
    >>> waited.record(0.25, queue="mail")

    Args:
        name: See `Counter`; Prometheus adds the unit, and makes `_bucket`, `_sum` and `_count` of it.
        help: See `Counter`.
        attributes: See `Counter`.
        unit: See `Counter`.
        buckets: Upper bounds, ascending, in the unit. When not given: for seconds those of requests, 5 ms to
            10 s; else OpenTelemetry's, 0 to 10,000.
        limit: See `Counter`.
        ready: See `Counter`.
        registry: See `Counter`.

    Raises:
        MetricError: The declaration breaks a rule.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - what everybody calls it
        *,
        attributes: Sequence[str] = (),
        unit: str = "",
        buckets: Sequence[float] | None = None,
        limit: int | None = None,
        ready: Ready = (),
        registry: Registry = REGISTRY,
    ) -> None:
        usual = DURATION_BUCKETS if unit == "s" else DEFAULT_BUCKETS
        bounds = usual if buckets is None else tuple(buckets)
        metric = build_metric("histogram", name, help, unit, attributes, buckets=bounds, limit=limit)
        super().__init__(metric, registry, ready or at_once(attributes))


class Summary(_Recorded[Summaries]):
    """Tell quantiles of the latest measurements of this one process, each within 1 % of the true value.

    Quantiles cannot be added up: those of two workers say nothing about both together. Where there is more
    than one process, or where an objective asks how many were faster than a limit, a `Histogram` serves
    better; a summary serves where the range is not known, or where one process is all there is.

    >>> size = Summary("shop.basket.size", "Things in a basket.", quantiles=(0.5, 0.99))
    >>> size.record(3)

    Count and sum are of all measurements. The quantiles are of those of the last `window` seconds, or up to a
    fifth less; of values that lie more than four decades below the highest they may say too much.

    Args:
        name: See `Counter`; Prometheus adds the unit, and makes `_sum` and `_count` of it, too.
        help: See `Counter`.
        attributes: See `Counter`.
        unit: See `Counter`.
        quantiles: Which ones, each from 0 to 1.
        window: Seconds that they look back.
        limit: How many series there may be; 100 when not given, for each may take 200 kB.
        ready: See `Counter`.
        registry: See `Counter`.

    Raises:
        MetricError: The declaration breaks a rule.
    """

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - what everybody calls it
        *,
        attributes: Sequence[str] = (),
        unit: str = "",
        quantiles: Sequence[float] = QUANTILES,
        window: float = 600.0,
        limit: int = SUMMARY_SERIES,
        ready: Ready = (),
        registry: Registry = REGISTRY,
    ) -> None:
        traits: dict[str, Any] = {"quantiles": tuple(quantiles), "window": window, "limit": limit}
        metric = build_metric("summary", name, help, unit, attributes, **traits)
        super().__init__(metric, registry, ready or at_once(attributes))


class BoundHistogram:
    """A histogram or a summary under attributes that are known beforehand."""

    __slots__ = ("_record_to", "_recorded", "_series")

    def __init__(self, recorded: _Recorded[Any], series: Series) -> None:
        self._recorded, self._series, self._record_to = recorded, series, recorded._ledger.record_to

    def record(self, value: float, /) -> None:
        """Record a measurement.

        Raises:
            MetricError: A rule is broken, where that raises.
        """
        number = self._recorded._number(value)
        if number is not None:
            self._record_to(self._series, number, get_current_span().get_span_context())
