"""What holds a process up from within: its garbage collector, and whoever keeps its event loop."""

import asyncio
import functools
import gc
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from contextvars import Context
from time import perf_counter

from opentelemetry import metrics
from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.usage import GC_COLLECTED, GC_COLLECTIONS, GC_PAUSE, GC_UNCOLLECTABLE, LOOP_LAG
from tercet.emit.forks import in_children
from tercet.emit.metrics import Recorder, build_recorder
from tercet.emit.snapshot import Reading, Snapshot

_STATISTICS = (
    (GC_COLLECTIONS, "collections"),
    (GC_COLLECTED, "collected"),
    (GC_UNCOLLECTABLE, "uncollectable"),
)


class Pauses:
    """Count and add up pauses of the garbage collector, by generation and bucket, until somebody takes them.

    The collector may run anywhere, even in whoever records a measurement and holds its lock. So a pause is
    only noted here: one runs at a time, and what it notes replaces a pair at once.
    """

    def __init__(self) -> None:
        self.start_anew()

    def start_anew(self) -> None:
        """Forget all of them."""
        self._started = 0.0
        self._noted = self._nothing()
        self._taken = self._nothing()

    def _nothing(self) -> list[list[tuple[int, float]]]:
        return [[(0, 0.0)] * (len(GC_PAUSE.buckets) + 1) for _ in gc.get_stats()]

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """Take note of what the collector says of itself, as `gc.callbacks` has it."""
        if phase == "start":
            self._started = perf_counter()
        elif self._started:
            seconds = perf_counter() - self._started
            noted = self._noted[info["generation"]]
            bucket = bisect_left(GC_PAUSE.buckets, seconds)
            count, total = noted[bucket]
            noted[bucket] = count + 1, total + seconds

    def take(self) -> Iterator[tuple[int, int, float]]:
        """Walk through what is new: generation, how many pauses of one bucket, and how long they were each.

        Pauses of the same bucket are taken to be of the same length, which keeps their sum.
        """
        for generation, noted in enumerate(self._noted):
            for bucket, (count, total) in enumerate(noted):
                earlier, earlier_total = self._taken[generation][bucket]
                if count > earlier:
                    self._taken[generation][bucket] = count, total
                    yield generation, count - earlier, (total - earlier_total) / (count - earlier)


class GarbageCollection:
    """Measure how often, how long and with what success the garbage collector runs.

    A forked child starts at zero: what Python counts on in it was its parent's.
    """

    def __init__(self, meter: Meter) -> None:
        self._pause = build_recorder(meter, GC_PAUSE)
        self._before = [dict.fromkeys(statistics, 0) for statistics in gc.get_stats()]
        self._pauses = Pauses()
        gc.callbacks.append(self._pauses)
        in_children(self._start_anew)
        Snapshot(meter, [metric for metric, _ in _STATISTICS], self._readings)

    def _start_anew(self) -> None:
        self._before = gc.get_stats()
        self._pauses.start_anew()

    def stop(self) -> None:
        """Take note of no further pause."""
        gc.callbacks.remove(self._pauses)

    def _readings(self) -> Iterator[Reading]:
        self._record_pauses()
        for generation, now in enumerate(gc.get_stats()):
            for metric, name in _STATISTICS:
                yield metric, (generation,), now[name] - self._before[generation][name]

    def _record_pauses(self) -> None:
        for generation, count, seconds in self._pauses.take():
            for _ in range(count):
                self._pause.record(seconds, (generation,), INVALID_SPAN_CONTEXT)


class LoopWatch:
    """Measure how late an event loop is, four times a second.

    A timer is all there is in the loop: it keeps no loop running, and a loop that ends takes it along.

    Args:
        loop: Running here, or not running yet.
        lag: What it is recorded with.
        interval: Seconds between two measurements.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lag: Recorder, interval: float = 0.25) -> None:
        self._loop = loop
        self._lag = lag
        self._interval = interval
        # Not the current one, which may be that of the first request.
        self._context = Context()
        self._wait()

    def _wait(self) -> None:
        self._due = self._loop.time() + self._interval
        self._timer = self._loop.call_at(self._due, self._measure, context=self._context)

    def _measure(self) -> None:
        with suppress(Exception):  # of a foreign meter; the loop would be told of it.
            self._lag.record(max(0.0, self._loop.time() - self._due), (), INVALID_SPAN_CONTEXT)
        self._wait()

    def close(self) -> None:
        """Stop measuring: from within the loop, or when it has ended."""
        self._timer.cancel()


@functools.cache
def _lag() -> Recorder:
    return build_recorder(metrics.get_meter("tercet.usage"), LOOP_LAG)


def watch_event_loop(loop: asyncio.AbstractEventLoop | None = None) -> LoopWatch:
    """Measure how late an event loop is, until it ends or the watch that this returns is closed.

    The loop that an ASGI application is served in is watched already.

    Args:
        loop: Not running yet, or the running one when not given.

    Raises:
        RuntimeError: No loop is given, and none is running here.
    """
    return LoopWatch(loop or asyncio.get_running_loop(), _lag())
