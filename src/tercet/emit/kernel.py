"""The files of the kernel, below a root that tests can choose."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from tercet.emit.snapshot import Reading

Key = TypeVar("Key")
#: What a file that is not there, or is not as expected, raises.
ABSENT = (OSError, ValueError, LookupError, ArithmeticError)


class Kernel:
    """Read files of the kernel, each once while somebody remembers.

    Args:
        root: Where /proc and /sys are.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._known: dict[str, str] = {}

    def remembering(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Walk through readings, and forget then what the files said."""
        self._known.clear()  # A child that was forked meanwhile has what its parent remembered.
        try:
            yield from readings
        finally:
            self._known.clear()

    def path(self, name: str) -> str:
        """Return where a file is; `name` may begin with a slash."""
        return os.path.join(self.root, name.lstrip("/"))

    def text(self, name: str) -> str:
        """Return what a file says.

        Raises:
            OSError: It is not there, or may not be read.
        """
        if name not in self._known:
            with open(self.path(name), "rb", buffering=0) as file:
                self._known[name] = (file.readall() or b"").decode("utf-8", "replace")
        return self._known[name]

    def number(self, name: str) -> int | None:
        """Return the number that a file holds, in whatever notation; None where there is none."""
        try:
            return int(self.text(name).strip(), 0)
        except ABSENT:
            return None

    def names(self, folder: str) -> list[str]:
        """List what is in a folder; empty where there is none."""
        try:
            return sorted(os.listdir(self.path(folder)))
        except OSError:
            return []


class Rates:
    """How fast running totals grow, each second, between two looks that are far enough apart to tell.

    >>> rates = Rates(clock=iter([0, 10, 10.1, 20]).__next__)
    >>> [dict(rates.of({"a": total})) for total in (5, 25, 26, 35)]
    [{}, {'a': 2.0}, {'a': 2.0}, {'a': 1.0}]
    """

    # Kernels count in hundredths of a second, and two readers of metrics may follow each other at once.
    _APART = 1.0

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._looked_at = 0.0
        self._totals: Mapping[Any, float] = {}
        self._rates: dict[Any, float] = {}

    def of(self, totals: Mapping[Key, float]) -> Mapping[Key, float]:
        """Return the rate of each total that was there at an earlier look; none at the first."""
        now = self._clock()
        elapsed = now - self._looked_at
        if not self._totals or elapsed >= self._APART:
            before, self._totals, self._looked_at = self._totals, dict(totals), now
            self._rates = {
                # A forked child's totals start again, a disk that was changed has others.
                key: max(0.0, total - before[key]) / elapsed
                for key, total in totals.items()
                if key in before
            }
        return self._rates


def all_of(*readers: Callable[[], Iterable[Reading]]) -> Iterator[Reading]:
    """Walk through what all of them read; what this kernel does not have is left out."""
    for read in readers:
        with suppress(*ABSENT):
            yield from read()
