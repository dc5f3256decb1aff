"""What is said of a collector that is away: one line when it goes, one when it is back, one a minute."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress

_TELL_EVERY = 60.0

logger = logging.getLogger("tercet.export")


def say(message: str, *arguments: object) -> None:
    """Write a warning; whatever the application's own filters and handlers do with it, sending goes on."""
    with suppress(Exception):
        logger.warning(message, *arguments)


class Outage:
    """Tell in one line when the collector goes away, in one when it is back, and once a minute between.

    Of one that comes and goes, no more than one such pair a minute.

    Args:
        what: What cannot be delivered, and where to.
        meanwhile: What becomes of it: the beginning of a sentence that ends with the collector's return.
        clock: Seconds that only go forward.
    """

    def __init__(self, what: str, meanwhile: str, clock: Callable[[], float]) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._clock = clock
        self._since: float | None = None
        self._is_told = False
        self._times = self._lost = 0
        self._began_at = self._told_at = -math.inf

    def goes_on(self, reason: str, lost: int | None = None) -> None:
        """Take note of a try that failed.

        Args:
            reason: Why.
            lost: How many points are lost with it, where they are not kept and no later ones have them.
        """
        now = self._clock()
        if self._since is None:
            self._since = now
            self._times += 1
        self._lost += lost or 0
        if self._is_told:
            self.tell(f"still not delivered after {now - self._since:.0f} s{self._losses()}: {reason}")
        elif now - self._began_at >= _TELL_EVERY:
            # One that comes and goes fills no log: what began since the last such line is told in this one.
            often = f" ({self._times} times in {now - self._began_at:.0f} s)" if self._times > 1 else ""
            meanwhile = (
                self._meanwhile if lost is None else f"{self._lost} points are lost, the next are sent"
            )
            say(
                "Cannot deliver %s: %s%s. %s when the collector is back.",
                self._what,
                reason,
                often,
                meanwhile,
            )
            self._is_told = True
            self._times = 0
            self._began_at = self._told_at = now

    def is_over(self) -> None:
        """Take note of a try that the collector took."""
        if self._since is not None and self._is_told:
            lasted = self._clock() - self._since
            say("Delivering %s again, after %.0f s%s.", self._what, lasted, self._losses())
            self._lost = 0
        self._since, self._is_told = None, False

    def _losses(self) -> str:
        return f", {self._lost} points lost" if self._lost else ""

    def tell(self, what: str) -> bool:
        """Say something about this link, at most once a minute; return whether it was said."""
        now = self._clock()
        if now - self._told_at < _TELL_EVERY:
            return False
        self._told_at = now
        say("%s: %s.", self._what, what)
        return True
