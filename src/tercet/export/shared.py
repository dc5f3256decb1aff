"""The files that the workers of a service share, and the locks that tell who lives.

The locks are POSIX's: a forked child has none of its parent's, which it would keep alive otherwise. They are
lost where their process closes the file by any descriptor, so no process opens its own file a second time.
"""

import errno
import mmap
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tercet.declare.pace import Pace
from tercet.export.exposition import Heading
from tercet.export.outage import say
from tercet.export.sheets import START, Entry, Reading, Records, Sheet, header

try:
    import fcntl
except ImportError:  # Windows has no such locks; there, each worker speaks for itself.
    fcntl = None  # type: ignore[assignment]

#: Bytes that the numbers of one worker may take, of address space; of memory, they take what is used.
SIZE = 64 * 1024**2
NUMBERS, COLLECTED = ".numbers", ".collected"
_NEW = ".new"
# Asked of the disk at once, and written: where a hole in a mapped file is filled, none can say it is full.
_CHUNK = 64 * 1024
_LOOK_AGAIN_SECONDS = 0.01
_odd = Pace()


class Own:
    """The file in which a process counts, mapped into its memory.

    Args:
        directory: Of the workers.
        number: Which one of them this process is.

    Raises:
        OSError: The disk does not take it.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.number = number
        self.name = f"{number}-{os.getpid()}-{secrets.token_hex(4)}"
        # Nobody may find it before it is locked: it would be that of a worker that has ended.
        unfinished = directory / f"{self.name}{_NEW}"
        self._descriptor = take_lock(unfinished)
        self._reserved = 0
        try:
            os.ftruncate(self._descriptor, SIZE)
            self._reserve(START)
            os.pwrite(self._descriptor, header(START), 0)
            self._view = memoryview(mmap.mmap(self._descriptor, SIZE))
            unfinished.rename(directory / f"{self.name}{NUMBERS}")
        except OSError:
            unfinished.unlink(missing_ok=True)
            self.let_go()
            raise
        self._used = self._view[START - 8 : START].cast("Q")
        self._records = Records(self._append)

    def numbers(
        self, heading: Heading, labels: str, bounds: tuple[float, ...], length: int
    ) -> "memoryview[float]":
        """Return a place for so many numbers.

        Raises:
            OSError: There is none.
        """
        self._records.series(heading, labels, bounds, [0.0] * length)
        return self._view[self._used[0] - 8 * length : self._used[0]].cast("d")

    def _append(self, record: bytes) -> None:
        end = self._used[0] + len(record)
        self._reserve(end)
        self._view[end - len(record) : end] = record
        self._used[0] = end

    def _reserve(self, end: int) -> None:
        if end > SIZE:
            raise OSError(errno.ENOSPC, "its file is full")
        while end > self._reserved:
            self._reserved += os.pwrite(self._descriptor, bytes(_CHUNK), self._reserved)

    def let_go(self) -> None:
        """Close the file, where a forked child has it of its parent."""
        os.close(self._descriptor)


class Other:
    """The files of another worker.

    Args:
        directory: Of the workers.
        name: Of its files.

    Raises:
        OSError: They are gone, or are no files.
        ValueError: They are empty.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.number = int(name.partition("-")[0])
        self._collected_path = directory / f"{name}{COLLECTED}"
        self._collected_as: object = None
        self._collected = NOTHING
        self._descriptor = os.open(directory / f"{name}{NUMBERS}", os.O_RDONLY | os.O_NOFOLLOW)
        try:
            self._map = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._numbers = Reading(memoryview(self._map))

    def is_alive(self) -> bool:
        """Say whether its process lives."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
        return False

    def look(self) -> None:
        """Take in what it has told of that it can only collect itself; the file may be gone at any moment."""
        with suppress(OSError):
            self._read_collected()

    def series(self) -> Iterator[Entry]:
        """Walk through all that it has counted, and that it had told when it was looked at."""
        read_on(self._numbers, self.name)
        yield from self._numbers.series
        yield from self._collected.series

    @property
    def exemplars(self) -> Iterable[Any]:
        """What it has told of: heading, labels and exemplars."""
        return self._collected.exemplars

    def _read_collected(self) -> None:
        with open(self._collected_path, "rb", opener=_open_plain) as file:
            known_as = _identity(file.fileno())
            if known_as != self._collected_as:
                self._collected, self._collected_as = Reading(memoryview(file.read())), known_as
                read_on(self._collected, self.name)

    def close(self) -> None:
        """Close its files."""
        os.close(self._descriptor)
        del self._numbers
        with suppress(BufferError):  # Somebody reads a number of it; it goes with that.
            self._map.close()


class Retired:
    """The file with the sums of workers that have ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known_as: object = None
        self._reading = NOTHING
        self._descriptor = -1

    def read(self) -> Reading:
        """Read it, if it is another one than the last time."""
        if not self.is_current():
            self.close()
            self._reading, self._known_as = NOTHING, None
            with suppress(FileNotFoundError):
                # Kept open, so that no later file can be taken for it.
                self._descriptor = _open_plain(str(self._path), os.O_RDONLY)
                with open(self._descriptor, "rb", closefd=False) as file:
                    self._reading, self._known_as = Reading(memoryview(file.read())), _identity(file.fileno())
                read_on(self._reading, self._path.name)
        return self._reading

    def is_current(self) -> bool:
        """Say whether it is still the one that was read."""
        try:
            return _identity(self._path) == self._known_as
        except FileNotFoundError:
            return self._known_as is None

    def write(self, sheet: Sheet) -> None:
        """Replace it."""
        write(self._path, sheet)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


NOTHING = Reading(memoryview(b""))


def read_on(reading: Reading, name: str) -> None:
    """Read what is new in a file; one that is torn, or none of ours, costs what comes after that place."""
    try:
        reading.read_on()
    except ValueError as error:
        say_what_is_odd(name, error)


def say_what_is_odd(name: str, error: Exception) -> None:
    """Say, at most once a minute, which file of another worker cannot be read."""
    if _odd.allows():
        say("The file %s of another worker cannot be read to its end: %s", name, error)


def write(path: Path, sheet: Sheet) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: The disk does not take it.
    """
    unfinished = path.with_name(path.name + _NEW)
    unfinished.unlink(missing_ok=True)
    try:
        with open(unfinished, "xb", opener=_open_private) as file:
            file.write(sheet.to_bytes())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def remove(directory: Path, name: str) -> None:
    """Remove the files of a worker."""
    for suffix in (COLLECTED, COLLECTED + _NEW, NUMBERS):
        (directory / f"{name}{suffix}").unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _identity(file: int | Path) -> tuple[int, int, int]:
    found = os.stat(file)
    return found.st_ino, found.st_mtime_ns, found.st_size


def take_lock(path: Path) -> int:
    """Open a file and lock it, until it is closed.

    Raises:
        BlockingIOError: Another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise BlockingIOError(error.errno, "another process has it", str(path)) from error
    return descriptor


@contextmanager
def locked(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock, or wait for it for so long.

    Raises:
        BlockingIOError: Another process has it.
    """
    descriptor = _take_lock_within(path, time.monotonic() + seconds)
    try:
        yield
    finally:
        os.close(descriptor)


def _take_lock_within(path: Path, deadline: float) -> int:
    while True:
        try:
            return take_lock(path)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)


def make_trusted(directory: Path) -> None:
    """Make a directory in which nobody else but the system's own user has a say.

    Raises:
        OSError: There is none of that kind, or somebody else has made it.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no locks for its files", str(directory))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid not in {os.geteuid(), 0}:
        raise PermissionError(errno.EACCES, "somebody else has made it", str(directory))


def make_private(directory: Path) -> None:
    """Make a directory that this user alone reads and writes.

    Raises:
        OSError: There is none of that kind, or somebody else can read or write it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "it must be a directory of this user alone", str(directory))
