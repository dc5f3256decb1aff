"""Threads that send have the interpreter soon, where they would starve in a service that never rests.

A thread asks for the interpreter after it has waited for `sys.getswitchinterval()`, usually 5 ms, and waits
anew each time that somebody lets it go, though it be for a write of a microsecond. So it may starve, and each
such write wakes it up in vain, which costs the service ten times the write. With an interval that is shorter
than the time between two writes it gets its turn. But in haste, threads that compute wear each other out, so
nobody hurries who has not starved, and nobody for a collector that is slow.
"""

import os
import sys

# Seconds that a thread in haste waits for the interpreter.
_SOON = 0.00001
# Batches for which a thread hurries once it has starved.
_BATCHES = 32
# A thread that starves is woken more often than that until it has sent a batch, where a dozen times will do.
_OFTEN = 64
# Seconds that sending may take before it is the collector that is slow.
_MOMENT = 0.1

try:
    from resource import RUSAGE_THREAD, getrusage
except ImportError:  # Windows has none, and others do not tell.

    def times_woken() -> int:
        """Count how often this thread was woken, in vain or not; always 0, for this system does not tell."""
        return 0

else:

    def times_woken() -> int:
        """Count how often this thread was woken, in vain or not."""
        return getrusage(RUSAGE_THREAD).ru_nvcsw


class Haste:
    """Shorten the interval after which threads change, for as long as anybody hurries."""

    def __init__(self) -> None:
        self._hasty: set[object] = set()
        self._usual = 0.0
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._hasty.clear()
        self._calm_down()

    def begin(self, who: object) -> None:
        """Hurry on behalf of somebody."""
        self._hasty.add(who)
        usual = sys.getswitchinterval()
        if usual > _SOON:
            self._usual = usual
            sys.setswitchinterval(_SOON)

    def end(self, who: object) -> None:
        """Hurry no more on behalf of somebody."""
        self._hasty.discard(who)
        # Each time, whoever has hurried: so whatever comes in between, it does not last.
        if not self._hasty:
            self._calm_down()

    def _calm_down(self) -> None:
        # One that the application has set meanwhile is its own.
        if self._usual and abs(sys.getswitchinterval() - _SOON) < _SOON / 10:
            sys.setswitchinterval(self._usual)


HASTE = Haste()


class Hunger:
    """Notice where one thread that sends starves, and let it hurry for its next batches.

    Args:
        batch_size: Items that the thread sends at once.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._left = 0
        self._hurried_in = -1

    def batch_is_full(self, waiting: int, turn: int) -> None:
        """Take note of a full batch, before the thread is woken for it.

        Args:
            waiting: Items that wait by now; a thread that starves leaves whole batches.
            turn: Number of the thread's latest one. If it is still the one it hurried in, that did not help.
        """
        if waiting > self._batch_size:
            self._left = _BATCHES if self._hurried_in != turn else 0
        if self._left > 0:
            self._left -= 1
            self._hurried_in = turn
            HASTE.begin(self)
        else:
            HASTE.end(self)

    def turn_is_over(self, woken: int, seconds: float, waiting: int) -> None:
        """Hurry no more, and see whether to hurry the next time.

        Args:
            woken: How often the thread was woken for it.
            seconds: How long it took.
            waiting: Items that have come meanwhile.
        """
        HASTE.end(self)
        if woken > _OFTEN and waiting > self._batch_size / 8:
            self._left = _BATCHES
        elif seconds > _MOMENT:
            self._left = 0

    def calm_down(self) -> None:
        """Hurry no more: nobody is left to do so."""
        HASTE.end(self)
