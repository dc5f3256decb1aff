"""What a service uses: each process for itself, and one of them for its host and its container.

Whatever reads is imported by the first collection: a process that starts has nothing to read yet.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from opentelemetry.metrics import Meter

from tercet.declare.usage import CONTAINER, HOST, PROCESS
from tercet.emit.snapshot import Read, Reading, Snapshot


def observe_process(meter: Meter, root: str = "/") -> None:
    """Measure what each process uses, when metrics are collected.

    Args:
        meter: What makes the instruments.
        root: Where /proc and /sys are.
    """

    def build() -> Read:
        from tercet.emit.cgroup import Cgroups
        from tercet.emit.kernel import Kernel
        from tercet.emit.process import Process

        kernel = Kernel(root)
        process = Process(kernel, Cgroups(kernel))

        def read() -> Iterable[Reading]:
            kernel.forget()
            return process.readings()

        return read

    Snapshot(meter, PROCESS, _Late(build))


def observe_host(meter: Meter, service_name: str, root: str = "/", directory: str | None = None) -> None:
    """Measure what the host and the container use, in one process of a service.

    A server, its supervisor and its workers are one group of processes, and elect it among them.

    Args:
        meter: What makes the instruments.
        service_name: Of the service.
        root: Where /proc and /sys are.
        directory: Where they meet; one of this user's own among the temporary files when not given.
    """
    group = f"{service_name}\0{os.getpgrp()}\0{_namespace()}"
    place = directory or os.path.join(tempfile.gettempdir(), f"tercet-{_user()}")

    def build() -> Read:
        from tercet.emit.cgroup import Cgroups
        from tercet.emit.election import Election
        from tercet.emit.host import Host
        from tercet.emit.kernel import Kernel

        kernel, election = Kernel(root), Election(place, group)
        host, container = Host(kernel), Cgroups(kernel)

        def read() -> Iterator[Reading]:
            if election.is_won():
                kernel.forget()
                yield from host.readings()
                yield from container.readings()

        return read

    Snapshot(meter, (*HOST, *CONTAINER), _Late(build))


class _Late:
    """Read with what is built when it is first asked."""

    def __init__(self, build: Callable[[], Read]) -> None:
        self._build = build
        self._read: Read | None = None

    def __call__(self) -> Iterable[Reading]:
        if self._read is None:
            self._read = self._build()
        return self._read()


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _namespace() -> int:
    """Tell containers apart that share a directory; each has a process 1 of its own."""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0
