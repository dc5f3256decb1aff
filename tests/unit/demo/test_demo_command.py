"""`tercet demo`: its words, and its processes one at a time."""

import argparse
import asyncio
import importlib.util
import io
import os
import socket
import sys

import httpx
import pytest
from fastapi import FastAPI
from order_evidence import evidence

from tercet.cli import demo
from tercet.demo import __main__ as service
from tercet.demo.catalog import GATEWAY, PORTS, RECEIVER
from tercet.demo.fleet import Fleet, Member, _commands, _end_one, _isolated, _listen


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def test_the_defaults_are_rounds_of_twenty_for_a_reader():
    """Without options it goes on, in text, with its own receiver."""
    assert vars(_parse()) == {"once": False, "json": False, "requests": 20, "otlp": None}


@pytest.mark.parametrize(
    "words",
    [
        ("--requests", "0"),
        ("--requests", "-1"),
        ("--requests", "many"),
        ("--requests", "²"),
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
        listeners = _listen({"a": port, "b": port + 1}, notices.append)
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()

    assert ports["a"] > port + 1
    assert notices[0] == f"Port {port} is taken: a listens on {ports['a']}."


def test_the_services_hear_of_their_peers_and_of_the_receiver(tmp_path):
    """Each command says who, where telemetry goes, and where the others are."""
    urls = {RECEIVER: "http://r", **{name: f"http://{name}" for name in PORTS}}

    commands = _commands(urls, "http://r", tmp_path)

    assert commands[RECEIVER] == ["tercet.console"]
    options = service._parser().parse_args([*commands[GATEWAY][1:]])
    assert (options.service, options.otlp, dict(options.peer)) == (GATEWAY, "http://r", urls)


def test_settings_of_the_user_do_not_reach_a_demo_with_its_own_receiver(tmp_path):
    """Nothing of the environment samples, redirects or proxies what the demo promises to show."""
    environ = _isolated({"OTEL_SDK_DISABLED": "true", "TERCET_LOG_LEVEL": "ERROR", "PATH": "/bin"}, tmp_path)

    assert environ == {
        "PATH": "/bin",
        "TERCET_CONFIG": str(tmp_path / "tercet.toml"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def test_a_failure_shows_the_last_words_of_who_ended(tmp_path):
    """The processes that still run are not to blame."""

    async def fail() -> str:
        fleet = Fleet()
        for name, code in (("ended", "print('boom')"), ("runs", "input()")):
            with (tmp_path / name).open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
                )
            fleet.add(Member(name, "http://x", process, tmp_path / name))
            if name == "ended":
                await process.wait()
        message = str(fleet.failure("no order"))
        await fleet.stop()
        return message

    assert asyncio.run(fail()) == "no order\nLast lines of ended:\n  boom"


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
