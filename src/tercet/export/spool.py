"""Requests that wait on disk: bounded, shared by all processes of a machine, and there after a kill.

One file is one request. It appears whole or not at all (written aside, then renamed), carries a checksum,
and is locked by whoever sends it; the lock goes with its process. So a torn file costs only itself, and no
request is sent by two processes at once.
"""

import errno
import math
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
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
_MOST_ITEMS = 65_536
_NAME = re.compile(r"\d{20}-\d+-\d+\.otlp")
# Whoever was writing a file for longer than this is no more.
_ABANDONED_SECONDS = 60.0
# How often to look whether all processes together keep the limits.
_LOOK_EVERY = 1.0
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


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """One request on its way: what goes over the wire, and how many items are in it.

    It is itself, and equals no other.
    """

    packed: bytes
    count: int


class Spool:
    """Keep the requests of one signal in a directory; any thread may, at any moment.

    Args:
        directory: Made if it is not there, readable by its owner only: telemetry may hold what users typed.
        limits: The oldest files go where a new one breaks them.
        clock: Seconds since 1970.

    Raises:
        OSError: The directory cannot be made.
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
        self._open: set[int] = set()
        # The items of each file that this process has written, and that was there when it looked last.
        self._own: dict[str, int] = {}
        self._known_files = self._known_bytes = 0
        self._look_at = -math.inf
        self._make_directory()
        if not self._can_remove():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(directory))
        # A lock is held as long as any copy of the open file is, a forked child's too.
        os.register_at_fork(after_in_child=self._let_go)

    def _make_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _can_remove(self) -> bool:
        return os.access(self._directory, os.W_OK | os.X_OK)

    def _let_go(self) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()
        self._own.clear()

    def add(self, parcel: Parcel) -> None:
        """Write one request, for whoever comes first.

        Raises:
            OSError: The disk does not take it.
        """
        self._place(parcel).back()
        self._keep_limits()

    def hold(self, parcel: Parcel) -> "Claim":
        """Write one request that, from its first moment, this process alone may send.

        Raises:
            OSError: The disk does not take it.
        """
        self._keep_limits()  # What is held goes for no limit; it may be one too many until the next look.
        return self._place(parcel)

    def _place(self, parcel: Parcel) -> "Claim":
        self._count_if_removed()
        self._make_directory()  # Somebody may have tidied up.
        name = f"{int(self._clock() * 1e9):020d}-{os.getpid()}-{next(_sequence)}"
        unfinished = self._directory / (name + _UNFINISHED)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._open.add(descriptor)
        claim = Claim(self._directory / (name + _FINISHED), parcel, descriptor, self._open, self._own)
        try:
            _lock(descriptor)
            _write(descriptor, parcel)
            unfinished.rename(claim.path)
        except OSError:
            claim.back()
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        self._own[claim.path.name] = parcel.count
        self._known_files += 1
        self._known_bytes += _HEADER.size + len(parcel.packed)
        return claim

    def _count_if_removed(self) -> None:
        """Count what this process had in the directory, where somebody has removed it as a whole."""
        try:
            os.stat(self._directory)
        except FileNotFoundError:
            lost = sum(_drained(self._own))
            if lost:
                self.tell_dropped("spool_removed", lost)
        except OSError:
            pass  # Nobody knows what is there.

    def bytes(self) -> int:
        """Count the bytes that wait, of all processes."""
        total = 0
        with suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size if _NAME.fullmatch(entry.name) else 0
        return total

    def take(self) -> Iterator["Claim"]:
        """Walk through what waits, oldest first, leaving out what another process is sending."""
        self._count_if_removed()
        if not self._can_remove():
            return  # What cannot be removed would be sent again and again.
        self._look_at = -math.inf
        self._keep_limits()
        for path, _ in self._files():
            claim = self._claim(path)
            if claim is not None:
                yield claim

    def _files(self) -> list[tuple[Path, int]]:
        """List the finished files, oldest first, with their sizes; what is not ours is left alone."""
        own, found = set(self._own), []
        with suppress(OSError), os.scandir(self._directory) as entries:
            for entry in entries:
                with suppress(OSError):
                    if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                        found.append((Path(entry.path), entry.stat().st_size))
            # What is gone, another process has sent or given up.
            for name in own - {path.name for path, _ in found}:
                self._own.pop(name, None)
        return sorted(found)

    def _keep_limits(self) -> None:
        """Give up the oldest files; the directory is read when our own may be too many, or now and then."""
        now = self._clock()
        fits = self._known_files <= self._limits.files and self._known_bytes <= self._limits.bytes
        if fits and self._look_at - _LOOK_EVERY <= now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        files = self._files()
        count, size = len(files), sum(each for _, each in files)
        for path, its_size in files:
            reason = self._broken_by(path, count, size)
            if reason is None:
                break
            self._give_up(path, reason)  # What another one holds it sends.
            count -= 1
            size -= its_size
        self._known_files, self._known_bytes = count, size
        self._sweep()

    def _broken_by(self, oldest: Path, count: int, size: int) -> str | None:
        """Name the limit for which the oldest file must go, if any."""
        if _written_at(oldest) < self._clock() - self._limits.seconds:
            return "spool_age"
        return "spool_full" if count > self._limits.files or size > self._limits.bytes else None

    def _give_up(self, path: Path, reason: str) -> None:
        claim = self._claim(path)
        if claim is not None:
            claim.done()
            self.tell_dropped(reason, claim.parcel.count)

    def _sweep(self) -> None:
        """Remove what somebody began to write and never finished."""
        for path in self._directory.glob(f"*{_UNFINISHED}"):
            if not _NAME.fullmatch(path.with_suffix(_FINISHED).name):
                continue
            with suppress(OSError):
                if self._clock() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    def _claim(self, path: Path) -> "Claim | None":
        """Take one file for this process alone, if that can be; a torn one is counted and removed."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None  # Another process was faster, or the file is not ours to read.
        self._open.add(descriptor)
        claim = Claim(path, Parcel(b"", 0), descriptor, self._open, self._own)
        try:
            _lock(descriptor)
            return replace(claim, parcel=_read(descriptor))
        except OSError:
            claim.back()
        except _TornError as torn:
            claim.done()
            self.tell_dropped("spool_torn", torn.count)
        return None


@dataclass(frozen=True, slots=True)
class Claim:
    """One request that this process alone may send."""

    path: Path
    parcel: Parcel
    _descriptor: int
    _open: set[int]
    _own: dict[str, int]

    def done(self) -> None:
        """Remove it: it is delivered, or given up."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
        self._own.pop(self.path.name, None)
        self.back()

    def back(self) -> None:
        """Leave it for later, to whoever comes first."""
        if self._descriptor in self._open:  # In a forked child it is closed already.
            _unlock(self._descriptor)
            self._open.discard(self._descriptor)
            os.close(self._descriptor)


def _lock(descriptor: int) -> None:
    """Lock an open file that still has a name.

    Raises:
        OSError: Another process has it, or has sent and removed it.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.fstat(descriptor).st_nlink:
        raise FileNotFoundError(descriptor)


def _unlock(descriptor: int) -> None:
    """Free the lock also of copies that a child, forked at this moment, may hold."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write(descriptor: int, parcel: Parcel) -> None:
    rest = _COUNT.pack(parcel.count) + parcel.packed
    with open(descriptor, "wb", closefd=False) as file:
        file.write(_HEADER.pack(_MARK, zlib.crc32(rest), parcel.count) + parcel.packed)


class _TornError(Exception):
    """The bytes of a file are not those that were written.

    Attributes:
        count: The items that are lost with it; one where nobody knows.
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__(count)
        self.count = count


def _read(descriptor: int) -> Parcel:
    """Read a request.

    Raises:
        _TornError: Its bytes are not those that were written.
        OSError: The disk does not give them.
    """
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read()
    if len(data) < _HEADER.size:
        raise _TornError
    mark, checksum, items = _HEADER.unpack_from(data)
    packed = data[_HEADER.size :]
    if mark != _MARK or zlib.crc32(_COUNT.pack(items) + packed) != checksum:
        # What was cut off had its beginning; a number that no request has is not what was written.
        raise _TornError(items if mark == _MARK and 0 < items <= _MOST_ITEMS else 1)
    return Parcel(packed, items)


def _drained(counts: dict[str, int]) -> Iterator[int]:
    """Take out one after the other, each of them once, whatever other threads do."""
    with suppress(KeyError):
        while True:
            yield counts.popitem()[1]


def _written_at(path: Path) -> float:
    return int(path.name.partition("-")[0]) / 1e9
