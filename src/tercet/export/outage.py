"""What is said of a collector that is away: one line when it goes, one when it is back, one a minute."""

import logging
import math
from collections.abc import Callable
from contextlib import suppress

_TELL_EVERY = 60.0
# A second outage within a minute is told when it lasts, so that a flapping collector fills no log.
_LASTING = 5.0

logger = logging.getLogger("tercet.export")


def say(message: str, *arguments: object) -> None:
    """Write a warning; whatever the application's own filters and handlers do with it, sending goes on."""
    with suppress(Exception):
        logger.warning(message, *arguments)


class Outage:
    """Tell in one line when the collector goes away, in one when it is back, and once a minute between.

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
        self._began_at = self._told_at = -math.inf

    def goes_on(self, reason: str) -> None:
        """Take note of a try that failed."""
        now = self._clock()
        if self._since is None:
            self._since = now
        lasted = now - self._since
        if self._is_told:
            self.tell(f"still not delivered after {lasted:.0f} s: {reason}")
        elif now - self._began_at >= _TELL_EVERY or lasted >= _LASTING:
            self._is_told = True
            self._began_at = self._told_at = now
            say("Cannot deliver %s: %s. %s when the collector is back.", self._what, reason, self._meanwhile)

    def is_over(self) -> None:
        """Take note of a try that the collector took."""
        if self._since is not None and self._is_told:
            say("Delivering %s again, after %.0f s.", self._what, self._clock() - self._since)
        self._since, self._is_told = None, False

    def tell(self, what: str) -> bool:
        """Say something about this link, at most once a minute; return whether it was said."""
        now = self._clock()
        if now - self._told_at < _TELL_EVERY:
            return False
        self._told_at = now
        say("%s: %s.", self._what, what)
        return True
