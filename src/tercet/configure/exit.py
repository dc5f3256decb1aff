"""The end of a process: what is waiting is sent before it goes, however it goes."""

import atexit
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def setup_exit(shutdown: Callable[[], object]) -> None:
    """Call `shutdown` when the process ends, by itself or by SIGTERM.

    SIGTERM's default would end the process at once. Where nobody else has taken it by now, it is taken, and
    done in the end; uvicorn too gives it back so, after its own graceful end. Who takes it later has it.
    """
    atexit.register(shutdown)
    is_free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_free and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ending_by(shutdown))


def _ending_by(shutdown: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
    def end(number: int, _frame: FrameType | None) -> None:
        try:
            shutdown()
        finally:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            # The first process of a container outlives a signal's default.
            os._exit(128 + number)

    return end
