"""Requests that wait on disk: bounded, shared by all processes of a machine, and there after a kill.

One file is one request. It appears whole or not at all (written aside, then renamed), carries a checksum,
and is locked by whoever sends it; the lock goes with its process. So a torn file costs only itself, and no
request is sent by two processes at once.
"""

import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock; there, one process a directory.
    fcntl = None  # type: ignore[assignment]

_HEADER = struct.Struct(">4sII")  # mark, checksum of the rest, items
_COUNT = struct.Struct(">I")
_MARK = b"trc1"
_UNFINISHED = ".part"
_FINISHED = ".otlp"
# Whoever was writing a file for longer than this is no more.
_ABANDONED_SECONDS = 60.0
_sequence = count()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait on disk, over all processes.

    Attributes:
        bytes: Of all files together.
        files: In number.
        seconds: Of age; older telemetry is of no use to anyone.
    """

    bytes: int
    files: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request on its way: what goes over the wire, and how many items are in it."""

    packed: bytes
    count: int


class Spool:
    """Keep the requests of one signal in a directory.

    Args:
        directory: Made if it is not there, readable by its owner only: telemetry may hold what users typed.
        limits: The oldest files go where a new one breaks them.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        directory: Path,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._limits = limits
        #: Told, by reason, how many items went; whoever counts them sets it.
        self.tell_dropped: Callable[[str, int], None] = lambda reason, count: None
        self._clock = clock
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def add(self, parcel: Parcel) -> None:
        """Write one request.

        Raises:
            OSError: The disk does not take it.
        """
        name = f"{int(self._clock() * 1e9):020d}-{os.getpid()}-{next(_sequence)}"
        unfinished = self._directory / (name + _UNFINISHED)
        rest = _COUNT.pack(parcel.count) + parcel.packed
        try:
            with unfinished.open("wb") as file:
                file.write(_HEADER.pack(_MARK, zlib.crc32(rest), parcel.count) + parcel.packed)
            unfinished.rename(self._directory / (name + _FINISHED))
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        self._keep_limits()

    def bytes(self) -> int:
        """Count the bytes that wait."""
        return sum(size for _, size in self._files())

    def take(self) -> Iterator["Claim"]:
        """Walk through what waits, oldest first, leaving out what another process is sending."""
        for path, _ in self._files():
            claim = self._claim(path)
            if claim is not None:
                yield claim

    def _files(self) -> list[tuple[Path, int]]:
        """List the finished files, oldest first, with their sizes."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(_FINISHED):
                    with suppress(FileNotFoundError):
                        found.append((Path(entry.path), entry.stat().st_size))
        return sorted(found)

    def _keep_limits(self) -> None:
        files = self._files()
        total = sum(size for _, size in files)
        oldest = self._clock() - self._limits.seconds
        for number, (path, size) in enumerate(files):
            too_many = len(files) - number > self._limits.files
            too_old = _written_at(path) < oldest
            if not (too_old or too_many or total > self._limits.bytes):
                break
            total -= size
            self._give_up(path, "spool_age" if too_old else "spool_full")
        self._sweep()

    def _give_up(self, path: Path, reason: str) -> None:
        claim = self._claim(path)
        if claim is not None:
            claim.done()
            self.tell_dropped(reason, claim.parcel.count)

    def _sweep(self) -> None:
        """Remove what somebody began to write and never finished."""
        for path in self._directory.glob(f"*{_UNFINISHED}"):
            with suppress(OSError):
                if self._clock() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _claim(self, path: Path) -> "Claim | None":
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None  # Another process was faster.
        if not _locked(descriptor):
            os.close(descriptor)
            return None
        parcel = _read(descriptor)
        claim = Claim(path, descriptor, parcel or Parcel(b"", 0))
        if parcel is None:
            claim.done()
            self.tell_dropped("spool_torn", 1)
            return None
        return claim


@dataclass(frozen=True, slots=True)
class Claim:
    """One request that this process alone may send."""

    path: Path
    descriptor: int
    parcel: Parcel

    def done(self) -> None:
        """Remove it: it is delivered, or given up."""
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def back(self) -> None:
        """Leave it for later, to whoever comes first."""
        os.close(self.descriptor)


def _locked(descriptor: int) -> bool:
    """Lock an open file that still has a name; say whether that worked."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    # Whoever had the lock before may have sent and removed it.
    return os.fstat(descriptor).st_nlink > 0


def _read(descriptor: int) -> Parcel | None:
    """Read a request; None where its bytes are not those that were written."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        data = file.read()
    if len(data) < _HEADER.size:
        return None
    mark, checksum, items = _HEADER.unpack_from(data)
    packed = data[_HEADER.size :]
    whole = mark == _MARK and zlib.crc32(_COUNT.pack(items) + packed) == checksum
    return Parcel(packed, items) if whole else None


def _written_at(path: Path) -> float:
    return int(path.name.partition("-")[0]) / 1e9
