"""What the host of this process uses, where it waits and what fails: CPU, memory, network and disk.

Nothing here is read on systems without the kernel's files; each part is left out where it is not there.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import monotonic

from tercet.declare.usage import (
    CPU_COUNT,
    CPU_LOAD,
    CPU_QUEUE,
    CPU_TIME,
    CPU_UTILIZATION,
    DISK_IO,
    DISK_IO_TIME,
    DISK_OPERATION_TIME,
    DISK_OPERATIONS,
    DISK_QUEUE,
    DISK_QUEUE_TIME,
    DISK_UTILIZATION,
    FILESYSTEM,
    FILESYSTEM_LIMIT,
    FILESYSTEM_UTILIZATION,
    HARDWARE_ERRORS,
    MEMORY,
    MEMORY_AVAILABLE,
    MEMORY_LIMIT,
    MEMORY_STALLS,
    MEMORY_UTILIZATION,
    NETWORK_DROPPED,
    NETWORK_ERRORS,
    NETWORK_IO,
    NETWORK_LIMIT,
    NETWORK_PACKETS,
    NETWORK_UTILIZATION,
    OOM_KILLS,
    PAGING,
    PAGING_FAULTS,
    PAGING_OPERATIONS,
    PAGING_UTILIZATION,
    PRESSURE,
    TCP_ERRORS,
    TCP_REFUSED,
    TCP_RETRANSMITS,
    TCP_SEGMENTS,
)
from tercet.emit.cgroup import RESOURCES
from tercet.emit.kernel import Kernel, Rates, all_of
from tercet.emit.procfs import (
    Disk,
    Interface,
    Mount,
    add_up,
    parse_disks,
    parse_interfaces,
    parse_load,
    parse_meminfo,
    parse_mounts,
    parse_pairs,
    parse_pressure,
    parse_protocol,
    parse_stat,
)
from tercet.emit.snapshot import Reading

#: Interfaces, disks and filesystems of one host, at most; what is beyond is left out.
_MOST = 32
# What passes these passes a real interface too, or never leaves the host; a host of containers has hundreds.
_VIRTUAL_INTERFACES = (
    "lo", "veth", "docker", "br-", "cni", "cali", "flannel", "lxc", "virbr", "vnet", "tap", "ifb", "dummy",
)  # fmt: skip
# Layers over other disks, or over memory.
_VIRTUAL_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd")
# To ask a filesystem across a network may take forever.
_LOCAL_FILESYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "vfat", "overlay"}
)
_MEGABIT = 125_000


class Host:
    """Read what the host uses.

    Args:
        kernel: Where its files are.
        clock: Seconds that only go forward.
    """

    def __init__(self, kernel: Kernel, clock: Callable[[], float] = monotonic) -> None:
        self._kernel = kernel
        self._cpu_rates, self._disk_rates, self._network_rates = Rates(clock), Rates(clock), Rates(clock)
        self._speeds: dict[str, int | None] = {}

    def readings(self) -> Iterator[Reading]:
        """Read all of it."""
        return all_of(
            self._cpu,
            self._pressure,
            self._memory,
            self._paging,
            self._interfaces,
            self._tcp,
            self._tcp_refused,
            self._disks,
            self._filesystems,
            self._memory_errors,
            self._disk_errors,
            self._heat,
        )

    def _cpu(self) -> Iterator[Reading]:
        stat = parse_stat(self._kernel.text("proc/stat"), os.sysconf("SC_CLK_TCK"))
        yield CPU_COUNT, (), stat.cpus
        for mode, seconds in stat.seconds.items():
            yield CPU_TIME, (mode,), seconds
        rates = self._cpu_rates.of(stat.seconds)
        # The modes make up the time there is, whatever a clock says.
        total = sum(rates.values())
        for mode, rate in rates.items() if total else ():
            yield CPU_UTILIZATION, (mode,), rate / total
        yield CPU_QUEUE, ("running",), stat.running
        yield CPU_QUEUE, ("blocked",), stat.blocked
        yield CPU_LOAD, (), parse_load(self._kernel.text("proc/loadavg")) / stat.cpus

    def _pressure(self) -> Iterator[Reading]:
        for resource in RESOURCES:
            for share, seconds in parse_pressure(self._kernel.text(f"proc/pressure/{resource}")).items():
                yield PRESSURE, (resource, share), seconds

    def _memory(self) -> Iterator[Reading]:
        info = parse_meminfo(self._kernel.text("proc/meminfo"))
        total = info["MemTotal"]
        states = {
            "free": info["MemFree"],
            "buffers": info["Buffers"],
            "cached": info["Cached"] + info.get("SReclaimable", 0),
        }
        states["used"] = max(0, total - sum(states.values()))
        for state, size in states.items():
            yield MEMORY, (state,), size
            yield MEMORY_UTILIZATION, (state,), size / total
        yield MEMORY_LIMIT, (), total
        yield MEMORY_AVAILABLE, (), info["MemAvailable"]
        swap = info["SwapTotal"]
        used = swap - info["SwapFree"]
        for state, size in (("used", used), ("free", info["SwapFree"])):
            yield PAGING, (state,), size
            if swap:
                yield PAGING_UTILIZATION, (state,), size / swap

    def _paging(self) -> Iterator[Reading]:
        counts = parse_pairs(self._kernel.text("proc/vmstat"))
        yield PAGING_OPERATIONS, ("in",), counts["pswpin"]
        yield PAGING_OPERATIONS, ("out",), counts["pswpout"]
        yield PAGING_FAULTS, ("major",), counts["pgmajfault"]
        yield PAGING_FAULTS, ("minor",), counts["pgfault"] - counts["pgmajfault"]
        yield MEMORY_STALLS, (), add_up("allocstall", counts)
        if "oom_kill" in counts:  # since Linux 4.13
            yield OOM_KILLS, (), counts["oom_kill"]

    def _interfaces(self) -> Iterator[Reading]:
        found = parse_interfaces(self._kernel.text("proc/net/dev"))
        real = {name: each for name, each in found.items() if not name.startswith(_VIRTUAL_INTERFACES)}
        moved: dict[tuple[str, str], int] = {}
        for name in list(real)[:_MOST]:
            yield from _interface(name, real[name])
            moved[name, "receive"], moved[name, "transmit"] = real[name].received, real[name].sent
        rates = self._network_rates.of(moved)
        for name in list(real)[:_MOST]:
            if speed := self._speed(name):
                yield NETWORK_LIMIT, (name,), speed
                for direction in ("receive", "transmit"):
                    if (name, direction) in rates:
                        yield NETWORK_UTILIZATION, (name, direction), rates[name, direction] / speed

    def _speed(self, name: str) -> int | None:
        """Return bytes a second, asked once: a driver may take long to say it."""
        if name not in self._speeds:
            megabits = self._kernel.number(f"sys/class/net/{name}/speed")
            self._speeds[name] = megabits * _MEGABIT if megabits and megabits > 0 else None
        return self._speeds[name]

    def _tcp(self) -> Iterator[Reading]:
        tcp = parse_protocol(self._kernel.text("proc/net/snmp"), "Tcp")
        yield TCP_SEGMENTS, ("receive",), tcp["InSegs"]
        yield TCP_SEGMENTS, ("transmit",), tcp["OutSegs"]
        yield TCP_RETRANSMITS, (), tcp["RetransSegs"]
        yield TCP_ERRORS, (), tcp["InErrs"]

    def _tcp_refused(self) -> Iterator[Reading]:
        yield TCP_REFUSED, (), parse_protocol(self._kernel.text("proc/net/netstat"), "TcpExt")["ListenDrops"]

    def _disks(self) -> Iterator[Reading]:
        whole = self._disk_names()
        found = parse_disks(self._kernel.text("proc/diskstats"))
        disks = {name: disk for name, disk in found.items() if name in whole}
        rates = self._disk_rates.of({name: disk.busy for name, disk in disks.items()})
        for name, disk in disks.items():
            yield from _disk(name, disk)
            if name in rates:
                yield DISK_UTILIZATION, (name,), min(1.0, rates[name])

    def _disk_names(self) -> list[str]:
        """Name the disks; what is only in /proc/diskstats is a part of one."""
        names = self._kernel.names("sys/block")
        return [name for name in names if not name.startswith(_VIRTUAL_DISKS)][:_MOST]

    def _filesystems(self) -> Iterator[Reading]:
        mounts = parse_mounts(self._kernel.text("proc/self/mountinfo"))
        for mount in _local(mounts)[:_MOST]:
            with suppress(OSError):
                yield from _filesystem(mount, os.statvfs(self._kernel.path(mount.point)))

    def _memory_errors(self) -> Iterator[Reading]:
        # https://docs.kernel.org/admin-guide/RAS/main.html: corrected and uncorrected errors.
        folder = "sys/devices/system/edac/mc"
        for name in self._kernel.names(folder):
            for kind, file in (("corrected", "ce_count"), ("uncorrected", "ue_count")):
                yield from self._errors("memory", name, kind, f"{folder}/{name}/{file}")

    def _disk_errors(self) -> Iterator[Reading]:
        for name in self._disk_names():
            yield from self._errors("physical_disk", name, "io", f"sys/block/{name}/device/ioerr_cnt")
        for name in self._kernel.names("sys/fs/ext4")[:_MOST]:
            yield from self._errors("logical_disk", name, "ext4", f"sys/fs/ext4/{name}/errors_count")

    def _heat(self) -> Iterator[Reading]:
        # Documentation/ABI/testing/sysfs-devices-system-cpu: how often the first package got too hot.
        folder = "sys/devices/system/cpu/cpu0/thermal_throttle"
        yield from self._errors("cpu", "cpu0", "heat", f"{folder}/package_throttle_count")

    def _errors(self, kind: str, name: str, error: str, file: str) -> Iterator[Reading]:
        count = self._kernel.number(file)
        if count is not None:
            yield HARDWARE_ERRORS, (kind, name, error), count


def _interface(name: str, counts: Interface) -> Iterator[Reading]:
    yield NETWORK_IO, (name, "receive"), counts.received
    yield NETWORK_IO, (name, "transmit"), counts.sent
    yield NETWORK_PACKETS, (name, "receive"), counts.packets_received
    yield NETWORK_PACKETS, (name, "transmit"), counts.packets_sent
    yield NETWORK_DROPPED, (name, "receive"), counts.receive_drops
    yield NETWORK_DROPPED, (name, "transmit"), counts.send_drops
    yield NETWORK_ERRORS, (name, "receive"), counts.receive_errors
    yield NETWORK_ERRORS, (name, "transmit"), counts.send_errors


def _disk(name: str, disk: Disk) -> Iterator[Reading]:
    yield DISK_IO, (name, "read"), disk.read
    yield DISK_IO, (name, "write"), disk.written
    yield DISK_OPERATIONS, (name, "read"), disk.reads
    yield DISK_OPERATIONS, (name, "write"), disk.writes
    yield DISK_OPERATION_TIME, (name, "read"), disk.read_time
    yield DISK_OPERATION_TIME, (name, "write"), disk.write_time
    yield DISK_IO_TIME, (name,), disk.busy
    yield DISK_QUEUE, (name,), disk.queue
    yield DISK_QUEUE_TIME, (name,), disk.queue_time


def _local(mounts: Iterable[Mount]) -> list[Mount]:
    """Choose the filesystems of this host's own disks, each where it is mounted first."""
    found: dict[str, Mount] = {}
    for mount in mounts:
        if mount.kind in _LOCAL_FILESYSTEMS:
            found.setdefault(mount.number, mount)
    return list(found.values())


def _filesystem(mount: Mount, size: os.statvfs_result) -> Iterator[Reading]:
    labels = (mount.device, mount.point, mount.kind)
    used, free = size.f_blocks - size.f_bfree, size.f_bavail
    if size.f_blocks:
        yield FILESYSTEM_LIMIT, labels, size.f_blocks * size.f_frsize
        yield FILESYSTEM, (*labels, "used"), used * size.f_frsize
        yield FILESYSTEM, (*labels, "free"), free * size.f_frsize
        yield FILESYSTEM, (*labels, "reserved"), (size.f_bfree - free) * size.f_frsize
        yield FILESYSTEM_UTILIZATION, labels, used / (used + free) if used + free else 1.0
