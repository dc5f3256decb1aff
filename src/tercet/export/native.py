"""Threads and locks of the operating system, also where gevent has put greenlets in their place.

What is sent must not wait for the application's greenlets, nor they for it: a lock of the one kind blocks the
other for good. So whoever sends uses these, whether gevent patches before or after.
"""

import _thread
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType, TracebackType
from typing import Any, Protocol


def _original(module: ModuleType, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    return getattr(module, name) if monkey is None else monkey.get_original(module.__name__, name)


Lock: Callable[[], Any] = _original(_thread, "allocate_lock")
SimpleQueue = _original(queue, "SimpleQueue")
sleep: Callable[[float], None] = _original(time, "sleep")
RLock: Callable[[], Any] = _original(_thread, "RLock")
_start_new_thread: Callable[..., int] = _original(_thread, "start_new_thread")


class Condition:
    """Wait until something is so, as with a condition of `threading`; a signal's handler may do so, too."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._waiters: deque[Any] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until the predicate holds or the time is up, and say whether it holds; to be called inside."""
        deadline = time.monotonic() + timeout
        while not predicate():
            waiter = Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            held = self._lock._release_save()
            try:
                in_time = waiter.acquire(
                    True, max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
                )
            finally:
                self._lock._acquire_restore(held)
            if not in_time:
                return predicate()
        return True

    def notify_all(self) -> None:
        """Wake all who wait; to be called inside."""
        while self._waiters:
            self._waiters.popleft().release()


class Event:
    """Something that happens once."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._is_set = False

    def is_set(self) -> bool:
        """Say whether it has happened."""
        return self._is_set

    def set(self) -> None:
        """Let it happen."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait for it, and say whether it has happened."""
        with self._changed:
            return self._changed.wait_for(self.is_set, timeout)


class Joinable(Protocol):
    """A thread that has been started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended or the time is up."""
        ...


class _Thread:
    def __init__(self, target: Callable[[], object]) -> None:
        self._target = target
        self._ended = Event()
        _start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._ended.set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(threading.TIMEOUT_MAX if timeout is None else timeout)


class _Unpatched(threading.Thread):
    def _delete(self) -> None:
        # Where gevent has patched since it was started, it has another identity now than it began with.
        with suppress(KeyError):
            super()._delete()  # type: ignore[misc] # of threading's inside


def start_thread(target: Callable[[], object], name: str | None = None) -> Joinable:
    """Run something in a thread that holds up no end of the process.

    Raises:
        RuntimeError: There are too many; and Python 3.12.0 to 3.12.2 start none at exit.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _Thread(target)
    thread = _Unpatched(target=target, name=name, daemon=True)
    thread.start()
    return thread
