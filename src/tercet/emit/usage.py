"""What a service uses: each process for itself, and one of them for its host and its container.

Whatever reads is imported by the first collection: a process that starts has nothing to read yet.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from time import monotonic

from opentelemetry.metrics import Meter

from tercet.declare.usage import CONTAINER, HOST, PROCESS
from tercet.emit.forks import in_children, undivided
from tercet.emit.snapshot import Read, Reading, Snapshot

#: Seconds that a process must live to be measured: one that ends at once need not import what measures it.
_YOUNG = 1.0


def observe_process(meter: Meter, root: str = "/", young: float = _YOUNG) -> None:
    """Measure what each process uses, when metrics are collected.

    Args:
        meter: What makes the instruments.
        root: Where /proc and /sys are.
        young: Seconds in which there is nothing to say yet.
    """

    def build() -> Read:
        from tercet.emit.cgroup import Cgroups
        from tercet.emit.kernel import Kernel
        from tercet.emit.process import Process

        kernel = Kernel(root)
        process = Process(kernel, Cgroups(kernel))
        return lambda: kernel.remembering(process.readings())

    Snapshot(meter, PROCESS, _Late(build, young))


def observe_host(
    meter: Meter, service_name: str, root: str = "/", young: float = _YOUNG, directory: str | None = None
) -> None:
    """Measure what the host and the container use, in one process of a service.

    A server, its supervisor and its workers are one group of processes, and elect it among them.

    Args:
        meter: What makes the instruments.
        service_name: Of the service.
        root: Where /proc and /sys are.
        young: Seconds in which there is nothing to say yet.
        directory: Where they meet; one of this user's own among the temporary files when not given.
    """
    group = f"{service_name}\0{os.getpgrp()}\0{_namespace()}"

    def build() -> Read:
        from tercet.emit.cgroup import Cgroups
        from tercet.emit.election import Election
        from tercet.emit.host import Host
        from tercet.emit.kernel import Kernel

        kernel, election = Kernel(root), Election(_places() if directory is None else [directory], group)
        host, container = Host(kernel), Cgroups(kernel)

        def read() -> Iterator[Reading]:
            if election.is_won():
                yield from kernel.remembering(chain(host.readings(), container.readings()))

        return read

    Snapshot(meter, (*HOST, *CONTAINER), _Late(build, young))


class _Late:
    """Read with what is built when it is first asked, but not while the process is young.

    A forked child is young again: what is gone in a moment need neither be read nor elect anybody.

    Args:
        build: Builds what reads.
        young: Seconds from now in which nothing is read.
    """

    def __init__(self, build: Callable[[], Read], young: float) -> None:
        self._build = build
        self._young = young
        self._read: Read | None = None
        self._begin()
        in_children(self._begin)

    def _begin(self) -> None:
        self._from = monotonic() + self._young

    def __call__(self) -> Iterable[Reading]:
        if monotonic() < self._from:
            return ()
        if self._read is None:
            with undivided():  # It imports.
                self._read = self._build()
        return self._read()


def _places() -> list[str]:
    """List where processes of one user can meet; in a container, often only memory can be written."""
    folders = ["/dev/shm"]  # noqa: S108 - what is in it is checked
    with suppress(OSError):
        folders.insert(0, tempfile.gettempdir())
    return [os.path.join(folder, f"tercet-{os.geteuid()}") for folder in folders]


def _namespace() -> int:
    """Tell containers apart that share a directory; each has a process 1 of its own."""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0
