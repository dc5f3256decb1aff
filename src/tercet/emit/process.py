"""What this process uses: from the kernel's files, and where there are none, from what Python knows."""

import os
import time
from collections.abc import Callable, Iterator
from time import monotonic

from tercet.declare.usage import (
    PROCESS_CPU_TIME,
    PROCESS_CPU_UTILIZATION,
    PROCESS_DISK_IO,
    PROCESS_FAULTS,
    PROCESS_FILES,
    PROCESS_FILES_LIMIT,
    PROCESS_MEMORY,
    PROCESS_SWITCHES,
    PROCESS_THREADS,
    PROCESS_UPTIME,
    PROCESS_VIRTUAL,
)
from tercet.emit.cgroup import Cgroups
from tercet.emit.kernel import ABSENT, Kernel, Rates, all_of
from tercet.emit.procfs import parse_pairs, parse_process_stat
from tercet.emit.snapshot import Reading

try:
    import resource
except ImportError:  # Windows has none.
    resource = None  # type: ignore[assignment]

# Where systems without /proc show them.
_OPEN_FILES = "/dev/fd"


class Process:
    """Read what the process that asks uses; a forked child is one of its own.

    Args:
        kernel: Where its files are.
        cgroups: Which limits hold for it.
        clock: Seconds that only go forward.
    """

    def __init__(self, kernel: Kernel, cgroups: Cgroups, clock: Callable[[], float] = monotonic) -> None:
        self._kernel = kernel
        self._cgroups = cgroups
        self._clock = clock
        self._rates = Rates(clock)
        self._pid = os.getpid()

    def readings(self) -> Iterator[Reading]:
        """Read all of it."""
        return all_of(self._cpu, self._scheduling, self._memory, self._files, self._disk, self._stat)

    def _cpu(self) -> Iterator[Reading]:
        if self._pid != os.getpid():
            self._pid, self._rates = os.getpid(), Rates(self._clock)
        times = os.times()
        seconds = {"user": times.user, "system": times.system}
        if resource is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            seconds = {"user": used.ru_utime, "system": used.ru_stime}
        for mode, spent in seconds.items():
            yield PROCESS_CPU_TIME, (mode,), spent
        cpus = self._cpus()
        for mode, rate in self._rates.of(seconds).items():
            yield PROCESS_CPU_UTILIZATION, (mode,), rate / cpus

    def _cpus(self) -> float:
        """Count the CPUs that this process may use: those it may run on, as far as its container may."""
        own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            return min(own, self._cgroups.cpu_limit() or own)
        except ABSENT:
            return own

    def _scheduling(self) -> Iterator[Reading]:
        if resource is not None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            yield PROCESS_SWITCHES, ("voluntary",), used.ru_nvcsw
            yield PROCESS_SWITCHES, ("involuntary",), used.ru_nivcsw
            yield PROCESS_FAULTS, ("minor",), used.ru_minflt
            yield PROCESS_FAULTS, ("major",), used.ru_majflt

    def _memory(self) -> Iterator[Reading]:
        pages = self._kernel.text("proc/self/statm").split()
        size = os.sysconf("SC_PAGE_SIZE")
        yield PROCESS_VIRTUAL, (), int(pages[0]) * size
        yield PROCESS_MEMORY, (), int(pages[1]) * size

    def _files(self) -> Iterator[Reading]:
        if resource is not None:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            if limit != resource.RLIM_INFINITY:
                yield PROCESS_FILES_LIMIT, (), limit
        yield PROCESS_FILES, (), self._count_files()

    def _count_files(self) -> int:
        folder = self._kernel.path("proc/self/fd")
        if not os.path.exists(folder):
            return len(os.listdir(_OPEN_FILES)) - 1  # without the one that lists
        # Linux 6.2 and later say how many as the folder's size; to list 10,000 takes milliseconds.
        return os.stat(folder).st_size or len(os.listdir(folder)) - 1

    def _disk(self) -> Iterator[Reading]:
        moved = parse_pairs(self._kernel.text("proc/self/io").replace(":", ""))
        yield PROCESS_DISK_IO, ("read",), moved["read_bytes"]
        yield PROCESS_DISK_IO, ("write",), moved["write_bytes"]

    def _stat(self) -> Iterator[Reading]:
        stat = parse_process_stat(self._kernel.text("proc/self/stat"))
        yield PROCESS_THREADS, (), stat.threads
        started = stat.started / os.sysconf("SC_CLK_TCK")
        yield PROCESS_UPTIME, (), max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
