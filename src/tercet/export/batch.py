"""From single items to requests that the collector has taken: a bounded queue and one thread a signal.

Putting an item in costs the request path a few hundred nanoseconds and never waits. What the collector cannot
take now waits as compressed requests, bounded in bytes; what is dropped is counted by reason, never silently.
At any moment, what was put in is what is delivered, dropped, spooled and in the backlog, added up.
"""

import math
import os
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, attach, set_value

from tercet.export import native
from tercet.export.answer import Answer
from tercet.export.haste import Hunger, times_woken
from tercet.export.parcels import Parcels
from tercet.export.retry import Retry
from tercet.export.spool import Claim, Parcel, Spool
from tercet.export.standby import Standby

T = TypeVar("T")

# How often to look for what another process has left on disk.
_LOOK_EVERY = 30.0
# Of the time for closing: to deliver, and to wait for the thread; in what is left, the rest is saved.
_DELIVERING = 0.85
_ENDING = 0.9
# Up to here the number of items bounds their bytes; to count all of them would cost each request a lock.
_LIGHT = 1024
# Why the thread is woken: a batch is full, its items are heavy, somebody waits for it, or nobody says.
_FULL, _HEAVY, _ASKED, _TIME = "full", "heavy", "asked", "time"
_TOLD_BY_LINK = frozenset({"refused", "rejected"})


@dataclass(frozen=True, slots=True)
class Account:
    """What became of all that was made for export here, at one moment.

    Attributes:
        created: All of it: what is delivered, dropped, spooled and waiting, added up.
        delivered: What the collector has taken.
        dropped: What nobody will get, by reason.
        waiting: What is in memory.
        spool_bytes: What is on disk, of all processes that share it.
    """

    created: int
    delivered: int
    dropped: Mapping[str, int]
    waiting: int = 0
    spool_bytes: int | None = None


class Posts(Protocol):
    """What an outbox needs of a link."""

    #: Told how many seconds each request took, and what became of it.
    observe: Callable[[float, Answer], None]

    def pack(self, body: bytes) -> bytes:
        """Compress a request."""
        ...

    def post(self, packed: bytes, timeout: float = math.inf, at_stake: int | None = None) -> Answer:
        """Send it, and say how many of its items are lost where that fails."""
        ...

    def tell(self, what: str) -> bool:
        """Say something, at most once a minute; return whether it was said."""
        ...


class Outbox(Generic[T]):
    """Send items in batches from a thread of its own.

    The thread starts with the first item, so that a process that only forks holds none, or at once for what
    an earlier process left on disk. Where there is a spool, a second one stands by, so that nothing waits in
    memory for as long as a collector may take to answer. A forked child starts with nothing in its outbox,
    for what its parent took in is its parent's to send.

    Args:
        name: Of the thread, for those who look at threads.
        link: Where requests go.
        encode: From items to the bytes of one request.
        halve: From a request that is too large to two smaller ones; none when it is one item.
        weigh: From an item to the bytes that it holds, roughly.
        queue_size: Items that may wait; more are dropped and counted.
        batch_size: Items in one request, at most.
        batch_bytes: Bytes in one request before it is packed, at most, unless a single item has more.
        delay: Seconds that an item waits for company.
        max_bytes: Bytes of packed requests that may wait in memory, of which the oldest are dropped beyond;
            and as many bytes of items that hold more than 1 KiB each, of which the newest are.
        spool: Where requests wait while the collector is away; in memory when not given.
    """

    def __init__(
        self,
        name: str,
        link: Posts,
        encode: Callable[[Sequence[T]], bytes],
        halve: Callable[[bytes], Sequence[Parcel]],
        *,
        weigh: Callable[[T], int] = lambda item: 0,
        queue_size: int,
        batch_size: int,
        batch_bytes: int = 2**62,
        delay: float,
        max_bytes: int,
        spool: Spool | None = None,
    ) -> None:
        self._name = name
        self.link = link
        self._encode = encode
        self._halve = halve
        self._weigh = weigh
        self._batch_bytes = batch_bytes
        self._queue_size = queue_size
        self._batch_size = min(batch_size, queue_size)
        self._delay = delay
        self._max_bytes = max_bytes
        self._spool = spool
        self._closed = False
        self._start_empty()
        os.register_at_fork(after_in_child=self._start_empty)
        if spool is not None:
            spool.tell_dropped = self._count_from_disk
            if spool.bytes():
                self._wake.put(_ASKED)
                self._start()

    def _start_empty(self) -> None:
        # Held whenever items move on, so that what moves is neither missed nor counted twice.
        # A signal's handler may put an item in while its own thread holds it: a condition's lock allows that.
        self._moved = native.Condition()
        self._starting = native.Lock()
        # Unlike an event's, its `put` can be interrupted by a signal's handler that puts, too.
        self._wake: queue.SimpleQueue[str] = native.SimpleQueue()
        self._queue: deque[T] = deque()
        # Held by whoever packs: the thread, or the one that stands by.
        self._packing_turn = native.Lock()
        self._packing = 0
        self._heavy_bytes = self._heavy_packing = 0
        self._waiting = Parcels()
        self._standby = Standby(self._put_by)
        # What is on its way, and the claim to it if it was put by meanwhile.
        self._sending: Parcel | None = None
        self._held: Claim | None = None
        self._claims: Iterator[Claim] | None = None
        self._thread: native.Joinable | None = None
        self._stopped = self._given_up = False
        self._close_by = math.inf
        self._retry = Retry()
        self._is_down = False
        self._look_at = 0.0
        self._round = self._failed_round = self._settled = 0
        self._try_failed = False
        self._told = 0
        self._hunger = Hunger(self._batch_size)
        self.delivered = 0
        #: What this process has left on disk; below zero where it has sent what others left.
        self.spooled = 0
        self.dropped: Counter[str] = Counter()

    def put(self, item: T) -> None:
        """Take one item in, or drop and count it; never wait, never raise."""
        items = self._queue
        if self._closed or len(items) >= self._queue_size:
            self._drop("shutdown" if self._closed else "queue_full", 1)
            return
        weight = self._weigh(item)
        if weight > _LIGHT and not self._may_hold(weight):
            self._drop("too_many_bytes", 1)
            return
        items.append(item)
        # Of two threads that append at once both may see the higher length: the next multiple wakes then.
        if not len(items) % self._batch_size:
            if self._thread is not None:
                self._hunger.batch_is_full(len(items), self._round)
            self._wake.put(_FULL)
            if self._stopped:  # meanwhile, and the thread is no more
                self._hunger.calm_down()
        if self._thread is None:
            self._start()

    def refuse(self, reason: str, error: Exception) -> None:
        """Count one item that cannot be taken in, and say why, at most once a minute."""
        self._drop(reason, 1)
        self.link.tell(f"one item could not be encoded ({type(error).__name__})")

    def _may_hold(self, weight: int) -> bool:
        """Take a heavy item's bytes into account, if there is room for them."""
        with self._moved:
            if self._heavy_bytes + weight > self._max_bytes:
                return False
            self._heavy_bytes += weight
            if self._heavy_bytes - self._heavy_packing >= self._batch_bytes:
                self._wake.put(_HEAVY)
            return True

    def account(self) -> Account:
        """Say what became of all items that were put in; what others have left on disk is no one's here."""
        spool_bytes = self._spool.bytes() if self._spool is not None else None
        with self._moved:
            waiting, dropped = self.backlog(), dict(self.dropped)
            created = self.delivered + sum(dropped.values()) + self.spooled + waiting
            return Account(created, self.delivered, dropped, waiting, spool_bytes)

    def backlog(self) -> int:
        """Count the items that are neither delivered, spooled nor dropped yet."""
        with self._moved:
            return len(self._queue) + self._packing + self._waiting.count()

    def flush(self, timeout: float) -> bool:
        """Send what is waiting now, and wait for it, but not for a collector that is away.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether all of it is out of here: delivered, spooled, or dropped and counted.
        """
        return self._settle(timeout, patient=False)

    def close(self, timeout: float) -> bool:
        """Take nothing more in, send what is waiting, and stop.

        A collector that was away before gets one more try; one that goes away now gets the whole time.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether everything is out of here in time; what is not is spooled, or else dropped and counted.
        """
        began = time.monotonic()
        with self._moved:
            self._closed = True
            self._close_by = began + timeout * _DELIVERING
            self._retry.hurry()
        self._standby.end()
        self._settle(timeout * _DELIVERING, patient=not self._is_down)
        self._send_put_by()
        self._stopped = True
        self._wake.put(_TIME)
        for thread in (self._thread, self._standby):
            if thread is not None:
                thread.join(max(0.0, began + timeout * _ENDING - time.monotonic()))
        return self.save()

    def _send_put_by(self) -> None:
        """Wait while a collector that is there gets what this process has put on disk."""
        with self._moved:
            if self._thread is None or self.spooled <= 0:
                return
            self._look_at = 0.0
            self._wake.put(_ASKED)
            self._moved.wait_for(
                lambda: self._is_down or (self._claims is None and self._look_at > 0.0),
                self._close_by - time.monotonic(),
            )

    def _start(self) -> bool:
        """Start the thread, and return whether there is one."""
        if self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._thread = native.start_thread(self._run, self._name)
            except RuntimeError:  # There are too many; and Python 3.12.0 to 3.12.2 start none at exit.
                return False
            finally:
                self._starting.release()
        return True

    def _settle(self, timeout: float, *, patient: bool) -> bool:
        with self._moved:
            target, asked_in = self._settled + self.backlog(), self._round
            if self._settled == target:
                return True
        if self._start():
            self._wake.put(_ASKED)
        else:
            with self._starting:
                self._work(asked=True)
            timeout = 0.0
        with self._moved:
            self._moved.wait_for(
                lambda: self._settled >= target or (not patient and self._failed_round > asked_in), timeout
            )
            return self._settled >= target

    def save(self) -> bool:
        """Spool what the thread has not sent, or else drop it; what it still does counts no more."""
        with self._moved:
            self._given_up = True
            items = [self._queue.popleft() for _ in range(len(self._queue))]
            left = len(items) + self._packing + self._waiting.count()
            parcels = self._waiting.take_all()
            self._packing = 0
        if self._spool is not None and items:
            parcels += self._parcels(items)
        for parcel in parcels:
            if self._to_disk(parcel):
                self._note_spooled(parcel)
                left -= parcel.count
        self._lose("shutdown", left)
        return not left

    def _run(self) -> None:
        _belong_to_no_request()
        if self._spool is not None:
            self._standby.start(f"{self._name}-standby")
        while not self._stopped:
            woken = times_woken()
            why, began = self._woken(), time.monotonic()
            self._work(asked=why == _ASKED, whole=why != _FULL)
            self._hunger.turn_is_over(
                times_woken() - woken, time.monotonic() - began, waiting=len(self._queue)
            )
        self._hunger.calm_down()
        self._work(asked=False)  # Nothing is tried any more, so that what is left goes to the spool.

    def _woken(self) -> str:
        """Wait until there is something to do; return why, and that it is time where nobody says so."""
        try:
            return self._wake.get(timeout=self._rest())
        except queue.Empty:
            return _TIME

    def _rest(self) -> float:
        if self._claims is not None and self._may_try():
            return 0.0
        return min(self._delay, self._retry.left()) if self._waiting else self._delay

    def _work(self, *, asked: bool, whole: bool = True) -> None:
        self._round += 1
        if asked:
            self._retry.now(even_if_asked=self._closed)
            self._look_at = 0.0
        self._try_failed = asked and not self._may_try()
        try:
            self._pack_queue(whole)
            self._send_waiting()
            self._send_spooled()
            self._tell_losses()
        except Exception as error:  # The thread must live; an encoder or a disk can raise anything.
            self._retry.failed()
            self.link.tell(f"sending failed ({type(error).__name__})")
        if self._try_failed:
            with self._moved:
                self._failed_round = self._round
                self._moved.notify_all()

    def _pack_queue(self, whole: bool = True) -> None:
        """Pack what is there now, or as much of it as makes full batches.

        What comes meanwhile waits for company: under load, this thread would go on for ever with a few items
        at a time, and take the interpreter from the requests for each.
        """
        with self._packing_turn:
            left = len(self._queue)
            left -= 0 if whole else left % self._batch_size
            while left > 0 and (items := self._next_items(left)):
                left -= len(items)
                for parcel in self._parcels(items):
                    self._keep(parcel)
                with self._moved:
                    self._lose("encode_failed", self._packing)
                    self._heavy_bytes -= self._heavy_packing
                    self._packing = self._heavy_packing = 0

    def _next_items(self, most: int) -> list[T]:
        most = min(most, self._batch_size)
        with self._moved:
            if not self._heavy_bytes and most * _LIGHT <= self._batch_bytes:
                items = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
                self._packing = len(items)
                return items
            items = []
            left = self._batch_bytes
            while self._queue and len(items) < most:
                weight = self._weigh(self._queue[0])
                left -= weight
                if left < 0 and items:
                    break
                items.append(self._queue.popleft())
                self._heavy_packing += weight if weight > _LIGHT else 0
            self._packing = len(items)
        return items

    def _parcels(self, items: Sequence[T]) -> Iterator[Parcel]:
        """Encode items as one request, or as several without those that cannot be encoded."""
        try:
            packed = self.link.pack(self._encode(items))
        except Exception as error:  # An item can hold anything; the others are no worse for it.
            if len(items) == 1:
                self.link.tell(f"one item could not be encoded ({type(error).__name__})")
                return
            half = len(items) // 2
            yield from self._parcels(items[:half])
            yield from self._parcels(items[half:])
        else:
            yield Parcel(packed, len(items))

    def _keep(self, parcel: Parcel) -> None:
        with self._moved:
            if self._given_up:
                return  # `close` has counted it.
            self._packing -= parcel.count
            self._waiting.add(parcel)
        if not self._may_try() and self._move_to_disk(parcel):
            return
        with self._moved:
            for oldest in self._waiting.take_beyond(self._max_bytes, but=self._sending):
                self._lose("too_many_bytes", oldest.count)

    def _first(self) -> Parcel | None:
        with self._moved:
            return self._waiting.first()

    def _to_disk(self, parcel: Parcel) -> bool:
        if self._spool is None:
            return False
        try:
            self._spool.add(parcel)
        except OSError as error:
            self._tell_of_disk(error)
            return False
        return True

    def _tell_of_disk(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        self.link.tell(f"the spool cannot be written ({reason}); what waits, waits in memory")

    def _put_by(self) -> None:
        """Let wait on disk what waits in memory: a process may be killed before the collector answers."""
        _belong_to_no_request()
        try:
            self._pack_queue()
            with self._moved:
                parcels = list(self._waiting)
            for parcel in parcels:
                if self._standby.is_needed():
                    self._move_to_disk(parcel)
        except Exception as error:  # As for the thread that sends.
            self.link.tell(f"spooling failed ({type(error).__name__})")

    def _move_to_disk(self, parcel: Parcel) -> bool:
        """Let one that waits in memory wait on disk; one that is on its way is held there meanwhile."""
        if self._spool is None or not self._is_waiting(parcel):
            return False
        try:
            claim = self._spool.hold(parcel)
        except OSError as error:
            self._tell_of_disk(error)
            return False
        with self._moved:
            is_moved, is_on_its_way = self._is_waiting(parcel), parcel is self._sending
            if is_moved:
                self._waiting.remove(parcel)
                self._note_spooled(parcel)
                self._held = claim if is_on_its_way else self._held
        if not is_moved:
            claim.done()  # It was answered meanwhile, or `close` has put it by.
        elif not is_on_its_way:
            claim.back()
        return is_moved

    def _is_waiting(self, parcel: Parcel) -> bool:
        with self._moved:
            return not self._given_up and self._waiting.holds(parcel)

    def _begin_next(self) -> Parcel | None:
        with self._moved:
            self._sending = self._waiting.next()
            return self._sending

    def _send_waiting(self) -> None:
        while self._may_try() and (parcel := self._begin_next()):
            answer = self._post(parcel)
            halves = self._halves(parcel, answer)
            with self._moved:
                claim = self._held
                self._sending = self._held = None
                if claim is None:
                    self._settle_waiting(parcel, answer, halves)
            if claim is not None:
                self._settle_claim(claim, answer)
        while not self._may_try() and (parcel := self._first()) and self._move_to_disk(parcel):
            pass

    def _settle_waiting(self, parcel: Parcel, answer: Answer, halves: Sequence[Parcel]) -> None:
        """Write down what became of a request that is in memory."""
        if answer.kind == "later":
            self._waiting.pass_on()
        elif not self._given_up:  # Else `close` has counted it.
            self._waiting.remove(parcel)
            self._settle_by(parcel.count)
            if halves:
                self._send_first(halves)
            else:
                self._note(parcel, answer)

    def _send_spooled(self) -> None:
        """Send what waits on disk, for as long as no items wait for it to end."""
        if self._spool is None or self._waiting:
            return
        until = time.monotonic() + self._delay
        while self._may_try():
            if self._claims is None:
                if time.monotonic() < self._look_at:
                    return
                # Whoever leaves something there from now on calls for another look.
                self._look_at = time.monotonic() + _LOOK_EVERY
                self._claims = self._spool.take()
            claim = next(self._claims, None)
            if claim is None:
                self._end_look()
                continue
            self._settle_claim(claim, self._post(claim.parcel))
            if self._waiting or not self._wake.empty() or time.monotonic() > until:
                return

    def _end_look(self) -> None:
        with self._moved:
            self._claims = None
            self._moved.notify_all()

    def _settle_claim(self, claim: Claim, answer: Answer) -> None:
        """Write down what became of a request that is on disk."""
        if answer.kind == "later":
            # One that fails is left, and the next try is another's.
            self._look_at = 0.0
            claim.back()
            return
        parcel, halves = claim.parcel, self._halves(claim.parcel, answer)
        # On disk before the whole of them is gone: a process may be killed at any moment.
        in_memory = [half for half in halves if not self._to_disk(half)]
        with self._moved:
            if in_memory and self._given_up:  # Nobody sends them any more, and the whole of them is safe.
                claim.back()
                return
            if halves:
                self._look_at = 0.0
                self.spooled -= sum(half.count for half in in_memory)
                self._send_first(in_memory)
            else:
                self.spooled -= parcel.count
                self._note(parcel, answer)
        claim.done()

    def _may_try(self) -> bool:
        return not self._stopped and self._retry.is_due()

    def _post(self, parcel: Parcel) -> Answer:
        with self._standby:
            try:
                answer = self.link.post(parcel.packed, max(0.0, self._close_by - time.monotonic()))
            except Exception as error:  # It promises not to; then nobody knows whether it has arrived.
                self.link.tell(f"sending failed ({type(error).__name__})")
                answer = Answer("later", type(error).__name__)
        self._is_down = answer.kind == "later"
        if self._is_down:
            self._try_failed = True
            self._retry.failed(answer.wait)
        else:
            self._retry.succeeded()
        return answer

    def _halves(self, parcel: Parcel, answer: Answer) -> Sequence[Parcel]:
        if answer.kind != "too_large" or parcel.count == 1:
            return ()
        try:
            return self._halve(parcel.packed)
        except Exception:  # What cannot be read, as from a disk, cannot be sent in any size.
            return ()

    def _note(self, parcel: Parcel, answer: Answer) -> None:
        """Write down what became of a request."""
        rejected = min(answer.rejected, parcel.count)
        if answer.kind == "delivered":
            self.delivered += parcel.count - rejected
            self._drop("rejected", rejected)
        else:
            self._drop(answer.kind, parcel.count)

    def _send_first(self, halves: Sequence[Parcel]) -> None:
        for half in reversed(halves):
            self._waiting.add_first(half)
            self._settle_by(-half.count)

    def _note_spooled(self, parcel: Parcel) -> None:
        with self._moved:
            self.spooled += parcel.count
            self._look_at = 0.0
            self._settle_by(parcel.count)

    def _count_from_disk(self, reason: str, count: int) -> None:
        with self._moved:
            self.spooled -= count
            self._drop(reason, count)

    def _lose(self, reason: str, count: int) -> None:
        with self._moved:
            self._drop(reason, count)
            self._settle_by(count)

    def _drop(self, reason: str, count: int) -> None:
        with self._moved:
            if count:
                self.dropped[reason] += count

    def _settle_by(self, count: int) -> None:
        with self._moved:
            self._settled += count
            self._moved.notify_all()

    def _tell_losses(self) -> None:
        losses = {
            reason: count for reason, count in dict(self.dropped).items() if reason not in _TOLD_BY_LINK
        }
        lost = sum(losses.values())
        if lost > self._told:
            reasons = ", ".join(f"{reason} {count}" for reason, count in losses.items())
            if self.link.tell(f"{lost} items dropped so far ({reasons})"):
                self._told = lost


def _belong_to_no_request() -> None:
    """Let a thread do no work of the application's: no spans, no log records of it.

    Nor is it in the context of the request that happened to start it.
    """
    attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True, Context()))
