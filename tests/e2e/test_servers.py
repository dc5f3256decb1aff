"""Every way to run workers: each process sends all signals, speaks once, and ends with nothing lost."""

import re
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from receiver import Received, Receiver
from service import SLACK, Service, serve

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable, "-m")
UVICORN = ("uvicorn", "shop:app", "--port", "{port}")
GUNICORN = ("gunicorn", "shop:app", "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker")
HYPERCORN = ("hypercorn", "shop:app", "-b", "127.0.0.1:{port}")
#: The number of processes that serve, and the command.
SERVERS: dict[str, tuple[int, tuple[str, ...]]] = {
    "uvicorn": (1, UVICORN),
    "uvicorn --workers 2": (2, (*UVICORN, "--workers", "2")),
    "uvicorn --reload": (1, (*UVICORN, "--reload")),
    "gunicorn": (2, (*GUNICORN, "-w", "2", "--access-logfile", "-")),
    "gunicorn --preload": (2, (*GUNICORN, "-w", "2", "--preload", "--access-logfile", "-")),
    "hypercorn": (1, (*HYPERCORN, "--access-logfile", "-")),
    "hypercorn --workers 2": (2, (*HYPERCORN, "-w", "2", "--access-logfile", "-")),
}
IN_CODE = ("uvicorn --workers 2", "gunicorn", "gunicorn --preload", "hypercorn --workers 2")
#: Whoever waits for telemetry would wait for all of this, and the others are given twice their slack.
HOLDING_UP = {"TERCET_SHUTDOWN_TIMEOUT": "60"}
PROMPTLY = 2 * SLACK
_NAMES_A_PROCESS = re.compile(r"\[\d+\]|pid")
#: Spans at once, so that a test sees which workers have served; the rest only when the process ends.
LAST_MINUTE = {"OTEL_BLRP_SCHEDULE_DELAY": "60000", "OTEL_METRIC_EXPORT_INTERVAL": "60000"}

by_server = pytest.mark.parametrize("server", SERVERS)


def in_code(arguments: Sequence[str]) -> list[str]:
    """Start the application that sets itself up, without a launcher."""
    target = [part.replace("shop:app", "shop_in_code:app") for part in arguments]
    return [sys.executable, "-m", *target]


def ask_until(workers: int, service: Service, receiver: Receiver) -> int:
    """Ask until so many processes have sent spans, by a new connection each time; count the requests."""
    for asked in range(1, 400):
        assert service.get(f"/orders/{asked}").status_code == 200
        receiver.wait_for(partial(_has_spans, asked))
        if len(receiver.received.instances()["traces"]) >= workers:
            return asked
    raise AssertionError(f"only {receiver.received.instances()} of {workers} sent:\n{service.said()}")


def _has_spans(number: int, received: Received) -> bool:
    return len(received.spans) >= number


def count(received: Received) -> dict[str, int]:
    """Count the requests that each signal tells of."""
    return {
        "spans": len(received.server_spans()),
        "points": sum(point.count for point in received.points("http.server.request.duration")),
        "records": received.bodies("tercet.access").count("request_completed"),
    }


def times(number: int) -> dict[str, int]:
    """Say what `count` must say after so many requests."""
    return dict.fromkeys(("spans", "points", "records"), number)


def serving(received: Received) -> dict[str, set[Any]]:
    """Name the processes that each signal says have served a request."""
    points = received.points("http.server.request.duration")
    access = [record for record in received.records if record.logger == "tercet.access"]
    return {
        "traces": received.instances()["traces"],
        "metrics": {point.resource["service.instance.id"] for point in points},
        "logs": {record.resource["service.instance.id"] for record in access},
    }


@dataclass(frozen=True)
class Run:
    """What a server that was asked, waited for and stopped has left behind."""

    asked: int
    received: Received
    log: list[dict[str, Any]]
    stderr: list[str]
    seconds_to_stop: float


@cache
def _run(server: str, environment: Environment, apps: Path) -> Run:
    workers, arguments = SERVERS[server]
    with Receiver() as receiver:
        settings = environment(receiver.endpoint, **HOLDING_UP)
        with serve([*RUN, *arguments], settings, apps) as service:
            asked = ask_until(workers, service, receiver)
            receiver.wait_for(lambda received: count(received) == times(asked))
            seconds = service.stop()
            return Run(asked, receiver.received, service.log(), service.stderr.so_far(), seconds)


@pytest.fixture
def run(server: str, environment: Environment, apps: Path) -> Run:
    """One run of each server, shared by the tests that look at it."""
    return _run(server, environment, apps)


@by_server
def test_every_worker_sends_all_three_signals(server: str, run: Run) -> None:
    """Each process that served has its own instance id, the same one in each signal."""
    by_signal = serving(run.received)
    assert len(by_signal["traces"]) == SERVERS[server][0]
    assert by_signal["metrics"] == by_signal["logs"] == by_signal["traces"]
    assert count(run.received) == times(run.asked)


@by_server
def test_sigterm_ends_the_server_promptly(server: str, run: Run) -> None:
    """Telemetry does not hold a deployment up."""
    assert run.seconds_to_stop < PROMPTLY, server


@by_server
def test_stdout_is_json_and_stderr_is_empty(server: str, run: Run) -> None:
    """Whatever the server says, it says in our form and nowhere else; reading the run's log has parsed it."""
    assert (run.stderr, {line["service"] for line in run.log}) == ([], {"shop"}), server


@by_server
def test_the_servers_own_lines_appear_once(server: str, run: Run) -> None:
    """One access line a request, and no line twice by one process."""
    own = [line for line in run.log if line["logger"].startswith(("uvicorn", "gunicorn", "hypercorn"))]
    access = [line for line in own if line["logger"].endswith(".access")]
    with_pid = Counter(line["message"] for line in own if _NAMES_A_PROCESS.search(line["message"]))
    assert len(access) == run.asked
    assert set(with_pid.values()) <= {1}
    assert len(own) > len(access), server


@by_server
def test_access_lines_lead_to_the_trace(server: str, run: Run) -> None:
    """The server's own access line bears the trace id of its request."""
    access = [line for line in run.log if line["logger"] in ("uvicorn.access", "hypercorn.access")]
    assert {line["trace_id"] for line in access} == {span.trace_id for span in run.received.spans}, server


@by_server
def test_sigterm_loses_nothing(server: str, receiver: Receiver, environment: Environment, apps: Path) -> None:
    """What still waits for its batch or interval when the signal comes is delivered by each worker."""
    workers, arguments = SERVERS[server]
    settings = environment(receiver.endpoint, **LAST_MINUTE)
    with serve([*RUN, *arguments], settings, apps) as service:
        asked = ask_until(workers, service, receiver)
        service.stop()
    assert count(receiver.received) == times(asked)


@pytest.mark.parametrize("server", IN_CODE)
def test_workers_that_set_themselves_up_send_all_three_signals(
    server: str, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """`setup_observability` in code is as complete as the launcher, also when a fork follows it."""
    workers, arguments = SERVERS[server]
    with serve(in_code(arguments), environment(receiver.endpoint, **HOLDING_UP), apps) as service:
        asked = ask_until(workers, service, receiver)
        receiver.wait_for(lambda received: count(received) == times(asked))
        by_signal = serving(receiver.received)
        assert service.stop() < PROMPTLY
    assert len(by_signal["traces"]) == workers
    assert by_signal["metrics"] == by_signal["logs"] == by_signal["traces"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("app", ["shop", "shop_in_code"])
def test_a_single_server_delivers_everything_when_a_signal_ends_it(
    number: int, app: str, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """With a minute between exports, all three signals must come from the flush at the end."""
    settings = environment(receiver.endpoint, **LAST_MINUTE, **HOLDING_UP, OTEL_BSP_SCHEDULE_DELAY="60000")
    command = [*RUN, *UVICORN] if app == "shop" else in_code(UVICORN)
    with serve(command, settings, apps) as service:
        assert service.get("/orders/1").status_code == 200
        assert service.stop(number) < PROMPTLY
    assert count(receiver.received) == times(1)


def test_the_exit_status_still_says_which_signal_it_was(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """A supervisor sees the same exit as without telemetry."""
    statuses = []
    for command in ([sys.executable, "-m", *UVICORN], [*RUN, *UVICORN]):
        with serve(command, environment(receiver.endpoint), apps) as service:
            service.stop()
            statuses.append(service.process.returncode)
    assert statuses[0] == statuses[1]


def test_a_reload_brings_a_new_process_that_sends_as_well(
    receiver: Receiver, environment: Environment, tmp_path: Path, apps: Path
) -> None:
    """After a change of its code the service is observed as before."""
    module = tmp_path / "shop.py"
    module.write_text((apps / "shop.py").read_text())
    _, arguments = SERVERS["uvicorn --reload"]
    with serve([*RUN, *arguments], environment(receiver.endpoint), tmp_path) as service:
        assert service.get("/orders/1").status_code == 200
        receiver.wait_for(lambda received: count(received) == times(1))
        module.write_text(module.read_text() + "\n# changed\n")
        service.stdout.wait_for(lambda lines: sum("startup complete" in line for line in lines) == 2)
        assert service.get("/orders/2").status_code == 200
        receiver.wait_for(lambda received: count(received) == times(2))
        service.stop()
    assert [span.attributes["url.path"] for span in receiver.received.spans] == ["/orders/1", "/orders/2"]
    assert {signal_: len(ids) for signal_, ids in serving(receiver.received).items()} == {
        "traces": 2,
        "metrics": 2,
        "logs": 2,
    }
