"""Processes that gevent has patched: nothing waits for what is sent, each greenlet has its own context."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from receiver import Received, Receiver
from service import PATIENCE, SLACK, Service, free_port, serve, started

pytest.importorskip("gevent", reason="gevent is not installed")

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--")
GUNICORN = ("gunicorn", "wsgi:app", "-b", "127.0.0.1:{port}", "-k", "gevent", "-w", "1")
#: Where a lock of threads blocked greenlets, each wait for a batch would hold them up for as long as this.
DELAY = 5.0
LATE = {"OTEL_BSP_SCHEDULE_DELAY": "5000", "OTEL_BLRP_SCHEDULE_DELAY": "5000"}


def pairs(received: Received, logger: str) -> set[tuple[str, str]]:
    """Pair what each record says with the name of the span that it is in."""
    names = {span.span_id: span.name for span in received.spans}
    return {(record.body, names[record.span_id]) for record in received.records if record.logger == logger}


def answer(service: Service, path: str) -> str:
    """Ask, and wait for no batch."""
    began = time.monotonic()
    text = service.get(path).text
    assert time.monotonic() - began < 0.9 * DELAY
    return text


@pytest.mark.parametrize("door", ["in code", "by tercet run"])
def test_greenlets_keep_their_context(
    door: str, either_receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Also where telemetry is set up before gevent patches; and all is sent at the end."""
    command = (
        [sys.executable, "greenlets.py"] if door == "in code" else [*RUN, "python", "greenlets.py", "bare"]
    )
    settings = environment(
        either_receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=either_receiver.protocol,
        TERCET_LOG_FORMAT="off",
        **LATE,
    )
    with started(command, settings, apps) as script:
        assert script.process.wait(PATIENCE) == 0, script.said()
        (said,) = script.stdout.wait_for(lambda lines: lines)
    assert float(said.split()[1]) < 0.9 * DELAY
    assert pairs(either_receiver.received, "greenlets") == {
        (f"work {number}", f"work {number}") for number in range(300)
    }
    assert [point.value for point in either_receiver.received.points("work")] == [300]


@pytest.mark.parametrize("collector", ["there", "away"])
def test_a_worker_of_greenlets_answers_and_ends(
    collector: str, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Whether the collector is there or not."""
    endpoint = receiver.endpoint if collector == "there" else f"http://127.0.0.1:{free_port()}"
    settings = environment(endpoint, TERCET_LOG_FORMAT="off", **LATE)
    paths = [f"/{number}" for number in range(60)]
    with serve([*RUN, *GUNICORN], settings, apps) as service:
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(partial(answer, service), paths))
        assert answers == paths
        assert service.stop() < 5 + SLACK
    wanted = {(path, path) for path in paths} if collector == "there" else set()
    assert pairs(receiver.received, "wsgi") == wanted
