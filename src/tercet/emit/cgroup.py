"""What the control groups around a process allow it, and what they have used: versions 1 and 2.

https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/ are the source. A process is in a group,
that group is in others, and each may have limits: the tightest counts, and use is measured where it is set.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from tercet.declare.usage import (
    CONTAINER_AVAILABLE,
    CONTAINER_CPU,
    CONTAINER_CPU_LIMIT,
    CONTAINER_CPU_TIME,
    CONTAINER_CPU_UTILIZATION,
    CONTAINER_MEMORY,
    CONTAINER_MEMORY_EVENTS,
    CONTAINER_MEMORY_LIMIT,
    CONTAINER_MEMORY_UTILIZATION,
    CONTAINER_PERIODS,
    CONTAINER_PRESSURE,
    CONTAINER_THROTTLED,
    CONTAINER_THROTTLED_TIME,
    CONTAINER_WORKING_SET,
)
from tercet.emit.kernel import ABSENT, Kernel, Rates, all_of
from tercet.emit.procfs import Mount, parse_meminfo, parse_mounts, parse_pairs, parse_pressure
from tercet.emit.snapshot import Reading

RESOURCES = ("cpu", "memory", "io")
_UNIFIED = ""
_NANO, _MICRO = 1e9, 1e6
#: What a group uses, and how its statistics call what can be given up easily; by whether it is of version 2.
_MEMORY_FILES = {
    True: ("memory.current", "inactive_file"),
    False: ("memory.usage_in_bytes", "total_inactive_file"),
}
_MEMORY_EVENTS = ("high", "max", "oom", "oom_kill")


def parse_membership(text: str) -> dict[str, str]:
    r"""Read /proc/self/cgroup: the path of the process's group for each controller, "" for version 2.

    >>> parse_membership("4:memory:/jobs\n2:cpu,cpuacct:/\n0::/unit\n")
    {'memory': '/jobs', 'cpu': '/', 'cpuacct': '/', '': '/unit'}
    """
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def parse_quota(text: str) -> float | None:
    r"""Read how many CPUs `cpu.max` allows; None for all there are.

    >>> parse_quota("150000 100000\n"), parse_quota("max 100000\n")
    (1.5, None)
    """
    quota, period = text.split()
    return None if quota == "max" else int(quota) / int(period)


class Hierarchy(NamedTuple):
    """The groups of one controller: folders, from the process's own up to the outermost in sight."""

    folders: list[str]
    is_unified: bool


class Cgroups:
    """Find the groups of this process, and read them.

    Args:
        kernel: Where its files are.
        clock: Seconds that only go forward.
    """

    def __init__(self, kernel: Kernel, clock: Callable[[], float] = monotonic) -> None:
        self._kernel = kernel
        self._mounts: list[Mount] | None = None
        self._rates = Rates(clock)

    def readings(self) -> Iterator[Reading]:
        """Read what the container uses, may use and waits for."""
        return all_of(self._cpu, self._memory, self._pressure)

    def cpu_limit(self) -> float | None:
        """Return how many CPUs this process may use, together with all others in its groups; None for any.

        Raises:
            OSError, LookupError: There are no groups.
        """
        return self._tightest(self._hierarchy("cpu"), self._quota)[1]

    def _hierarchy(self, controller: str) -> Hierarchy:
        """Find the groups of one controller: in version 1 where it is mounted so, else in version 2.

        Raises:
            LookupError: No mount of it is in sight.
        """
        membership = parse_membership(self._kernel.text("proc/self/cgroup"))
        if self._mounts is None:
            mounts = parse_mounts(self._kernel.text("proc/self/mountinfo"))
            self._mounts = [mount for mount in mounts if mount.kind in ("cgroup", "cgroup2")]
        for mount in self._mounts:
            if mount.kind == "cgroup" and controller in mount.options:
                return Hierarchy(_upwards(mount, membership[controller]), is_unified=False)
        unified = next((mount for mount in self._mounts if mount.kind == "cgroup2"), None)
        if unified is None:
            raise LookupError(controller)
        return Hierarchy(_upwards(unified, membership[_UNIFIED]), is_unified=True)

    def _tightest(
        self, hierarchy: Hierarchy, limit_of: Callable[[str, bool], float | None]
    ) -> tuple[int, float | None]:
        """Return how far up the tightest limit is, and what it is; the process's own group without any."""
        found: tuple[int, float | None] = (0, None)
        for height, folder in enumerate(hierarchy.folders):
            with suppress(*ABSENT):  # The outermost group of a host has no limits.
                limit = limit_of(folder, hierarchy.is_unified)
                if limit is not None and (found[1] is None or limit < found[1]):
                    found = height, limit
        return found

    def _is_host(self, hierarchy: Hierarchy) -> bool:
        """Say whether the process is in the outermost group of the host, by a file that tells it."""
        own = hierarchy.folders[0]
        if hierarchy.is_unified:
            return "cgroup.type" not in self._kernel.names(own)
        return "release_agent" in self._kernel.names(own)

    def _quota(self, folder: str, is_unified: bool) -> float | None:
        if is_unified:
            return parse_quota(self._kernel.text(f"{folder}/cpu.max"))
        quota = int(self._kernel.text(f"{folder}/cpu.cfs_quota_us"))
        return None if quota < 0 else quota / int(self._kernel.text(f"{folder}/cpu.cfs_period_us"))

    def _memory_limit(self, folder: str, is_unified: bool) -> float | None:
        name = "memory.max" if is_unified else "memory.limit_in_bytes"
        text = self._kernel.text(f"{folder}/{name}").strip()
        limit = None if text == "max" else int(text)
        # Where there is no limit, version 1 writes a number beyond all memory.
        host = parse_meminfo(self._kernel.text("proc/meminfo"))["MemTotal"]
        return limit if limit is not None and limit < host else None

    def _cpu(self) -> Iterator[Reading]:
        hierarchy = self._hierarchy("cpu")
        height, limit = self._tightest(hierarchy, self._quota)
        if limit is None and self._is_host(hierarchy):
            return
        seconds = self._cpu_seconds(hierarchy, height)
        for mode, spent in seconds.items():
            yield CONTAINER_CPU_TIME, (mode,), spent
        rates = self._rates.of(seconds)
        used = sum(rates.values())
        if rates:
            yield CONTAINER_CPU, (), used
        if limit is not None:
            yield CONTAINER_CPU_LIMIT, (), limit
            if rates:
                yield CONTAINER_CPU_UTILIZATION, (), used / limit
            yield from self._throttling(hierarchy.folders[height])

    def _cpu_seconds(self, hierarchy: Hierarchy, height: int) -> dict[str, float]:
        if hierarchy.is_unified:
            stat = parse_pairs(self._kernel.text(f"{hierarchy.folders[height]}/cpu.stat"))
            return {"user": stat["user_usec"] / _MICRO, "system": stat["system_usec"] / _MICRO}
        # Version 1 may account for CPU time in a hierarchy of its own, in groups of the same names.
        folders = self._hierarchy("cpuacct").folders
        stat = parse_pairs(self._kernel.text(f"{folders[min(height, len(folders) - 1)]}/cpuacct.stat"))
        ticks = os.sysconf("SC_CLK_TCK")
        return {mode: stat[mode] / ticks for mode in ("user", "system")}

    def _throttling(self, folder: str) -> Iterator[Reading]:
        stat = parse_pairs(self._kernel.text(f"{folder}/cpu.stat"))
        yield CONTAINER_PERIODS, (), stat["nr_periods"]
        yield CONTAINER_THROTTLED, (), stat["nr_throttled"]
        is_old = "throttled_time" in stat
        waited = stat["throttled_time"] / _NANO if is_old else stat["throttled_usec"] / _MICRO
        yield CONTAINER_THROTTLED_TIME, (), waited

    def _memory(self) -> Iterator[Reading]:
        hierarchy = self._hierarchy("memory")
        height, limit = self._tightest(hierarchy, self._memory_limit)
        if limit is None and self._is_host(hierarchy):
            return
        folder, is_unified = hierarchy.folders[height], hierarchy.is_unified
        name, inactive = _MEMORY_FILES[is_unified]
        used = int(self._kernel.text(f"{folder}/{name}"))
        stat = parse_pairs(self._kernel.text(f"{folder}/memory.stat"))
        working_set = max(0, used - stat[inactive])
        yield CONTAINER_MEMORY, (), used
        yield CONTAINER_WORKING_SET, (), working_set
        if limit is not None:
            yield CONTAINER_MEMORY_LIMIT, (), limit
            yield CONTAINER_AVAILABLE, (), max(0, limit - working_set)
            yield CONTAINER_MEMORY_UTILIZATION, (), working_set / limit
        for event, count in self._memory_events(folder, is_unified).items():
            yield CONTAINER_MEMORY_EVENTS, (event,), count

    def _memory_events(self, folder: str, is_unified: bool) -> dict[str, int]:
        if is_unified:
            events = parse_pairs(self._kernel.text(f"{folder}/memory.events"))
            return {event: events[event] for event in _MEMORY_EVENTS if event in events}
        control = parse_pairs(self._kernel.text(f"{folder}/memory.oom_control"))
        found = {"max": int(self._kernel.text(f"{folder}/memory.failcnt"))}
        return found | {event: control[event] for event in ("oom_kill",) if event in control}

    def _pressure(self) -> Iterator[Reading]:
        hierarchy = self._hierarchy("cpu")
        if not hierarchy.is_unified or self._is_host(hierarchy):
            return
        for resource in RESOURCES:
            with suppress(*ABSENT):
                text = self._kernel.text(f"{hierarchy.folders[0]}/{resource}.pressure")
                for share, seconds in parse_pressure(text).items():
                    yield CONTAINER_PRESSURE, (resource, share), seconds


def _upwards(mount: Mount, group: str) -> list[str]:
    """List the folders of a group and of all that it is in, as far as they are mounted.

    >>> _upwards(Mount("0:30", "/", "/sys/fs/cgroup", "cgroup2", "cgroup2", ()), "/a/b")
    ['/sys/fs/cgroup/a/b', '/sys/fs/cgroup/a', '/sys/fs/cgroup']
    """
    root = mount.root.rstrip("/")
    # What is mounted in a container often is its own group, named from outside; or a group that it is not in.
    inside = group.removeprefix(root) if f"{group}/".startswith(f"{root}/") else ""
    names = [name for name in inside.split("/") if name]
    return ["/".join([mount.point, *names[:count]]) for count in range(len(names), -1, -1)]
