"""`tercet demo` as a user starts it: the document's order trace, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from service import PATIENCE

from tercet.cli import main
from tercet.console import query
from tercet.console.server import Server
from tercet.console.store import Store

COMMAND = [sys.executable, "-m", "tercet.cli.main", "demo"]
SERVICES = {"gateway", "auth-service", "order-service", "payment-service", "notification"}
TREE = """\
gateway: POST /orders
  auth-service: POST /verify
  order-service: POST /orders
    order-service: database
    payment-service: POST /charge
  notification: POST /notify
"""


def _run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, check=False, **options
    )


def _complaints(stderr: str) -> list[str]:
    """Leave out what is said of ports: they may be taken by a demo that somebody else runs here."""
    return [line for line in stderr.splitlines() if " is taken: " not in line]


def _picture(node: dict, indent: str = "") -> str:
    below = "".join(_picture(child, indent + "  ") for child in node["children"])
    return f"{indent}{node['service']}: {node['name']}\n{below}"


@pytest.fixture(scope="module")
def order() -> dict:
    """What one round says in JSON."""
    done = _run("--once", "--json", "--requests", "10")
    assert done.returncode == 0, done.stderr
    assert _complaints(done.stderr) == []
    return json.loads(done.stdout)


def test_the_trace_is_the_documents(order):
    """One trace id over five services with the document's parents and children."""
    spans = order["trace"]["spans"]

    assert _picture(order["trace"]["tree"]) == TREE
    assert {span["trace_id"] for span in spans} == {order["trace"]["trace_id"]}
    assert {span["service"] for span in spans} == SERVICES
    assert {span["attributes"]["correlation_id"] for span in spans} == {order["trace"]["correlation_id"]}


def test_every_span_but_the_first_has_its_parent(order):
    """Five requests served, four sent on, one database."""
    spans = {span["span_id"]: span for span in order["trace"]["spans"]}
    orphans = [span["service"] for span in spans.values() if span["parent_span_id"] not in spans]

    assert (len(spans), orphans) == (10, ["gateway"])


def test_the_spans_carry_the_documents_tags(order):
    """user_id, the query, amount and type, each on the span that knows."""
    tags = {
        (s["service"], s["kind"] if s["name"] != "database" else "database"): s
        for s in order["trace"]["spans"]
    }

    assert tags["auth-service", "server"]["attributes"]["user_id"].startswith("usr_")
    assert tags["order-service", "database"]["attributes"]["db.system.name"] == "sqlite"
    assert "SELECT" in tags["order-service", "database"]["attributes"]["db.query.text"]
    assert tags["payment-service", "server"]["attributes"]["amount"] == 150.0
    assert tags["notification", "server"]["attributes"]["type"] == "email"


def test_the_waterfall_has_the_documents_shape(order):
    """One after the other, each inside its parent."""
    start = {
        span["service"]: span["start_ms"] for span in order["trace"]["spans"] if span["kind"] == "server"
    }
    (database,) = [span for span in order["trace"]["spans"] if span["name"] == "database"]

    moments = [
        start["gateway"],
        start["auth-service"],
        start["order-service"],
        database["start_ms"],
        start["payment-service"],
        start["notification"],
        order["trace"]["duration_ms"],
    ]
    assert moments == sorted(moments)


def test_red_counts_are_the_requests_sent(order):
    """No probe and no request counted twice, in any service."""
    assert {row["service"]: (row["requests"], row["errors"]) for row in order["red"]} == dict.fromkeys(
        SERVICES, (10, 0)
    )
    assert order["requests_sent"] == 10
    assert all(
        0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] and row["rate"] > 0 for row in order["red"]
    )


def test_every_log_line_has_the_trace_and_one_correlation_id(order):
    """Lines of five services are one story."""
    ids = {(line["trace_id"], line["correlation_id"]) for line in order["logs"]}

    assert ids == {(order["trace"]["trace_id"], order["trace"]["correlation_id"])}
    assert {line["service"] for line in order["logs"]} == SERVICES
    assert {line["message"] for line in order["logs"]} >= {
        "order_created",
        "payment_charged",
        "request_completed",
    }


def test_log_lines_point_at_spans_of_the_trace(order):
    """From a line to its span is one step."""
    assert {line["span_id"] for line in order["logs"]} <= {
        span["span_id"] for span in order["trace"]["spans"]
    }


def test_the_first_trace_is_there_in_eight_seconds():
    """From the command to a complete trace; on a busy machine, within four times what bare services take."""
    assert any(_is_soon(_seconds_to_a_trace()) for _ in range(3))


def _is_soon(seconds: float) -> bool:
    return seconds < 8 or seconds < 4 * _seconds_to_bare_services()


def _seconds_to_bare_services() -> float:
    start = time.monotonic()
    bare = [sys.executable, "-c", "import fastapi, httpx, opentelemetry.sdk.trace, uvicorn"]
    for service in [subprocess.Popen(bare) for _ in SERVICES]:
        assert service.wait(60) == 0
    return time.monotonic() - start


def _seconds_to_a_trace() -> float:
    start = time.monotonic()
    done = _run("--once", "--json", "--requests", "1")
    assert _picture(json.loads(done.stdout)["trace"]["tree"]) == TREE
    return time.monotonic() - start


def test_a_taken_port_picks_the_next_and_says_so():
    """A service and the receiver both step aside."""
    with ExitStack() as ports:
        for port in (8103, 4318):
            _take(ports, port)
        done = _run("--once", "--json", "--requests", "1")

    assert (done.returncode, json.loads(done.stdout)["requests_sent"]) == (0, 1)
    assert "Port 8103 is taken: order-service listens on 81" in done.stderr
    assert "Port 4318 is taken: receiver listens on 43" in done.stderr


def _take(ports: ExitStack, port: int) -> None:
    try:
        ports.enter_context(socket.create_server(("127.0.0.1", port)))
    except OSError:
        return  # somebody else has it, which serves as well


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has shown its first round and goes on."""
    command = [*COMMAND, "--json", "--requests", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    # What a killed demo cannot clear away goes where pytest does.
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, **pipes, text=True, env=environ) as process:
        first = process.stdout.readline()
        assert first.startswith("{"), process.stderr.read()  # its last words, where there is no round
        yield process
        process.kill()


def _children(process: subprocess.Popen[str]) -> set[int]:
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [line.split() for line in listed.splitlines()]
    return {int(pid) for pid, parent in pairs if int(parent) == process.pid}


def _is_alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return state.stdout.strip()[:1] not in {"", "Z"}


def _all_end(pids: set[int], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(_is_alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)  # they are not our children: nobody tells us
    return True


def test_a_killed_demo_leaves_no_process_behind(running):
    """Even kill -9, which nobody can handle, takes receiver and services along."""
    children = _children(running)

    running.kill()

    assert len(children) == 6
    assert _all_end(children, seconds=PATIENCE)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(running, number):
    """When the command is over, so is everything that it started."""
    children = _children(running)

    running.send_signal(number)

    assert running.wait(PATIENCE) == 130
    assert len(children) == 6
    assert _all_end(children, seconds=0)
    assert _complaints(running.stderr.read()) == []


def test_rounds_go_on_and_add_up(running):
    """Each round is one line of JSON, and counts what all rounds have sent."""
    assert json.loads(running.stdout.readline())["requests_sent"] == 2


def test_an_outside_collector_gets_everything():
    """With --otlp there is no receiver: the collector has the trace, and the answer says which."""
    store = Store()
    with Server(socket.create_server(("127.0.0.1", 0)), store) as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
        thread.start()
        done = _run("--once", "--json", "--requests", "3", "--otlp", collector.url)
        collector.shutdown()
        thread.join()

    answer = json.loads(done.stdout)
    (root,) = query.trace(store.trace(bytes.fromhex(answer["trace_id"])))["roots"]
    assert (done.returncode, answer["orders"]["sent"], _picture(root)) == (0, 3, TREE)
    assert {row["service"]: row["requests"] for row in query.red(store.points())} == dict.fromkeys(
        SERVICES, 3
    )


def test_a_collector_that_does_not_answer_is_said_at_once():
    """Nobody looks for a trace that never left."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

    done = _run("--once", "--otlp", url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tercet demo failed: --otlp must be a collector that answers, got '{url}'")


def test_a_service_that_does_not_start_shows_its_last_words(tmp_path):
    """The demo says who failed and why, and exits with 1."""
    (tmp_path / "fastapi.py").write_text("raise ImportError('broken on purpose')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])

    done = _run("--once", env=os.environ | {"PYTHONPATH": path})

    assert (done.returncode, done.stdout) == (1, "")
    assert "did not start" in done.stderr
    assert "ImportError: broken on purpose" in done.stderr


def test_a_round_in_text_shows_three_signals(capsys):
    """Waterfall, RED table and log lines, in one run of the command itself."""
    assert main.main(["demo", "--once", "--requests", "6"]) == 0

    shown = capsys.readouterr().out
    assert [part in shown for part in ("├─ order-service", "p95", "order_created", "Total: ")] == [True] * 4
