"""What the kernel's files say, as numbers: text in, numbers out.

https://www.kernel.org/doc/html/latest/filesystems/proc.html is the source where a function names no other.
Fields that later kernels append are passed over, and a text that is no such file raises `ValueError` or
`LookupError`.
"""

from typing import NamedTuple

# https://www.kernel.org/doc/html/latest/admin-guide/iostats.html: sectors are these, whatever the disk has.
SECTOR = 512
_CPU_MODES = ("user", "nice", "system", "idle", "iowait", "interrupt", "interrupt", "steal")


def parse_pairs(text: str) -> dict[str, int]:
    r"""Read lines of a name and a number: /proc/vmstat, and most files of control groups.

    >>> parse_pairs("oom_kill 2\npswpin 0\n")
    {'oom_kill': 2, 'pswpin': 0}
    """
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


class Stat(NamedTuple):
    """What /proc/stat says: seconds by mode over all CPUs, their number, threads that run and that wait."""

    seconds: dict[str, float]
    cpus: int
    running: int
    blocked: int


def parse_stat(text: str, ticks: int) -> Stat:
    """Read /proc/stat, whose times are in `ticks` a second; soft interrupts count as interrupts."""
    lines = [line.split() for line in text.splitlines()]
    seconds = dict.fromkeys(_CPU_MODES, 0.0)
    for mode, value in zip(_CPU_MODES, lines[0][1:], strict=False):
        seconds[mode] += int(value) / ticks
    named = {fields[0]: fields[1] for fields in lines if fields}
    cpus = sum(name.startswith("cpu") for name in named) - 1
    return Stat(seconds, cpus, int(named["procs_running"]), int(named["procs_blocked"]))


def parse_load(text: str) -> float:
    """Read the load of the last minute from /proc/loadavg.

    >>> parse_load("0.30 0.35 0.65 2/84 1654")
    0.3
    """
    return float(text.split(maxsplit=1)[0])


def parse_meminfo(text: str) -> dict[str, int]:
    r"""Read /proc/meminfo in bytes.

    >>> parse_meminfo("MemTotal:       24684084 kB\nHugePages_Total:       0\n")
    {'MemTotal': 25276502016, 'HugePages_Total': 0}
    """
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, *unit = value.split()
        found[name] = int(number) * (1024 if unit else 1)
    return found


def parse_pressure(text: str) -> dict[str, float]:
    r"""Read how many seconds some, or all, have waited: https://docs.kernel.org/accounting/psi.html.

    >>> parse_pressure("some avg10=0.26 avg60=0.60 avg300=2.60 total=1844563408\n")
    {'some': 1844.563408}
    """
    return {line.split()[0]: int(line.rpartition("total=")[2]) / 1e6 for line in text.splitlines()}


class Interface(NamedTuple):
    """What one network interface has received and sent."""

    received: int
    packets_received: int
    receive_errors: int
    receive_drops: int
    sent: int
    packets_sent: int
    send_errors: int
    send_drops: int


def parse_interfaces(text: str) -> dict[str, Interface]:
    """Read /proc/net/dev."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, values = line.rpartition(":")
        numbers = [int(value) for value in values.split()]
        found[name.strip()] = Interface(*numbers[:4], *numbers[8:12])
    return found


def parse_protocol(text: str, protocol: str) -> dict[str, int]:
    r"""Read one protocol from /proc/net/snmp or /proc/net/netstat: a line of names, one of numbers.

    >>> parse_protocol("Udp: In Out\nUdp: 1 2\nTcp: InSegs RetransSegs\nTcp: 10 3\n", "Tcp")
    {'InSegs': 10, 'RetransSegs': 3}
    """
    names, numbers = (line.split()[1:] for line in text.splitlines() if line.startswith(f"{protocol}: "))
    return dict(zip(names, map(int, numbers), strict=True))


class Disk(NamedTuple):
    """What one disk, or a part of it, has done; times are seconds."""

    reads: int
    read: int
    read_time: float
    writes: int
    written: int
    write_time: float
    queue: int
    busy: float
    queue_time: float


def parse_disks(text: str) -> dict[str, Disk]:
    """Read /proc/diskstats: https://www.kernel.org/doc/html/latest/admin-guide/iostats.html."""
    found = {}
    for line in text.splitlines():
        _, _, name, *rest = line.split()
        reads, _, read, read_ms, writes, _, written, write_ms, queue, busy_ms, queue_ms = map(int, rest[:11])
        found[name] = Disk(
            reads,
            read * SECTOR,
            read_ms / 1e3,
            writes,
            written * SECTOR,
            write_ms / 1e3,
            queue,
            busy_ms / 1e3,
            queue_ms / 1e3,
        )
    return found


class Mount(NamedTuple):
    """What is mounted where: which part (root) of which filesystem, by its device number and its name."""

    number: str
    root: str
    point: str
    kind: str
    device: str
    options: tuple[str, ...]


def parse_mounts(text: str) -> list[Mount]:
    r"""Read /proc/self/mountinfo, in which a space within a name is written as `\040`."""
    found = []
    for line in text.splitlines():
        place, _, filesystem = line.partition(" - ")
        number, root, point = place.split()[2:5]
        kind, device, options = [*filesystem.split(), ""][:3]
        found.append(
            Mount(number, _plain(root), _plain(point), kind, _plain(device), tuple(options.split(",")))
        )
    return found


def _plain(text: str) -> str:
    for escaped, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escaped, character)
    return text


class ProcessStat(NamedTuple):
    """What /proc/self/stat says: threads, and when it started, in ticks since the host did."""

    threads: int
    started: int


def parse_process_stat(text: str) -> ProcessStat:
    """Read /proc/self/stat; a program's name in it may hold anything, parentheses too."""
    fields = text.rpartition(")")[2].split()
    return ProcessStat(int(fields[17]), int(fields[19]))


def add_up(prefix: str, numbers: dict[str, int]) -> int:
    """Add up what some kernels count in one number, and others in one for each zone of memory.

    >>> add_up("allocstall", {"allocstall_normal": 1, "allocstall_movable": 2, "pgfault": 3})
    3
    """
    return sum(number for name, number in numbers.items() if name.startswith(prefix))
