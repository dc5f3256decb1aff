"""Memory that a service keeps for nothing, within bounds that leave the machine enough."""

from collections.abc import Callable
from contextlib import suppress

from tercet.declare.usage import CONTAINER_AVAILABLE
from tercet.emit.cgroup import Cgroups
from tercet.emit.kernel import ABSENT, Kernel
from tercet.emit.procfs import parse_meminfo

STEP_BYTES = 16 * 2**20
MOST_BYTES = 256 * 2**20
#: Others need it more: a step is taken only while it is less than this share of what is free.
_SHARE = 1 / 16


class Hoard:
    """Keep more and more memory, up to a bound.

    Args:
        free: Bytes that may be had before somebody is killed for them; None where nobody knows.
    """

    def __init__(self, free: Callable[[], float | None] | None = None) -> None:
        self._free = free or _free_bytes
        self._kept: list[bytes] = []

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return STEP_BYTES * len(self._kept)

    def grow(self) -> None:
        """Keep a step more, unless it would be too much for this service or for the machine."""
        if self.size + STEP_BYTES > MOST_BYTES:
            return
        free = self._free()
        if free is None or free * _SHARE >= STEP_BYTES:
            # Written to, each page of it: memory that is only promised shows nowhere.
            self._kept.append(b"\xa5" * STEP_BYTES)

    def release(self) -> None:
        """Give all of it back."""
        self._kept.clear()


def _free_bytes(root: str = "/") -> float | None:
    """Return what the host has, or the container if that is less; None on systems without /proc."""
    kernel = Kernel(root)
    found: list[float] = []
    with suppress(*ABSENT):
        found.append(parse_meminfo(kernel.text("proc/meminfo"))["MemAvailable"])
        readings = Cgroups(kernel).readings()
        found += [value for metric, _, value in readings if metric is CONTAINER_AVAILABLE]
    return min(found, default=None)
