"""Metrics of your own: declared once, in a line, and used from then on.

A measurement never fails, blocks or waits for the set-up: it counts from the declaration on, and is exported
once the process is set up.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import itemgetter
from typing import Any, Generic, TypeVar

from opentelemetry.trace import get_current_span

from tercet.declare.metric import (
    DEFAULT_BUCKETS,
    DURATION_BUCKETS,
    LONGEST_VALUE,
    Across,
    Kind,
    Metric,
    Values,
)
from tercet.emit.distributions import Histograms, Summaries
from tercet.emit.ledger import Gauges, Ledger, Sums
from tercet.emit.registry import REGISTRY, Registry
from tercet.emit.series import Series, cleaned

#: Combinations of attributes: each key with its values, or each combination by itself.
Ready = Mapping[str, Iterable[object]] | Iterable[Mapping[str, object]]
#: What is asked at each collection: a number, or pairs of attributes and a number.
Observe = Callable[[], "float | Iterable[tuple[Mapping[str, object], float]]"]
L = TypeVar("L", bound=Ledger)

#: Series of a summary, unless it says otherwise; each takes as much memory as a hundred of a counter.
SUMMARY_SERIES = 100
QUANTILES = (0.5, 0.9, 0.95, 0.99)
_PLAIN = frozenset({int, float})
#: Floats hold each whole number up to here; what is beyond is made one with care.
_MOST = 2**53


class _Declared(Generic[L]):
    """What all kinds have in common: a declaration, its ledger, and the way from keywords to a series."""

    _least = 0

    def __init__(self, metric: Metric, registry: Registry, ready: Ready = ()) -> None:
        self._registry = registry
        ledger, self._other = registry.declare(metric)
        self._ledger: L = ledger  # type: ignore[assignment] # each kind has its own
        # A number of attributes that none has leads to the way where all is looked at.
        self._count = -1 if self._other is not None else len(metric.attributes)
        self._pick = _picker(metric.attributes)
        for attributes in _combinations(ready):
            self._series(attributes, is_kept=True)

    @property
    def metric(self) -> Metric:
        """The declaration."""
        return self._ledger.metric

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.metric.name}>"

    def _series(self, attributes: Mapping[str, object], *, is_kept: bool = False) -> Series:
        try:
            if len(attributes) == self._count:
                return self._ledger.series(self._pick(attributes), is_kept=is_kept)
        except Exception:  # noqa: S110 - a key is missing, or a value is none that can be looked up: see below
            pass
        return self._ledger.series(self._values(attributes), is_kept=is_kept)

    def _values(self, attributes: Mapping[str, object]) -> Values:
        metric = self.metric
        if self._other is not None:
            other = self._other
            message = (
                f"name must be its own, but {other.name} is declared already, as {other.kind} with "
                f"{other.attributes!r}. Choose another name, or declare it once and import it."
            )
            self._registry.refuse(metric, "name_clash", message)
        unknown = attributes.keys() - set(metric.attributes)
        if unknown:
            got = ", ".join(sorted(map(repr, unknown)))[:LONGEST_VALUE]
            message = (
                f"attributes must be among {metric.attributes!r}, got {got}. Declare it, or leave it out."
            )
            self._registry.refuse(metric, "unknown_attribute", message)
        return tuple(cleaned(attributes.get(key)) for key in metric.attributes)

    def _number(self, value: Any) -> float | None:
        """Return a value as a number, or None where it is none that this metric can measure."""
        if type(value) in _PLAIN and self._least <= value <= _MOST:
            return value  # type: ignore[no-any-return] # one of the plain types
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except Exception:  # Not a number at all, or one too large.
            number = math.nan
        if not math.isfinite(number):
            message = f"a measurement must be a finite number, got {cleaned(value)!r}. Leave it out."
            self._registry.refuse(self.metric, "not_a_number", message)
            return None
        if number < 0 <= self._least:
            mend = "Use an UpDownCounter." if self.metric.kind == "counter" else "Leave it out."
            message = f"a measurement must be zero or more, got {number:g}. {mend}"
            self._registry.refuse(self.metric, "negative", message)
            return None
        return number


A = TypeVar("A", Sums, Gauges)


class _Asked(_Declared[A]):
    """A kind whose values can be asked for, when metrics are collected."""

    def _ask_with(self, observe: Observe | None) -> None:
        if observe is not None and self._other is None:
            self._observe = observe
            self._ledger.ask = self._ask

    def _ask(self) -> None:
        try:
            told = self._observe()
            pairs = told if isinstance(told, Iterable) else [({}, told)]
            self._ledger.keep_only({id(self._take(dict(attributes), value)) for attributes, value in pairs})
        except Exception as error:  # It is the application's, and the other metrics want to be collected.
            message = f"observe must return a number, but failed with {error!r}. Mend it."
            self._registry.count(self.metric, "callback_failed", message)

    def _take(self, attributes: Mapping[str, object], value: float) -> Series | None:
        number = self._number(value)
        if number is None:
            return None
        series = self._series(attributes)
        self._ledger.reach(series, number)
        return series


class _Counted(_Asked[Sums]):
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
        metric = _metric("counter", name, help, unit, attributes, limit=limit)
        super().__init__(metric, registry, ready or _at_once(attributes, observe))
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

    _least = -_MOST

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
        metric = _metric("up_down_counter", name, help, unit, attributes, limit=limit)
        super().__init__(metric, registry, ready or _at_once(attributes, observe))
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


class Gauge(_Asked[Gauges]):
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

    _least = -_MOST

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
        metric = _metric("gauge", name, help, unit, attributes, limit=limit, across=across)
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


class _Recorded(_Declared[M]):
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
        metric = _metric("histogram", name, help, unit, attributes, buckets=bounds, limit=limit)
        super().__init__(metric, registry, ready or _at_once(attributes))


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
        metric = _metric("summary", name, help, unit, attributes, **traits)
        super().__init__(metric, registry, ready or _at_once(attributes))


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


def _metric(
    kind: Kind, name: str, meaning: str, unit: str, attributes: Sequence[str], **traits: Any
) -> Metric:
    # A text is a sequence, too; as it stands, it breaks the rule for attributes, which says so.
    keys: Any = attributes if isinstance(attributes, str) else tuple(attributes)
    return Metric(name, kind, unit, meaning, keys, **traits)


def _picker(keys: Sequence[str]) -> Callable[[Mapping[str, object]], Any]:
    """Return what takes the values of some keys out of a mapping, as fast as can be."""
    if not keys:
        return lambda attributes: ()
    pick = itemgetter(*keys)
    return pick if len(keys) > 1 else lambda attributes: (pick(attributes),)


def _at_once(attributes: Sequence[str], observe: Observe | None = None) -> Ready:
    """Say that the only series is there from the declaration on, where there can be but one."""
    return () if attributes or observe is not None else ({},)


def _combinations(ready: Ready) -> Iterator[Mapping[str, object]]:
    if not isinstance(ready, Mapping):
        yield from ready
    else:
        for values in product(*ready.values()):
            yield dict(zip(ready, values, strict=True))
