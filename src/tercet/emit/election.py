"""Which process of a service speaks for its host: one that holds a lock, which goes however it ends."""

import errno
import hashlib
import logging
import math
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from tercet.declare.pace import Pace

try:
    import fcntl
except ImportError:  # Windows; there is nothing to say about a host there.
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("tercet")
_FILE = "host.lock"
_LARGEST = 2**62


class Election:
    """Let one process among many be the one.

    All that share a directory lock the same file, each key a byte of its own. A lock of this kind is of a
    process, not of an open file: a forked child has none, it goes however its process ends, and nothing is
    left to clean up.

    Args:
        directories: Where to meet, the first one that can be used: of this user alone, and made if it is not
            there. Where none can, nobody is elected, which is said once.
        key: What there is to be one of.
    """

    def __init__(self, directories: Sequence[str], key: str) -> None:
        self._directories = directories
        self._path = ""
        self._byte = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _LARGEST
        self._file: int | None = None
        self._once = Pace(math.inf)

    def is_won(self) -> bool:
        """Say whether this process is the one; ask again, and it takes over when another has gone."""
        if fcntl is not None:
            if self._file is None or not self._is_the_file(self._file):
                # What was open is not closed: its number may be somebody else's by now.
                self._file = self._open()
            with suppress(OSError):
                if self._file is not None:
                    # To lock what oneself has locked succeeds.
                    fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._byte)
                    return True
        return False

    def _is_the_file(self, file: int) -> bool:
        """Say whether others find what is open; somebody may have closed the one, or tidied up the other."""
        try:
            return os.path.samestat(os.fstat(file), os.lstat(self._path))
        except OSError:
            return False

    def _open(self) -> int | None:
        troubles = []
        for directory in self._directories:
            try:
                file, self._path = _opened(directory)
            except OSError as error:
                troubles.append(str(error))
            else:
                return file
        if self._once.allows():
            logger.warning("Nobody speaks for this host: its processes cannot meet. %s", "; ".join(troubles))
        return None


def _opened(directory: str) -> tuple[int, str]:
    with suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    found = os.lstat(directory)
    is_private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not is_private or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), directory)
    path = os.path.join(directory, _FILE)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), path
