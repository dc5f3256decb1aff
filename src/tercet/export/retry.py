"""When a collector that is away is asked again."""

import random
from collections.abc import Callable
from time import monotonic

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_LAST_PAUSE = 0.1
# An application that seeds Python's own generator counts on what it gives.
_random = random.SystemRandom()


class Retry:
    """Wait after each try that fails: as long as the collector asks for, or twice as long each time.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._at = self._asked_until = 0.0
        self._first = self._pause = _FIRST_PAUSE

    def is_due(self) -> bool:
        """Say whether it may be asked now."""
        return self._clock() >= self._at

    def left(self) -> float:
        """Say how many seconds there are until then."""
        return max(0.0, self._at - self._clock())

    def failed(self, asked: float | None = None) -> None:
        """Take note of a try that has failed.

        Args:
            asked: Seconds for which the collector wants to be left alone, if it says so.
        """
        spread = _random.uniform(1.0, 1.2)  # so that a fleet does not come back at once
        self._at = self._clock() + (asked or min(self._pause, _LONGEST_PAUSE)) * spread
        self._asked_until = self._at if asked else 0.0
        self._pause *= 2

    def succeeded(self) -> None:
        """Take note of an answer: the next pause is a short one again."""
        self._pause = self._first

    def now(self, *, even_if_asked: bool) -> None:
        """Try at once; a collector that has asked for a pause gets it, unless there is no other chance."""
        self._at = 0.0 if even_if_asked else self._asked_until

    def hurry(self) -> None:
        """Make short pauses from now on: the process is about to end."""
        self._first = self._pause = _LAST_PAUSE
