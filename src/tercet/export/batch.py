"""From single items to requests that the collector has taken: a bounded queue and one thread a signal.

Putting an item in costs the request path a few hundred nanoseconds and never waits. What the collector cannot
take now waits as compressed requests, bounded in bytes; what is dropped is counted by reason, never silently.
"""

import logging
import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from tercet.export.link import Answer
from tercet.export.spool import Parcel, Spool

T = TypeVar("T")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_CLOSING_PAUSE = 0.1
# How often to look for what another process has left on disk.
_LOOK_EVERY = 30.0
_NOT_NOW = Answer("later")

logger = logging.getLogger("tercet.export")


class Posts(Protocol):
    """What an outbox needs of a link."""

    def pack(self, body: bytes) -> bytes:
        """Compress a request."""
        ...

    def post(self, packed: bytes, timeout: float | None = None) -> Answer:
        """Send it."""
        ...


class Outbox(Generic[T]):
    """Send items in batches from a thread of its own.

    The thread starts with the first item, so that a process that only forks holds none; a forked child starts
    with nothing in its outbox, for what its parent took in is its parent's to send.

    Args:
        name: Of the thread, for those who look at threads.
        link: Where requests go.
        encode: From items to the bytes of one request.
        halve: From a request that is too large to two smaller ones; none when it is one item.
        queue_size: Items that may wait; more are dropped and counted.
        batch_size: Items in one request, at most.
        delay: Seconds that an item waits for company.
        max_bytes: Bytes that may wait in memory; the oldest are dropped beyond, and counted.
        spool: Where requests wait while the collector is away; in memory when not given.
    """

    def __init__(
        self,
        name: str,
        link: Posts,
        encode: Callable[[Sequence[T]], bytes],
        halve: Callable[[bytes], Sequence[Parcel]],
        *,
        queue_size: int,
        batch_size: int,
        delay: float,
        max_bytes: int,
        spool: Spool | None = None,
    ) -> None:
        self._name = name
        self._link = link
        self._encode = encode
        self._halve = halve
        self._queue_size = queue_size
        self._batch_size = min(batch_size, queue_size)
        self._delay = delay
        self._max_bytes = max_bytes
        self._spool = spool
        if spool is not None:
            spool.tell_dropped = self._count_dropped
        self._start_empty()
        os.register_at_fork(after_in_child=self._start_empty)

    def _start_empty(self) -> None:
        self._queue: deque[T] = deque()
        self._waiting: deque[Parcel] = deque()
        self._waiting_bytes = 0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._wake = threading.Event()
        self._moved = threading.Condition()
        self._settled = 0
        self._closed = self._stopped = self._told_of_disk = False
        self._is_down = False
        self._try_at = self._look_at = 0.0
        self._pause = _FIRST_PAUSE
        self._failures = 0
        self._post_timeout: float | None = None
        self._packing = 0
        self.delivered = 0
        self.dropped: Counter[str] = Counter()

    def put(self, item: T) -> None:
        """Take one item in, or drop and count it; never wait."""
        queue = self._queue
        if self._closed or len(queue) >= self._queue_size:
            self.dropped["shutdown" if self._closed else "queue_full"] += 1
            return
        queue.append(item)
        if len(queue) == self._batch_size:
            self._wake.set()
        if self._thread is None:
            self._start()

    def backlog(self) -> int:
        """Count the items that are neither delivered nor dropped yet."""
        return len(self._queue) + self._packing + sum(parcel.count for parcel in tuple(self._waiting))

    def flush(self, timeout: float) -> bool:
        """Send what is waiting now, and wait for it, but not for a collector that is away.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether all of it is out of here: delivered, spooled, or dropped and counted.
        """
        target, failures = self._settled + self.backlog(), self._failures
        self._try_at = self._look_at = 0.0
        self._wake.set()
        with self._moved:
            self._moved.wait_for(lambda: self._settled >= target or self._failures > failures, timeout)
        return self._settled >= target

    def close(self, timeout: float) -> bool:
        """Take nothing more in, send what is waiting, and stop.

        A collector that was away before gets one more try; one that goes away now gets the whole time.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether everything is out of here in time; what is not is dropped and counted.
        """
        deadline, was_down = time.monotonic() + timeout, self._is_down
        self._post_timeout = timeout
        self._closed = True
        sent = self._thread is None or self.flush(timeout)
        while not sent and not was_down and time.monotonic() < deadline:
            time.sleep(min(_CLOSING_PAUSE, timeout))
            sent = self.flush(deadline - time.monotonic())
        self._stopped = True
        self._wake.set()
        self.dropped["shutdown"] += self.backlog()
        return sent

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        # What sending does is no work of the application's: no spans, no log records of it.
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        while not self._stopped:
            self._wake.wait(self._delay if not self._waiting else self._until_next_try())
            self._wake.clear()
            self._pack_queue()
            self._send_waiting()
            self._send_spooled()

    def _until_next_try(self) -> float:
        return min(self._delay, max(0.0, self._try_at - time.monotonic()))

    def _pack_queue(self) -> None:
        queue = self._queue
        while queue:
            items = [queue.popleft() for _ in range(min(len(queue), self._batch_size))]
            self._packing = len(items)
            try:
                self._keep(Parcel(self._link.pack(self._encode(items)), len(items)))
            except Exception as error:
                logger.warning("%d items could not be encoded: %r", len(items), error)
                self._drop("encode_failed", len(items))
            self._packing = 0

    def _keep(self, parcel: Parcel) -> None:
        if self._is_down and self._spooled(parcel):
            return
        self._waiting.append(parcel)
        self._waiting_bytes += len(parcel.packed)
        while self._waiting_bytes > self._max_bytes:
            self._drop("too_many_bytes", self._forget(self._waiting.popleft()))

    def _forget(self, parcel: Parcel) -> int:
        self._waiting_bytes -= len(parcel.packed)
        return parcel.count

    def _spooled(self, parcel: Parcel) -> bool:
        if self._spool is None:
            return False
        try:
            self._spool.add(parcel)
        except OSError as error:
            self._tell_of_disk(error)
            return False
        self._settled_by(parcel.count)
        return True

    def _tell_of_disk(self, error: OSError) -> None:
        if not self._told_of_disk:
            self._told_of_disk = True
            logger.warning("The spool cannot be written: %s. What waits, waits in memory.", error.strerror)

    def _send_waiting(self) -> None:
        while self._waiting and self._may_try():
            parcel = self._waiting[0]
            answer = self._post(parcel)
            if answer.kind == "later":
                break
            self._forget(self._waiting.popleft())
            self._settled_by(parcel.count)
            self._account(parcel, answer)
        while self._is_down and self._waiting and self._spooled(self._waiting[0]):
            self._forget(self._waiting.popleft())

    def _send_spooled(self) -> None:
        """Send what waits on disk: after an outage, and what a process that is no more has left there."""
        if self._spool is None or self._waiting or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_EVERY
        for claim in self._spool.take():
            answer = self._post(claim.parcel) if self._may_try() else _NOT_NOW
            if answer.kind == "later":
                claim.back()
                self._look_at = self._try_at
                return
            claim.done()
            self._account(claim.parcel, answer)

    def _may_try(self) -> bool:
        return not self._stopped and time.monotonic() >= self._try_at

    def _post(self, parcel: Parcel) -> Answer:
        answer = self._link.post(parcel.packed, self._post_timeout)
        self._is_down = answer.kind == "later"
        if self._is_down:
            self._try_later(answer.wait or 0.0)
            self._failed()
        else:
            self._pause = _FIRST_PAUSE
        return answer

    def _failed(self) -> None:
        with self._moved:
            self._failures += 1
            self._moved.notify_all()

    def _try_later(self, asked: float) -> None:
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - so that a fleet does not come back at once
        self._try_at = time.monotonic() + max(min(self._pause, _LONGEST_PAUSE) * spread, asked)
        self._pause *= 2

    def _account(self, parcel: Parcel, answer: Answer) -> None:
        if answer.kind == "refused":
            self.dropped["refused"] += parcel.count
        elif answer.kind == "too_large":
            self._send_halves(parcel)
        else:
            self.delivered += parcel.count - answer.rejected
            self.dropped["rejected"] += answer.rejected

    def _send_halves(self, parcel: Parcel) -> None:
        halves = self._halve(parcel.packed) if parcel.count > 1 else ()
        if not halves:
            self.dropped["too_large"] += parcel.count
        for half in halves:
            self._settled -= half.count  # They are still to be sent.
            self._waiting.appendleft(half)
            self._waiting_bytes += len(half.packed)

    def _count_dropped(self, reason: str, count: int) -> None:
        self.dropped[reason] += count

    def _drop(self, reason: str, count: int) -> None:
        self._count_dropped(reason, count)
        self._settled_by(count)

    def _settled_by(self, count: int) -> None:
        with self._moved:
            self._settled += count
            self._moved.notify_all()
