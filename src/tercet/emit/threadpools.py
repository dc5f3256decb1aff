"""Where work waits for a thread: of a pool of the standard library, asyncio's own too, or of anyio."""

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.usage import THREADS_LIMIT, THREADS_USED, THREADS_WAIT, THREADS_WAITING
from tercet.emit.forks import in_children
from tercet.emit.metrics import build_recorder
from tercet.emit.snapshot import Reading, Snapshot, Sums

# Python numbers its pools, and one that is made for each request would be a series of its own.
_NUMBER = re.compile(r"[-_]\d+$")


class ThreadPools:
    """Measure every `ThreadPoolExecutor` that work is handed to, asyncio's own too, and anyio's threads.

    Pools of the same name are told as one.

    Attributes:
        limiter: What anyio, and so Starlette and FastAPI, limits its threads with; None where nothing does.
    """

    def __init__(self, meter: Meter) -> None:
        self._wait = build_recorder(meter, THREADS_WAIT)
        self._start_anew()
        in_children(self._start_anew)
        Snapshot(meter, (THREADS_LIMIT, THREADS_USED, THREADS_WAITING), self._readings)

    def _start_anew(self) -> None:
        # None of its parent's threads are in a forked child.
        self._names: WeakKeyDictionary[ThreadPoolExecutor, str] = WeakKeyDictionary()
        self.limiter: Any = None

    def timed(self, pool: ThreadPoolExecutor, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return what does `work` and records how long it has waited for a thread of `pool`."""
        try:
            name = self._names.get(pool)
            if name is None:
                name = self._names[pool] = _NUMBER.sub("", getattr(pool, "_thread_name_prefix", ""))
        except TypeError:  # A class that refines it may be one that nobody can remember.
            return work
        record, submitted = self._wait.record, perf_counter()

        def run(*args: Any, **kwargs: Any) -> Any:
            with suppress(Exception):  # of a foreign meter; the work must be done.
                record(perf_counter() - submitted, (name,), INVALID_SPAN_CONTEXT)
            return work(*args, **kwargs)

        return run

    def _readings(self) -> Iterable[Reading]:
        found = Sums()
        for reference in self._names.keyrefs():
            pool = reference()
            # All of this is Python's inside: where it is not as it was, there is nothing to say.
            with suppress(AttributeError, KeyError):
                if pool is not None and not pool._shutdown:
                    name = self._names[pool]
                    idle = pool._idle_semaphore._value
                    found.add(THREADS_LIMIT, (name,), pool._max_workers)
                    found.add(THREADS_USED, (name,), max(0, len(pool._threads) - idle))
                    found.add(THREADS_WAITING, (name,), pool._work_queue.qsize())
        limiter = self.limiter
        if limiter is not None:
            if limiter.total_tokens != float("inf"):
                found.add(THREADS_LIMIT, ("anyio",), limiter.total_tokens)
            found.add(THREADS_USED, ("anyio",), limiter.borrowed_tokens)
            found.add(THREADS_WAITING, ("anyio",), limiter.statistics().tasks_waiting)
        return found.readings()
