"""How often something is said that could be said for every request."""

from collections.abc import Callable
from time import monotonic


class Pace:
    """Let something happen at once, and then at most once in a while.

    >>> minutely = Pace(60, clock=iter([0, 59, 60]).__next__)
    >>> minutely.allows(), minutely.allows(), minutely.allows()
    (True, False, True)

    Args:
        seconds: The while.
        clock: Seconds that only go forward.
    """

    def __init__(self, seconds: float = 60.0, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next: float | None = None

    def allows(self) -> bool:
        """Say whether it may happen now; it is taken to happen then."""
        now = self._clock()
        if self._next is not None and now < self._next:
            return False
        self._next = now + self._seconds
        return True
