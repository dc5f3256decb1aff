"""The console as a process of its own."""

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tercet.console import __main__ as command
from tercet.console import parent

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start consoles, and end them after the test."""
    started = []

    def starter(*arguments: str, **options) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tercet.console", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield starter
    for process in started:
        with process:
            process.kill()


def _url(process: subprocess.Popen[str]) -> str:
    return json.loads(process.stdout.readline())["url"]


def test_it_says_where_it_listens_and_ends_with_its_parent(start):
    """One JSON line when ready; the end of stdin is the end of the process."""
    process = start("--port", "0", "--with-parent")
    with urllib.request.urlopen(_url(process) + "/api/stats", timeout=5) as response:
        assert json.load(response)["traces"]["kept"] == 0

    process.stdin.close()

    assert process.wait(5) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(start, number):
    """SIGTERM and Ctrl-C are a clean end."""
    process = start("--port", "0")
    _url(process)

    process.send_signal(number)

    assert (process.wait(5), process.stderr.read()) == (0, "")


def test_it_serves_an_inherited_socket(start):
    """A parent that chose the port hands over the socket itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = start("--fd", str(listener.fileno()), pass_fds=(listener.fileno(),))

        assert _url(process) == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("port", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_one_line(capsys, port):
    """A taken port is a sentence, not a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port if port != "taken" else str(taken.getsockname()[1])

        assert command.main(["--port", port]) == 1

    assert capsys.readouterr().err.startswith(f"--port must be a free port of this machine, got {port}")


def test_the_end_of_stdin_is_heard(monkeypatch):
    """What a parent writes is ignored; that it ends is not."""
    ours, theirs = socket.socketpair()
    ended = threading.Event()
    with closing(theirs):
        monkeypatch.setattr(parent, "_STDIN", theirs.fileno())
        parent.when_parent_ends(ended.set)
        ours.send(b"noise")
        ours.close()

        assert ended.wait(5)
