"""The end of a process: what is waiting is sent before it goes, however it goes."""

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

from tercet.configure.program import is_child
from tercet.export import native

logger = logging.getLogger("tercet")

# After all of the application's own finalizers, for they may still say something.
_LAST = -1_000_000
# Seconds that a signal holds up the thread that it interrupts.
_PATIENCE = 0.5
# Who forks processes that end by `os._exit`, and so without `atexit`; both have multiprocessing's finalizers.
_FORKERS = ("multiprocessing.process", "billiard.process")


def setup_exit(shutdown: Callable[[], object], flush: Callable[[], object]) -> None:
    """Call `shutdown` when the process ends, by itself, by SIGTERM, or as a child of a pool of processes.

    Args:
        shutdown: Sends what is waiting, in limited time; called once or more.
        flush: Does so, too, and in less time, where the process may go on.
    """
    in_the_end = _Shutdown(shutdown)
    atexit.register(in_the_end.at_exit)
    _setup_sigterm(in_the_end, flush)
    _Finalizing(shutdown)


def _setup_sigterm(shutdown: "_Shutdown", flush: Callable[[], object]) -> None:
    """Send what is waiting at SIGTERM, and then let come what would have come.

    Its default ends the process at once, and whoever has taken it earlier may do so. Who ignores it goes on
    doing so. Who takes it later has it; uvicorn gives it back after its own graceful end.
    """
    earlier = signal.getsignal(signal.SIGTERM)
    is_default = earlier is signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or not (is_default or callable(earlier)):
        return

    def end(number: int, frame: FrameType | None) -> None:
        is_last = is_default and signal.getsignal(number) is end
        if is_last and shutdown.is_done(number):
            _die(number)
        if not is_last:
            _attempt(flush)
        if callable(earlier) and not is_default:
            earlier(number, frame)
        # Or else whoever has taken it since calls the handler that it found, and goes on as it likes.

    signal.signal(signal.SIGTERM, end)


def _die(number: int) -> None:
    """Let a signal have its default."""
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)
    # The first process of a container outlives a signal's default.
    os._exit(128 + number)


class _Shutdown:
    """Shut down at the end, or beside the thread that a signal interrupts.

    For that one may hold what it takes to shut down: a lock within a measurement or a log line, for example.
    So it is let go on after a while, and the signal comes again when all is done, or when its end comes.
    """

    def __init__(self, shutdown: Callable[[], object]) -> None:
        self._shutdown = shutdown
        self._begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        self._has_begun = False
        self._to_come = 0
        self._done = native.Event()

    def at_exit(self) -> None:
        """Shut down; a signal that has come meanwhile ends the process, as it would have."""
        self._shutdown()
        if self._to_come:
            for stream in (sys.stdout, sys.stderr):
                with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
                    stream.flush()
            _die(self._to_come)

    def is_done(self, number: int) -> bool:
        """Begin, if nobody has, and say whether it is done; if not, the signal comes again when it is."""
        if not self._has_begun:
            self._has_begun = True
            try:
                native.start_thread(lambda: self._run(number))
            except RuntimeError:  # Python 3.12.0 to 3.12.2 start no threads at exit.
                self._run(number)
        if not self._done.wait(_PATIENCE):
            self._to_come = number
        return self._done.is_set()

    def _run(self, number: int) -> None:
        _attempt(self._shutdown)
        self._done.set()
        if self._to_come:
            os.kill(os.getpid(), number)


def _attempt(act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:  # The signal's own meaning must not be lost with it.
        logger.warning("Telemetry could not be sent at SIGTERM: %r", error)


class _Finalizing:
    """Shut down in children that end without `atexit`: those of multiprocessing, of billiard and of Celery.

    Nothing of these is imported for those who do not use it, so it is looked for whenever something forks.
    """

    def __init__(self, shutdown: Callable[[], object]) -> None:
        self._shutdown = shutdown
        self._asked: set[str] = set()
        if any(is_child(name) for name in _FORKERS):
            _finalize(self)
        self._ask()  # A child of a fork server is set up before it begins to be one.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._ask)

    def _ask(self) -> None:
        if any(self._is_new(name) for name in _FORKERS):
            # A child forgets its parent's finalizers, then runs this.
            import_module("multiprocessing.util").register_after_fork(self, _finalize)
            self._asked.update(_FORKERS)
        if self._is_new("celery.signals"):
            self._asked.add("celery.signals")
            sys.modules["celery.signals"].worker_process_shutdown.connect(self._end_worker, weak=False)

    def _is_new(self, name: str) -> bool:
        return name in sys.modules and name not in self._asked

    def _end_worker(self, **_kwargs: Any) -> None:
        """Shut a worker of Celery's pool down, which asks no finalizers."""
        self._shutdown()


def _finalize(finalizing: _Finalizing) -> None:
    import_module("multiprocessing.util").Finalize(None, finalizing._shutdown, exitpriority=_LAST)
