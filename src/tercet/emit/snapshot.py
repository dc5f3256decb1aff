"""One reading for all instruments of one collection."""

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from tercet.declare.metric import Metric, Values
from tercet.declare.pace import Pace
from tercet.emit.forks import in_children

logger = logging.getLogger("tercet")
_minutely = Pace()
#: One value of one series.
Reading = tuple[Metric, Values, float]
Read = Callable[[], Iterable[Reading]]


class Snapshot:
    """Instruments that share what is read: a file is read once a collection, not once an instrument.

    A reader of metrics asks each instrument once. So a reading serves each of them once, and whoever asks a
    second time belongs to a later collection, or to another reader.

    Args:
        meter: What makes the instruments.
        metrics: What is read, none of them a histogram.
        read: Reads all of it; what it leaves out has no series.
    """

    def __init__(self, meter: Meter, metrics: Sequence[Metric], read: Read) -> None:
        create = {
            "counter": meter.create_observable_counter,
            "up_down_counter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }
        self._read = read
        self._names = [metric.name for metric in metrics]
        self._start_anew()
        in_children(self._start_anew)
        for metric in metrics:
            create[metric.kind](metric.name, [partial(self._observe, metric.name)], metric.unit, metric.help)

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._served = set(self._names)
        self._found: Mapping[str, Sequence[Observation]] = {}

    def _observe(self, name: str, _options: CallbackOptions) -> Sequence[Observation]:
        with self._lock:
            if name in self._served:
                self._found = self._taken()
                self._served = set()
            self._served.add(name)
            return self._found.get(name, ())

    def _taken(self) -> Mapping[str, Sequence[Observation]]:
        found: dict[str, list[Observation]] = {}
        try:
            for metric, values, number in self._read():
                found.setdefault(metric.name, []).append(Observation(number, metric.named(values)))
        except Exception as error:  # It would be said for each instrument.
            if _minutely.allows():
                logger.warning("What this process uses could not all be measured: %r", error)
        return found


class Sums:
    """Add up what has the same attributes, for a series has one value."""

    def __init__(self) -> None:
        self._found: defaultdict[tuple[Metric, Values], float] = defaultdict(int)

    def add(self, metric: Metric, values: Values, number: float) -> None:
        """Add to one series."""
        self._found[metric, values] += number

    def readings(self) -> Iterator[Reading]:
        """Walk through the series."""
        for (metric, values), number in self._found.items():
            yield metric, values, number
