"""The metrics that a process has declared, one ledger a name, and what becomes of their misuse."""

import logging
from collections.abc import Iterator
from contextlib import suppress

from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.metric import METRICS, METRICS_MISUSED, MOST_SERIES, Metric
from tercet.declare.names import metric_name
from tercet.declare.pace import Pace
from tercet.emit.distributions import Histograms, Summaries
from tercet.emit.events import Objectives
from tercet.emit.ledger import OVERFLOWED, Gauges, Ledger, Sums
from tercet.emit.metrics import TakesLedgers
from tercet.errors import MetricError

_logger = logging.getLogger("tercet")
#: What keeps the series of each kind of metric.
_LEDGERS: dict[str, type[Ledger]] = {
    "counter": Sums,
    "up_down_counter": Sums,
    "gauge": Gauges,
    "histogram": Histograms,
    "summary": Summaries,
}


def build_ledger(metric: Metric, most_series: int = MOST_SERIES) -> Ledger:
    """Make the ledger of a declared metric."""
    return _LEDGERS[metric.kind](metric, most_series)


class Registry:
    """Keep the metrics that are declared, and let the readers of a meter collect them once there is one.

    Attributes:
        raises: Whether misuse raises, as in development, or is counted.
        misused: Measurements that broke a rule, by metric and reason.
        objectives: What the code promises.
    """

    def __init__(self) -> None:
        self.raises = False
        self.misused = Sums(METRICS_MISUSED)
        self.objectives = Objectives()
        self._meter: TakesLedgers | None = None
        self._ledgers: dict[Metric, Ledger] = {}
        self._names: dict[str, Metric] = {}
        self._minutely = Pace()
        for metric in METRICS:
            self._clashing(metric)

    def declare(self, metric: Metric) -> tuple[Ledger, Metric | None]:
        """Return the ledger of a metric, and the one that has its name already: nobody collects it then.

        The same declaration gets the same ledger.

        Raises:
            MetricError: The declaration breaks a rule.
        """
        metric.check()
        other = self._clashing(metric)
        ledger = self._ledgers.get(metric)
        if ledger is None:  # Not made before it is needed: a ledger stays for the life of the process.
            ledger = self._ledgers.setdefault(metric, build_ledger(metric))
            if isinstance(ledger, Histograms):
                self.objectives.take(ledger)
        if other is None and self._meter is not None:
            self._meter.take(ledger)
        return ledger, other

    def _clashing(self, metric: Metric) -> Metric | None:
        """Take the names of a metric, its own and that of its series in Prometheus, if both are free."""
        series = metric_name(metric.name, metric.unit, metric.kind).removesuffix("_total")
        names = (metric.name.lower(), series)
        others = (known for name in names if (known := self._names.get(name, metric)) != metric)
        other = next(others, None)
        if other is None:
            self._names.update(dict.fromkeys(names, metric))
        return other

    def bind(self, meter: Meter, *, raises: bool) -> None:
        """Let the readers of a meter collect all that is declared, so far and from now on.

        Args:
            meter: Of the process.
            raises: Whether misuse raises from now on.
        """
        self.raises = raises
        if not isinstance(meter, TakesLedgers):
            _logger.warning(
                "The MeterProvider was made by somebody else and cannot collect metrics declared with tercet."
            )
            return
        self._meter = meter
        declared = map(self._ledgers.__getitem__, self.declared())
        for ledger in (OVERFLOWED, self.misused, self.objectives.events, *declared):
            meter.take(ledger)

    def declared(self) -> Iterator[Metric]:
        """Walk through what is declared and collected, in the order of declaration."""
        return (metric for metric in list(self._ledgers) if self._names.get(metric.name.lower()) == metric)

    def refuse(self, metric: Metric, reason: str, message: str) -> None:
        """Say that a metric was used against its rules.

        Raises:
            MetricError: With the message, where misuse raises.
        """
        if self.raises:
            raise MetricError(f"{metric.name}: {message}")
        self.count(metric, reason, message)

    def count(self, metric: Metric, reason: str, message: str) -> None:
        """Count a measurement that broke a rule, and say so at most once a minute."""
        self.misused.add(1, (metric.name, reason), INVALID_SPAN_CONTEXT)
        if self._minutely.allows():
            with suppress(Exception):  # The application's logging may be the trouble.
                _logger.warning("Metric %s: %s", metric.name, message)


#: The process' own.
REGISTRY = Registry()
