"""Where work waits if its author says so: for a lock, in a queue."""

import asyncio
import functools
import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.usage import (
    LOCK_WAIT,
    QUEUE_AGE,
    QUEUE_LENGTH,
    QUEUE_LIMIT,
)
from tercet.emit.metrics import Recorder, build_recorder
from tercet.emit.snapshot import Reading, Snapshot, Sums


@functools.cache
def _lock_wait() -> Recorder:
    return build_recorder(metrics.get_meter("tercet.usage"), LOCK_WAIT)


class ObservedLock:
    """A lock that measures how long it was waited for, whenever it was not free at once.

    It costs half a microsecond more than the lock that it is made of, where that is free.

    >>> lock = ObservedLock("stock")
    >>> with lock:
    ...     lock.locked()
    True

    Args:
        name: What the lock is called in metrics; one of few.
        lock: What it is made of: a `threading.Lock` when not given, or an `RLock`.
    """

    def __init__(self, name: str, lock: Any = None) -> None:
        self._name = name
        self._lock = threading.Lock() if lock is None else lock

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, as `threading.Lock` does."""
        if self._lock.acquire(False):
            return True
        if not blocking:
            return False
        started = perf_counter()
        is_taken = bool(self._lock.acquire(timeout=timeout))
        with suppress(Exception):  # of a foreign meter; whoever has the lock must know it.
            _lock_wait().record(perf_counter() - started, (self._name,), INVALID_SPAN_CONTEXT)
        return is_taken

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def locked(self) -> bool:
        """Say whether somebody has it."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        return self._lock.acquire(False) or self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class _Observed(NamedTuple):
    """How a queue is called, and when what waits in it came; None where that is not known."""

    name: str
    arrivals: deque[float] | None


class Queues:
    """Measure queues: how many items wait in them, and how long the oldest has."""

    def __init__(self, meter: Meter) -> None:
        self._queues: WeakKeyDictionary[Any, _Observed] = WeakKeyDictionary()
        Snapshot(meter, (QUEUE_LENGTH, QUEUE_LIMIT, QUEUE_AGE), self._readings)

    def add(self, name: str, waiting: Any) -> None:
        """Measure a queue from now on, as long as it is there."""
        if waiting not in self._queues:
            is_first_in_first_out = type(waiting) in (queue.Queue, asyncio.Queue)
            arrivals = _note_arrivals(waiting) if is_first_in_first_out else None
            self._queues[waiting] = _Observed(name, arrivals)

    def _readings(self) -> Iterator[Reading]:
        sums, oldest, now = Sums(), dict[str, float](), monotonic()
        for reference in self._queues.keyrefs():
            waiting = reference()
            if waiting is None:
                continue
            name, arrivals = self._queues[waiting]
            with suppress(NotImplementedError):  # What processes share cannot be counted on macOS.
                sums.add(QUEUE_LENGTH, (name,), _size(waiting))
            if getattr(waiting, "maxsize", 0) > 0:
                sums.add(QUEUE_LIMIT, (name,), waiting.maxsize)
            if arrivals is not None:
                oldest.setdefault(name, now)
                with suppress(IndexError):
                    oldest[name] = min(oldest[name], arrivals[0])
        yield from sums.readings()
        for name, arrived in oldest.items():
            yield QUEUE_AGE, (name,), now - arrived


def _note_arrivals(waiting: Any) -> deque[float]:
    """Keep the time at which each item came, through what queues have for classes that refine them."""
    arrivals: deque[float] = deque()
    put, get = waiting._put, waiting._get

    def noting_put(item: Any) -> None:
        arrivals.append(monotonic())
        put(item)

    def noting_get() -> Any:
        with suppress(IndexError):
            arrivals.popleft()
        return get()

    with getattr(waiting, "mutex", nullcontext()):
        arrivals.extend([monotonic()] * _size(waiting))
        waiting._put, waiting._get = noting_put, noting_get
    return arrivals


def _size(waiting: Any) -> int:
    """Count what waits, without the lock that `queue.Queue` takes for it."""
    return int(getattr(waiting, "_qsize", waiting.qsize)())


@functools.cache
def _queues() -> Queues:
    return Queues(metrics.get_meter("tercet.usage"))


def observe_queue(name: str, waiting: Any) -> None:
    """Measure how many items wait in a queue, and how long the oldest has, as long as the queue is there.

    The age is known of `queue.Queue` and `asyncio.Queue` as they are, and not of classes that refine them.

    >>> observe_queue("mail", queue.Queue())

    Args:
        name: What the queue is called in metrics; one of few. Queues of the same name are told as one.
        waiting: Anything with a `qsize()` that weak references can lead to.
    """
    _queues().add(name, waiting)
