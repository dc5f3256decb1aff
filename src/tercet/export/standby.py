"""What must not wait while another thread waits for an answer."""

import math
import time
from collections.abc import Callable
from types import TracebackType

from tercet.export import native

# Seconds after which an answer is late, and between two looks whether it is.
PATIENCE = 1.0


class Standby:
    """Act while somebody waits for long; whoever waits does so inside of a `with`."""

    def __init__(self) -> None:
        self._since = math.inf
        self._over = native.Event()

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._since = math.inf

    def is_needed(self) -> bool:
        """Say whether somebody has been waiting for too long."""
        return time.monotonic() - self._since > PATIENCE

    def run(self, act: Callable[[], object]) -> None:
        """Act whenever it is needed, once a second, until it ends."""
        while not self._over.wait(PATIENCE):
            if self.is_needed():
                act()

    def end(self) -> None:
        """Let it end."""
        self._over.set()
