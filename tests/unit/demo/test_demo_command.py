"""`tercet demo`: its words, and its processes one at a time."""

import argparse
import asyncio
import importlib.util
import io
import os
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from order_evidence import evidence

from tercet.cli import demo
from tercet.demo import __main__ as service
from tercet.demo.catalog import GATEWAY, NOTIFICATION, PORTS, RECEIVER
from tercet.demo.faults import FAULTS
from tercet.demo.fleet import Fleet, Program, Surroundings, _commands, _end_one, _isolated
from tercet.demo.ports import DemoError, hold, listen, port_of
from tercet.demo.road import Road
from tercet.demo.sabotage import Sabotage


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def test_the_defaults_are_rounds_of_twenty_for_a_reader():
    """Without options it goes on, in text, with its own receiver."""
    assert vars(_parse()) == {
        "once": False,
        "json": False,
        "requests": 20,
        "rate": None,
        "faults": [],
        "otlp": None,
        "environment": "demo",
    }


def test_faults_add_up_and_are_explained():
    """Each has a line in the help."""
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)

    assert _parse("--fault", "payment-slow", "--fault", "database-locked").faults == [
        "payment-slow",
        "database-locked",
    ]
    assert all(f"  {fault.name:<18} {fault.story}\n" in parser.format_help() for fault in FAULTS.values())


@pytest.mark.parametrize(
    "words",
    [
        ("--requests", "0"),
        ("--requests", "-1"),
        ("--requests", "many"),
        ("--requests", "²"),
        ("--rate", "0"),
        ("--rate", "nan"),
        ("--rate", "1001"),
        ("--rate", "often"),
        ("--fault", "payment-slower"),
        ("--environment", " "),
        ("--otlp", "collector:4318"),
        ("--otlp", "ftp://collector"),
        ("--otlp", "http://"),
        ("--otlp", "http://c:99999"),
        ("--otlp", "http://["),
        ("--nonsense",),
    ],
)
def test_wrong_arguments_exit_with_2(words, capsys):
    """The message repeats what was typed."""
    with pytest.raises(SystemExit) as caught:
        _parse(*words)

    assert (caught.value.code, words[-1] in capsys.readouterr().err) == (2, True)


def test_missing_extras_are_one_line(monkeypatch, capsys):
    """Who lacks the extras reads how to get them."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else name)

    assert demo.run(_parse()) == 1
    assert capsys.readouterr().err == (
        'tercet demo needs fastapi, uvicorn and httpx. Install them with: pip install "tercet[demo]"\n'
    )


class Screen(io.TextIOWrapper):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding)
        self.isatty = lambda: terminal

    def read(self, size: int | None = -1) -> str:
        """Return what was written."""
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, terminal, no_color, coloured):
    """NO_COLOR and a pipe both mean plain text."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("NO_COLOR", no_color)

    demo._show(evidence(), _parse())

    assert ("\x1b[" in screen.read()) == coloured


def test_a_terminal_without_line_drawing_gets_question_marks(monkeypatch):
    """An old encoding is no reason for a traceback."""
    screen = Screen(terminal=False, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)

    demo._show(evidence(), _parse())

    assert "gateway" in screen.read()


@pytest.mark.parametrize(("terminal", "shown"), [(True, "\r[####"), (False, "")])
def test_progress_is_for_terminals(monkeypatch, terminal, shown):
    """A log file gets no bar."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)

    demo._progress(20, 20)

    assert screen.read()[:6].strip("#") == shown.strip("#")


def test_a_taken_port_picks_the_next_that_nobody_prefers():
    """The notice names both; other services keep the ports they prefer."""
    notices: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = listen({"a": port, "b": port + 1}, notices.append, [port + 2])
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()

    assert ports["a"] > port + 2
    assert notices[0] == f"Port {port} is taken: a listens on {ports['a']}."


def test_the_services_hear_of_their_peers_and_of_the_receiver(tmp_path):
    """Each command says who, where telemetry goes, and where the others are."""
    urls = {RECEIVER: "http://r", **{name: f"http://{name}" for name in PORTS}}

    surroundings = Surroundings(tmp_path, {}, environment="blue")
    commands = _commands(surroundings, urls, "http://r")

    assert commands[RECEIVER] == ("tercet.console",)
    options = service._parser().parse_args([*commands[GATEWAY][1:]])
    assert (options.service, options.otlp, dict(options.peer)) == (GATEWAY, "http://r", urls)
    assert (options.environment, options.faults, options.export_seconds) == (
        "blue",
        tmp_path / "faults",
        0.25,
    )


def test_settings_of_the_user_do_not_reach_a_demo_with_its_own_receiver(tmp_path):
    """Nothing of the environment samples, redirects or proxies what the demo promises to show."""
    environ = _isolated({"OTEL_SDK_DISABLED": "true", "TERCET_LOG_LEVEL": "ERROR", "PATH": "/bin"}, tmp_path)

    assert environ == {
        "PATH": "/bin",
        "TERCET_CONFIG": str(tmp_path / "tercet.toml"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


ECHO = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[2][5:]))
while True:
    with listener.accept()[0] as caller:
        caller.recv(1000)
        caller.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Make programs of a line or a few of Python."""

    def make(name: str, code: str) -> Program:
        (tmp_path / f"{name}_program.py").write_text(code)
        return Program(name, (f"{name}_program",), tmp_path, os.environ | {"PYTHONPATH": str(tmp_path)})

    return make


async def _started(fleet: Fleet, program: Program) -> int:
    listener = socket.create_server(("127.0.0.1", 0))
    port = port_of(listener)
    fleet.add(await program.start(listener))
    return port


def test_a_failure_shows_the_last_words_of_who_ended(program):
    """The processes that still run are not to blame."""

    async def fail() -> str:
        fleet = Fleet()
        await _started(fleet, program("ended", "print('boom')"))
        await fleet._members["ended"].process.wait()
        await _started(fleet, program("runs", "input()"))
        message = str(fleet.failure("no order"))
        await fleet.stop()
        return message

    assert asyncio.run(fail()) == "no order\nLast lines of ended:\n  boom"


async def _calls(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return str((await client.get(f"http://127.0.0.1:{port}/")).status_code)
        except httpx.ConnectError:
            return "refused"


def test_a_member_that_was_killed_refuses_until_it_is_revived(program):
    """On the same port, which nobody else can take meanwhile; and it is nobody's failure."""

    async def story() -> list[str]:
        fleet = Fleet()
        port = await _started(fleet, program(GATEWAY, ECHO))
        told = [await _calls(port)]
        await fleet.kill(GATEWAY)
        told += [await _calls(port), "blamed" if "Last lines" in str(fleet.failure("")) else ""]
        with pytest.raises(DemoError, match=f"port {port} must be free"):
            hold(port)
        await fleet.revive(GATEWAY)
        told.append(await _calls(port))
        await fleet.stop()
        return told

    assert asyncio.run(story()) == ["200", "refused", "blamed", "200"]


def test_the_services_own_words_say_what_is_undelivered(program):
    """Lines of other loggers, and lines that are no JSON, say nothing of it."""
    lines = [
        '{"logger": "tercet.export", "message": "Cannot deliver logs"}',
        '{"logger": "orders", "message": "tercet.export"}',
        "tercet.export is no JSON",
        '"tercet.export"',
    ]

    async def said() -> dict[str, list[str]]:
        fleet = Fleet()
        await _started(fleet, program("talks", f"for line in {lines}: print(line)"))
        await _started(fleet, program("quiet", ""))
        for member in fleet._members.values():
            await member.process.wait()
        await fleet.stop()
        return fleet.undelivered()

    assert asyncio.run(said()) == {"talks": ["Cannot deliver logs"]}


class Recorder:
    """Processes that only remember what was done to them."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def kill(self, name: str) -> None:
        self.done.append(f"kill {name}")

    async def revive(self, name: str) -> None:
        self.done.append(f"revive {name}")


def test_a_fault_is_switched_once(tmp_path):
    """On twice is on, off twice is off."""
    processes = Recorder()
    sabotage = Sabotage(processes, tmp_path, tmp_path / "orders.db", None)

    async def switch() -> None:
        for on in (False, True, True, False, False):
            await sabotage.switch("notification-down", on=on)

    asyncio.run(switch())

    assert processes.done == [f"kill {NOTIFICATION}", f"revive {NOTIFICATION}"]


def test_a_fault_of_a_service_is_a_file_while_it_is_on(tmp_path):
    """So that a script can look, and switch."""
    sabotage = Sabotage(Recorder(), tmp_path, tmp_path / "orders.db", None)

    async def files() -> list[list[str]]:
        seen = []
        for on in (True, False):
            await sabotage.switch("payment-slow", on=on)
            seen.append([path.name for path in tmp_path.iterdir()])
        return seen

    assert asyncio.run(files()) == [["payment-slow"], []]


def test_a_locked_database_is_free_again_when_it_is_released(tmp_path):
    """Whoever writes meanwhile reads SQLite's own words."""
    database = tmp_path / "orders.db"
    sabotage = Sabotage(Recorder(), tmp_path, database, None)

    def write() -> str:
        with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("CREATE TABLE IF NOT EXISTS orders (id)")
            except sqlite3.OperationalError as error:
                return str(error)
            return "written"

    async def story() -> list[str]:
        told = [write()]
        await sabotage.switch("database-locked", on=True)
        told.append(write())
        await sabotage.release()
        return [*told, write()]

    assert asyncio.run(story()) == ["written", "database is locked", "written"]


def test_a_database_that_cannot_be_locked_is_said(tmp_path):
    """The lock is not pretended."""
    (tmp_path / "orders.db").write_text("no database " * 100)
    sabotage = Sabotage(Recorder(), tmp_path, tmp_path / "orders.db", None)

    with pytest.raises(DemoError, match=r"database must be free to be locked, got file is not a database"):
        asyncio.run(sabotage.switch("database-locked", on=True))


@pytest.mark.parametrize(
    ("name", "reason"), [("rain", "fault must be one of"), ("collector-away", "--fault")]
)
def test_a_fault_that_cannot_be_is_named(tmp_path, name, reason):
    """A wrong name, or a road that was never laid."""
    with pytest.raises(DemoError, match=reason):
        asyncio.run(Sabotage(Recorder(), tmp_path, tmp_path, None).switch(name, on=True))


def test_a_road_carries_what_it_is_given_and_refuses_while_it_is_closed():
    """At the same address, with the collector's own path."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def story() -> list[str]:
        collector = await asyncio.start_server(answer, "127.0.0.1", 0)
        target = f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}/otlp"
        async with collector, Road(target) as road:
            assert road.url.endswith("/otlp")
            port = int(road.url.removesuffix("/otlp").rpartition(":")[2])
            told = [await _calls(port)]
            await Sabotage(Recorder(), Path(), Path(), road).switch("collector-away", on=True)
            told.append(await _calls(port))
            await road.open()
            return [*told, await _calls(port)]

    assert asyncio.run(story()) == ["200", "refused", "200"]


def test_a_road_to_nowhere_ends_the_call():
    """As a proxy does, before a collector that does not run."""

    async def call() -> str:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = port_of(closed)
        async with Road(f"http://127.0.0.1:{port}") as road, httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.TransportError) as caught:
                await client.get(road.url)
        return type(caught.value).__name__

    assert asyncio.run(call()) in {"ReadError", "RemoteProtocolError", "ConnectError"}


def test_a_road_cannot_pass_for_a_collector_with_a_certificate():
    """Rather no fault than a connection that fails for another reason."""
    with pytest.raises(DemoError, match=r"--otlp must be an http:// URL for collector-away"):
        Road("https://collector.example:4318")


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    """Leaving nothing behind does not depend on anybody's good will."""
    monkeypatch.setattr("tercet.demo.fleet._STOP_SECONDS", 0.1)

    async def stubborn() -> int | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import time; time.sleep(60)", stdin=asyncio.subprocess.DEVNULL
        )
        await _end_one(process)
        return process.returncode

    assert asyncio.run(stubborn()) == -9


def test_a_process_that_ends_just_before_it_is_killed_has_ended(monkeypatch):
    """It is what was wanted."""
    monkeypatch.setattr("tercet.demo.fleet._STOP_SECONDS", 0.01)

    class Late:
        ended = False

        async def wait(self):
            await asyncio.sleep(0 if self.ended else 60)

        def kill(self):
            self.ended = True
            raise ProcessLookupError

    late = Late()
    asyncio.run(_end_one(late))
    assert late.ended


def test_a_service_takes_an_inherited_socket_or_its_own_port():
    """`--fd` hands over a socket; `--port` binds one on loopback."""
    parser = service._parser()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        inherited = service._listener(parser.parse_args([GATEWAY, f"--fd={os.dup(listener.fileno())}"]))
        found = inherited.getsockname()[1]
        inherited.close()
    with service._listener(parser.parse_args([GATEWAY, f"--port={port}"])) as own:
        assert (found, own.getsockname()) == (port, ("127.0.0.1", port))


def test_a_service_keeps_a_connection_longer_than_its_callers():
    """Who lets go of an idle connection is always the caller, so no order meets a closing door."""
    config = service.build_config(FastAPI())

    assert config.timeout_keep_alive > httpx.Limits().keepalive_expiry
