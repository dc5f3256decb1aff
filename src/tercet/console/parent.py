"""A process that must not outlive the one that started it."""

import os
import threading
from collections.abc import Callable

_STDIN = 0


def when_parent_ends(stop: Callable[[], object]) -> None:
    """Call `stop` from another thread once stdin ends.

    The parent holds the other end of that pipe and never writes to it, so it ends with the parent however
    that happens, `kill -9` included.
    """
    threading.Thread(target=_wait, args=(stop,), daemon=True, name="tercet-parent").start()


def _wait(stop: Callable[[], object]) -> None:
    # Not sys.stdin: a thread inside its lock at interpreter exit is a fatal error.
    while os.read(_STDIN, 1024):
        pass
    stop()
