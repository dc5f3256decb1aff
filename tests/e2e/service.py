"""Processes for tests: started on a free loopback port, heard line by line, stopped by process id."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
#: Seconds to wait for what must come: far more than it takes, for a machine that does other work as well.
PATIENCE = 60.0
#: Seconds that such a machine may add to what must be quick; to break a promise must cost more than that, as
#: an export does, which may take ten seconds.
SLACK = 7.5
_POLL = 0.02


def free_port() -> int:
    """Find a port that nobody listens on, below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port


class Lines:
    """What a process has written to one stream so far, line by line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                with self._changed:
                    self._lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def so_far(self) -> list[str]:
        """Return the lines written so far."""
        with self._changed:
            return list(self._lines)

    def wait_for(self, find: Callable[[list[str]], T], seconds: float = PATIENCE) -> T:
        """Wait until `find` finds something in the lines, and return that.

        Raises:
            AssertionError: Nothing was found before the time was up or the stream ended.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (found := find(self._lines)):
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError("not written; here is what was:\n" + "\n".join(self._lines))
            return found

    def join(self, seconds: float) -> None:
        """Wait until the stream has ended: no process holds it any more."""
        self._thread.join(seconds)


@dataclass(slots=True)
class Service:
    """A running command."""

    process: "subprocess.Popen[str]"
    port: int
    stdout: Lines
    stderr: Lines

    @property
    def url(self) -> str:
        """Say where it listens."""
        return f"http://{LOOPBACK}:{self.port}"

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask over a connection of its own; a worker that still starts is waited for."""
        # No certificates are read for a request that needs none: that costs more than the request.
        return httpx.get(self.url + path, timeout=PATIENCE, verify=False, **options)

    def stop(self, number: int = signal.SIGTERM, seconds: float = PATIENCE) -> float:
        """Send a signal to the process, and return how many seconds it took to end.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(seconds)
        took = time.monotonic() - started
        self.stdout.join(seconds)
        self.stderr.join(seconds)
        return took

    def log(self) -> list[dict[str, Any]]:
        """Read every line of stdout as JSON.

        Raises:
            json.JSONDecodeError: A line is something else.
        """
        return [json.loads(line) for line in self.stdout.so_far()]

    def warnings(self) -> list[str]:
        """Return what tercet itself has warned of."""
        lines = [json.loads(line) for line in self.stdout.so_far() if line.startswith("{")]
        own = [each for each in lines if each["logger"] == "tercet" and each["level"] == "WARNING"]
        return [each["message"] for each in own]

    def wait_until_it_accepts(self, seconds: float = PATIENCE) -> None:
        """Wait until something accepts connections on the port.

        Raises:
            AssertionError: The process ended instead, or the time is up.
        """
        deadline = time.monotonic() + seconds
        while not _accepts(self.port):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(_POLL)
            assert self.process.returncode is None, f"it ended instead:\n{self.said()}"
            assert time.monotonic() < deadline, f"no listener in {seconds:g} s:\n{self.said()}"

    def said(self) -> str:
        """Return everything it has written, for the message of a failure."""
        return "\n".join([*self.stdout.so_far(), "--- stderr", *self.stderr.so_far()])


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def started(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, port: int | None = None
) -> Iterator[Service]:
    """Start a command, its `{port}` replaced by that or a free one, and leave no process of it behind."""
    port = port or free_port()
    process = subprocess.Popen(
        [part.replace("{port}", str(port)) for part in command],
        env={key: value.replace("{port}", str(port)) for key, value in env.items()},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    service = Service(process, port, Lines(process.stdout), Lines(process.stderr))
    try:
        yield service
    finally:
        # The session is its own, so this reaches its workers and nobody else.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        service.stdout.join(5)
        service.stderr.join(5)


@contextmanager
def serve(command: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[Service]:
    """Start a server, and hand it over when it accepts connections."""
    with started(command, env, cwd) as service:
        service.wait_until_it_accepts()
        yield service
