"""Packed requests that wait in memory."""

from collections import deque
from collections.abc import Iterator

from tercet.export.spool import Parcel


class Parcels:
    """Requests in the order they came, of which each gets its turn: one that always fails holds up no others.

    Attributes:
        bytes: That they hold.
    """

    def __init__(self) -> None:
        self._parcels: deque[Parcel] = deque()
        self._turn = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[Parcel]:
        return iter(self._parcels)

    def __len__(self) -> int:
        return len(self._parcels)

    def count(self) -> int:
        """Count the items in all of them."""
        return sum(parcel.count for parcel in self._parcels)

    def holds(self, parcel: Parcel) -> bool:
        """Say whether this very one is among them."""
        return parcel in self._parcels

    def add(self, parcel: Parcel) -> None:
        """Put one behind all others."""
        self._parcels.append(parcel)
        self.bytes += len(parcel.packed)

    def add_first(self, parcel: Parcel) -> None:
        """Put one before all others."""
        self._parcels.appendleft(parcel)
        self.bytes += len(parcel.packed)

    def next(self) -> Parcel | None:
        """Return the one whose turn it is, if there is any."""
        if not self._parcels:
            return None
        self._turn %= len(self._parcels)
        return self._parcels[self._turn]

    def pass_on(self) -> None:
        """Let it be another one's turn."""
        self._turn += 1

    def first(self) -> Parcel | None:
        """Return the one that came first, if there is any."""
        return self._parcels[0] if self._parcels else None

    def take_beyond(self, most: int, but: Parcel | None) -> Iterator[Parcel]:
        """Take the oldest out while all of them hold more bytes than that, and one of them never."""
        while self.bytes > most and (oldest := next((each for each in self if each is not but), None)):
            self.remove(oldest)
            yield oldest

    def remove(self, parcel: Parcel) -> None:
        """Take one out."""
        self._parcels.remove(parcel)
        self.bytes -= len(parcel.packed)

    def take_all(self) -> list[Parcel]:
        """Take all of them out."""
        parcels = list(self._parcels)
        self._parcels.clear()
        self.bytes = 0
        return parcels
