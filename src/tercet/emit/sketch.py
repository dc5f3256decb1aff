"""Quantiles of the latest measurements, in bounded memory and within a stated share of the true value.

The buckets are DDSketch's (https://arxiv.org/abs/1908.10693): each is wider than the one before by the same
factor, so that any value in it is within `ACCURACY` of its middle.
"""

import math
import sys
from collections.abc import Callable, Sequence
from time import monotonic

#: How far an answer may be from the measurement it stands for, as a share of that.
ACCURACY = 0.01
#: Buckets of one sketch; they span four decades, and what is lower than that counts as the lowest of them.
MOST_BUCKETS = 512
#: Parts of the window; the oldest leaves as a whole.
SLICES = 5

_FACTOR = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_FACTOR = math.log(_FACTOR)
_TO_MIDDLE = math.log(2 / (_FACTOR + 1))
_HIGHEST = math.log(sys.float_info.max)
#: Lower than the bucket of any number that is not zero; the smallest number is 5e-324.
_ZERO = -100_000


class Recent:
    """The measurements of a sliding window, as a sketch for each part of it.

    >>> latency = Recent(600)
    >>> for milliseconds in range(1, 1001):
    ...     latency.add(milliseconds)
    >>> [round(value, -1) for value in latency.quantiles([0.5, 0.99])]
    [500.0, 980.0]

    Args:
        window: Seconds that it looks back, and up to a fifth less.
        clock: Seconds that only go forward.
    """

    __slots__ = ("_clock", "_seconds", "_slices", "_started")

    def __init__(self, window: float, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._seconds = window / SLICES
        self._started = clock()
        self._slices: list[dict[int, int]] = [{}]

    def add(self, value: float) -> None:
        """Add a measurement that is not negative."""
        if self._clock() - self._started >= self._seconds:
            self._move_on()
        latest = self._slices[-1]
        bucket = math.ceil(math.log(value) / _LOG_FACTOR) if value > 0 else _ZERO
        latest[bucket] = latest.get(bucket, 0) + 1
        if len(latest) > MOST_BUCKETS:
            lowest, next_lowest = sorted(latest)[:2]
            latest[next_lowest] += latest.pop(lowest)

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Estimate quantiles; each is not a number where there is no measurement."""
        self._move_on()
        counts: dict[int, int] = {}
        for each in self._slices:
            for bucket, count in each.items():
                counts[bucket] = counts.get(bucket, 0) + count
        total, ordered = sum(counts.values()), sorted(counts.items())
        return [_at(math.ceil(quantile * total), ordered) for quantile in wanted]

    def copy(self) -> "Recent":
        """Copy it, to be read while measurements go on."""
        twin = Recent(0, self._clock)
        twin._seconds, twin._started = self._seconds, self._started
        twin._slices = [each.copy() for each in self._slices]
        return twin

    def _move_on(self) -> None:
        passed = min(SLICES, int((self._clock() - self._started) / self._seconds))
        if passed:
            self._started = self._clock() if passed == SLICES else self._started + passed * self._seconds
            self._slices = [*self._slices, *({} for _ in range(passed))][-SLICES:]


def _at(rank: int, ordered: Sequence[tuple[int, int]]) -> float:
    passed = 0
    for bucket, count in ordered:
        passed += count
        if passed >= rank:
            return 0.0 if bucket == _ZERO else math.exp(min(_HIGHEST, bucket * _LOG_FACTOR + _TO_MIDDLE))
    return math.nan
