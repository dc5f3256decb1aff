"""What must not wait while another thread waits for an answer."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from tercet.export import native

# Seconds after which an answer is late, and between two looks whether it is.
PATIENCE = 1.0


class Standby:
    """Act while somebody waits for long; whoever waits does so inside of a `with`.

    Args:
        act: What to do, once a second for as long as it is needed.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self._since = math.inf
        self._over = native.Event()
        self._thread: native.Joinable | None = None

    def start(self, name: str) -> None:
        """Begin, in a thread of that name; where there are too many of them, nobody acts."""
        with suppress(RuntimeError):
            self._thread = native.start_thread(self._run, name)

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._since = math.inf

    def is_needed(self) -> bool:
        """Say whether somebody has been waiting for too long; nobody has once it ends."""
        return time.monotonic() - self._since > PATIENCE and not self._over.is_set()

    def _run(self) -> None:
        while not self._over.wait(PATIENCE):
            if self.is_needed():
                self._act()

    def end(self) -> None:
        """Act no more."""
        self._over.set()

    def join(self, timeout: float) -> None:
        """Wait until what is being done is done, or the time is up."""
        if self._thread is not None:
            self._thread.join(timeout)
