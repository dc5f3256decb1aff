"""Nobody listens at the endpoint: the service starts, answers, and ends in the time allowed."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from service import free_port, serve, started

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable)
UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}")


def test_a_service_answers_with_no_collector(environment: Environment, apps: Path) -> None:
    """Requests are served at their usual speed, with ids and log lines, while exports fail."""
    with serve([*RUN, *UVICORN], environment(f"http://127.0.0.1:{free_port()}"), apps) as service:
        began = time.monotonic()
        responses = [service.get(f"/orders/{number}") for number in range(20)]
        assert time.monotonic() - began < 5
        took = service.stop()
        read = [line["order_id"] for line in service.log() if line["message"] == "order read"]
    assert [response.status_code for response in responses] == [200] * 20
    assert len({response.headers["x-trace-id"] for response in responses}) == 20
    assert read == list(range(20))
    assert took < 8


def test_a_script_ends_with_no_collector(environment: Environment, apps: Path) -> None:
    """The exit takes no longer than `shutdown_timeout`, and one line on stderr says what was lost."""
    settings = environment(f"http://127.0.0.1:{free_port()}", TERCET_SHUTDOWN_TIMEOUT="0.5")
    with started([*RUN, "script.py"], settings, apps) as script:
        script.stop(0)
        assert script.process.returncode == 0, script.said()
        lost = [line for line in script.stderr.so_far() if line.startswith("tercet:")]
    assert lost == ["tercet: not all telemetry was delivered before the process ended."]
