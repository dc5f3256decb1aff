"""Nobody listens at the endpoint: the service starts, answers, and ends in the time allowed."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from service import PATIENCE, SLACK, free_port, serve, started
from test_delivery import Collector

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable)
TEN_MINUTES = 600 * 200  # requests, each with a span and a record
MEGABYTE = 1_000_000
UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}")


def test_a_service_answers_with_no_collector(environment: Environment, apps: Path) -> None:
    """Requests are served at their usual speed, with ids and log lines, while exports fail."""
    with serve([*RUN, *UVICORN], environment(f"http://127.0.0.1:{free_port()}"), apps) as service:
        began = time.monotonic()
        responses = [service.get(f"/orders/{number}") for number in range(20)]
        assert time.monotonic() - began < SLACK
        took = service.stop()
        read = [line["order_id"] for line in service.log() if line["message"] == "order read"]
    assert [response.status_code for response in responses] == [200] * 20
    assert len({response.headers["x-trace-id"] for response in responses}) == 20
    assert read == list(range(20))
    assert took < 5 + SLACK


def test_a_script_ends_with_no_collector(environment: Environment, apps: Path) -> None:
    """The exit takes no longer than `shutdown_timeout`, and one line on stderr says what was lost."""
    settings = environment(f"http://127.0.0.1:{free_port()}", TERCET_SHUTDOWN_TIMEOUT="0.5")
    with started([*RUN, "script.py"], settings, apps) as script:
        script.stop(0)
        assert script.process.returncode == 0, script.said()
        lost = [line for line in script.stderr.so_far() if line.startswith("tercet:")]
    assert lost == ["tercet: not all telemetry was delivered before the process ended."]


class Counting(Collector):
    """A collector that only counts, for there is much to come: spans and records, each by what is its own."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.spans: list[bytes] = []
        self.records: list[str] = []

    def take(self, path: str, body: bytes) -> None:
        with self._changed:
            if path == "/v1/traces":
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    self.spans += [span.span_id for scope in group.scope_spans for span in scope.spans]
            else:
                for group in ExportLogsServiceRequest.FromString(body).resource_logs:
                    self.records += [
                        record.body.string_value
                        for scope in group.scope_logs
                        for record in scope.log_records
                        if scope.scope.name == "flood"
                    ]
            self._changed.notify_all()


def flooded(settings: dict[str, str], apps: Path, requests: int, length: int) -> tuple[int, int]:
    """Serve requests, then die by kill -9: the bytes that it grew by meanwhile, and the losses."""
    with started([sys.executable, "flood.py", str(requests), str(length)], settings, apps) as flood:
        said = flood.stdout.wait_for(lambda lines: lines, 10 * PATIENCE)[0].split()
        flood.process.kill()
    return int(said[0]), int(said[1])


def test_ten_minutes_of_outage_lose_nothing(environment: Environment, apps: Path, tmp_path: Path) -> None:
    """Memory stays, a kill -9 takes nothing with it, and the next process delivers all, its own at once."""
    port = free_port()
    settings = environment(f"http://127.0.0.1:{port}", TERCET_SPOOL_DIRECTORY=str(tmp_path))
    del (
        settings["OTEL_BSP_SCHEDULE_DELAY"],
        settings["OTEL_BLRP_SCHEDULE_DELAY"],
    )  # the caps suffice as they are
    grown, lost = flooded(settings, apps, TEN_MINUTES, 5)
    assert grown < 20 * MEGABYTE
    assert lost == 0
    with Counting(port) as collector:
        began = time.monotonic()
        with started([sys.executable, "flood.py", "1001", "5"], settings, apps):
            collector.wait_for(lambda _: len(collector.spans) >= TEN_MINUTES + 1_001, 60)
            collector.wait_for(lambda _: len(collector.records) >= TEN_MINUTES + 1_001, 60)
            took = time.monotonic() - began
        assert len(set(collector.spans)) == len(collector.spans) == TEN_MINUTES + 1_001
        assert len(collector.records) == TEN_MINUTES + 1_001
        assert len(set(collector.records)) == TEN_MINUTES
    assert took < 60


def test_what_is_huge_is_bounded_in_bytes(environment: Environment, apps: Path) -> None:
    """Four hundred megabytes of attributes and texts, and nobody there: what is too much is counted."""
    settings = environment(f"http://127.0.0.1:{free_port()}")
    grown, lost = flooded(settings, apps, 3_000, 100_000)
    assert grown < 150 * MEGABYTE
    assert lost > 0
