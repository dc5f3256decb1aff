"""The end of a process: in time whatever the collector does, and with nothing lost where it listens."""

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from receiver import Received, Receiver
from service import PATIENCE, SLACK, started

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--")
#: Nothing is sent before the end asks for it.
LAST_MINUTE = {
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BLRP_SCHEDULE_DELAY": "60000",
    "OTEL_METRIC_EXPORT_INTERVAL": "60000",
}
#: Of which three, one for each signal, would be more than the slack allows for.
DEADLINE = 4.0


@contextmanager
def silent() -> Iterator[int]:
    """Accept connections, and never say a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening.getsockname()[1]


@contextmanager
def unreachable() -> Iterator[int]:
    """Have a backlog that is full, so that nothing at all comes back, as from behind a firewall."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port = listening.getsockname()[1]
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            with suppress(BlockingIOError):
                caller.connect(("127.0.0.1", port))
        yield port
        for caller in callers:
            caller.close()


@pytest.mark.parametrize("how", ["end", "sigterm"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("hole", [silent, unreachable])
def test_the_end_has_one_deadline_for_all_signals(
    hole: Callable[[], Iterator[int]], protocol: str, how: str, environment: Environment, apps: Path
) -> None:
    """With 8,000 spans and as many records in the queues of a collector that never answers."""
    if protocol == "grpc":
        pytest.importorskip("grpc")
    with hole() as port:
        settings = environment(
            f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            TERCET_SHUTDOWN_TIMEOUT=str(DEADLINE),
        )
        with started([sys.executable, "leaver.py", "8000", how], settings, apps) as leaver:
            leaver.stdout.wait_for(lambda lines: "ending" in lines)
            began = time.monotonic()
            if how == "sigterm":
                leaver.process.send_signal(signal.SIGTERM)
            status = leaver.process.wait(PATIENCE)
            assert time.monotonic() - began < DEADLINE + SLACK
    assert status == (-signal.SIGTERM if how == "sigterm" else 0)
    assert leaver.stderr.so_far()[-1] == "tercet: not all telemetry was delivered before the process ended."


def worked(received: Received) -> dict[str, list[str]]:
    """Say in which pieces of work each signal has seen the work."""
    numbers = [str(point.attributes["number"]) for point in received.points("work")]
    return {
        "traces": sorted(span.name for span in received.spans),
        "metrics": sorted(f"work {number}" for number in numbers),
        "logs": sorted(received.bodies("pools")),
    }


ALL_WORK = {signal_: [f"work {number}" for number in range(3)] for signal_ in ("traces", "metrics", "logs")}
WAYS = [
    *(f"process-multiprocessing-{how}" for how in ("fork", "spawn", "forkserver")),
    "process-billiard-fork",
    "pool-fork-close",
    "pool-fork-terminate",
    "pool-spawn-close",
    "executor-fork",
    "executor-spawn",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", ["in code", "by tercet run"])
def test_children_of_a_pool_are_heard(
    door: str, way: str, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Each in all three signals, although they end by `os._exit`, and nothing is sent before they end."""
    pytest.importorskip(way.split("-")[1] if way.startswith("process") else "multiprocessing")
    command = (
        [sys.executable, "pools.py", way] if door == "in code" else [*RUN, "python", "pools.py", "bare", way]
    )
    with started(command, environment(receiver.endpoint, **LAST_MINUTE), apps) as parent:
        assert parent.process.wait(PATIENCE) == 0, parent.said()
        assert worked(receiver.received) == ALL_WORK, parent.said()


def test_a_worker_of_celery_is_heard_and_read(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """All its tasks in all three signals, though its stdout logs what is written there; each line once."""
    pytest.importorskip("celery")
    command = (*RUN, "celery", "--app=tasks", "worker", "--concurrency=2", "--loglevel=warning")
    lines = sorted(f"{did} {number}" for did in ("work", "worked") for number in range(3))

    def messages(written: list[str]) -> list[str]:
        records = [json.loads(line) for line in written if line.startswith("{")]
        return sorted(each["message"] for each in records if each["trace_id"])

    with started(command, environment(receiver.endpoint, **LAST_MINUTE), apps) as worker:
        worker.stdout.wait_for(lambda written: len(messages(written)) >= len(lines))
        worker.stop(signal.SIGTERM)
    assert worker.process.returncode == 0, worker.said()
    assert messages(worker.stdout.so_far()) == lines
    assert worked(receiver.received) == ALL_WORK, worker.said()
