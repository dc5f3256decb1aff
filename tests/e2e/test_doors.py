"""Three doors, one pipeline: `tercet run`, `opentelemetry-instrument`, and `setup_observability` in code."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from receiver import Point, Received, Receiver, Span
from service import PATIENCE, Service, serve, started
from websockets.sync.client import connect

from tercet.declare.usage import USAGE

Environment = Callable[..., dict[str, str]]
ROOT = Path(__file__).parents[2]
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

OF_THE_MOMENT = {metric.name for metric in USAGE}
DOORS = ("tercet run", "opentelemetry-instrument", "setup_observability")


def launch(python: str, door: str) -> list[str]:
    """Say what stands before the arguments of the interpreter that runs the application."""
    if door == "tercet run":
        return [python, "-m", "tercet.cli.main", "run", "--", python]
    if door == "opentelemetry-instrument":
        return [str(Path(python).with_name("opentelemetry-instrument")), python]
    return [python]


def command(python: str, door: str, app: str) -> list[str]:
    """Say how to start an application through a door."""
    target = f"{app}_in_code" if door == "setup_observability" else app
    return [*launch(python, door), "-m", "uvicorn", f"{target}:app", "--port", "{port}"]


@dataclass(frozen=True)
class Visit:
    """What a round of requests to the shop left behind, after its server has ended."""

    responses: dict[str, httpx.Response]
    received: Received
    log: list[dict[str, Any]]

    def span(self, name: str) -> Span:
        (found,) = [span for span in self.received.server_spans() if span.name == name]
        return found

    def durations(self) -> list[Point]:
        return self.received.points("http.server.request.duration")


def _ask(service: Service) -> dict[str, httpx.Response]:
    sampled = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "X-Correlation-ID": "visit-1"}
    with httpx.Client(base_url=service.url, timeout=PATIENCE) as client:
        responses = {
            "home": client.get("/"),
            "order": client.get("/orders/7", headers=sampled),
            "paid": client.post("/orders/8/pay"),
            "invalid": client.get("/orders/seven"),
            "unmatched": client.get("/nowhere"),
            "stream": client.get("/stream"),
            "head": client.head("/"),
            "health": client.get("/health"),
            "error": client.get("/error"),  # last: the server closes the connection after it
        }
    with connect(f"ws://127.0.0.1:{service.port}/chat/lobby", open_timeout=PATIENCE) as socket:
        socket.send("hello")
        assert socket.recv() == "lobby: hello"
    return responses


#: Server spans by name, with how many of them failed; a duration point stands for each but the socket's.
EXPECTED = Counter(
    {
        "GET /": 1,
        "GET /orders/{order_id}": 2,
        "POST /orders/{order_id}/pay": 1,
        "GET": 1,
        "GET /stream": 1,
        "HEAD /": 1,
        "GET /error": 1,
        "WS /chat/{room}": 1,
    }
)


@cache
def _visit(python: str, door: str, environment: Environment, apps: Path) -> Visit:
    with Receiver() as receiver:
        with serve(command(python, door, "shop"), environment(receiver.endpoint), apps) as service:
            responses = _ask(service)
            service.stop()
            log = service.log()
        return Visit(responses, receiver.received, log)


def _listed(variable: str) -> list[str]:
    return os.environ.get(variable, "").replace(",", " ").split()


#: Interpreters (paths), and versions of FastAPI, to build environments for; without them, this one is used.
BASES = _listed("TERCET_E2E_PYTHONS")
VERSIONS = _listed("TERCET_E2E_FASTAPI")
INSTALLED = ("this Python", "installed")
TARGETS = [(base, version) for base in BASES or [sys.executable] for version in VERSIONS or ["newest"]]


@pytest.fixture(scope="session")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    """Build an environment for an interpreter and a version of FastAPI, once, and give its Python."""

    @cache
    def build(base: str, version: str) -> str:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([base, "-m", "venv", folder], check=True)
        python = str(folder / "bin" / "python")
        fastapi = "fastapi" if version == "newest" else f"fastapi=={version}"
        wanted = [fastapi, "uvicorn", "websockets", "-e", str(ROOT)]
        subprocess.run([python, "-m", "pip", "install", "-q", "--upgrade", "pip>=24.2"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        return python

    return build


@pytest.fixture(params=TARGETS if BASES or VERSIONS else [INSTALLED], ids=" with FastAPI ".join)
def python(request: pytest.FixtureRequest, pythons: Callable[[str, str], str]) -> str:
    """Each Python of TERCET_E2E_PYTHONS with each FastAPI of TERCET_E2E_FASTAPI, else the installed ones."""
    return sys.executable if request.param == INSTALLED else pythons(*request.param)


@pytest.fixture(params=DOORS)
def visit(request: pytest.FixtureRequest, python: str, environment: Environment, apps: Path) -> Visit:
    """A round of requests through each door."""
    return _visit(python, request.param, environment, apps)


def test_each_request_has_exactly_one_server_span_named_by_its_route(visit: Visit) -> None:
    """One owner per request, whoever else is in the stack."""
    assert Counter(span.name for span in visit.received.server_spans()) == EXPECTED


def test_no_other_span_is_made(visit: Visit) -> None:
    """Neither messages nor FastAPI's internals become spans."""
    assert [span.name for span in visit.received.spans if span.kind != "SERVER"] == []


def test_each_http_request_is_one_duration_point_with_its_route(visit: Visit) -> None:
    """RED counts equal the requests sent, by method, route and status."""
    counted = {
        (
            point.attributes["http.request.method"],
            point.attributes.get("http.route"),
            point.attributes["http.response.status_code"],
        ): point.count
        for point in visit.durations()
    }
    assert counted == {
        ("GET", "/", 200): 1,
        ("GET", "/orders/{order_id}", 200): 1,
        ("GET", "/orders/{order_id}", 422): 1,
        ("POST", "/orders/{order_id}/pay", 200): 1,
        ("GET", None, 404): 1,
        ("GET", "/stream", 200): 1,
        ("HEAD", "/", 405): 1,
        ("GET", "/error", 500): 1,
    }


def test_durations_have_the_documents_buckets_and_an_exemplar(visit: Visit) -> None:
    """Every point leads to a trace."""
    traces = {span.trace_id for span in visit.received.server_spans()}
    for point in visit.durations():
        assert point.bounds == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        assert set(point.exemplar_traces) <= traces
        assert point.exemplar_traces != ()


def test_nothing_stays_active(visit: Visit) -> None:
    """The count of requests in progress is back at zero in the end."""
    assert {point.value for point in visit.received.points("http.server.active_requests")} == {0}


def test_a_crash_is_an_error_in_all_three_signals(visit: Visit) -> None:
    """The span has failed with the exception, the point has its type, the log line its stack."""
    span = visit.span("GET /error")
    (point,) = [point for point in visit.durations() if "error.type" in point.attributes]
    (line,) = [line for line in visit.log if line["message"] == "request_failed"]
    assert (span.failed, span.events, span.attributes["error.type"]) == (True, ("exception",), "RuntimeError")
    assert (point.attributes["http.route"], point.attributes["error.type"]) == ("/error", "RuntimeError")
    assert (line["level"], line["trace_id"]) == ("ERROR", span.trace_id)
    assert "the shelf fell down" in line["exception.stacktrace"]


def test_a_sent_trace_and_id_are_continued_and_returned(visit: Visit) -> None:
    """The caller finds its own ids in the response headers, on the span and on each log line."""
    headers = visit.responses["order"].headers
    (span,) = [span for span in visit.received.server_spans() if span.trace_id == TRACE_ID]
    assert (headers["x-correlation-id"], headers["x-trace-id"]) == ("visit-1", TRACE_ID)
    assert headers["traceresponse"] == f"00-{TRACE_ID}-{span.span_id}-01"
    assert (span.parent_id, span.attributes["correlation_id"]) == ("00f067aa0ba902b7", "visit-1")
    of_it = [
        line for line in visit.log if line["trace_id"] == TRACE_ID and line["logger"] != "uvicorn.access"
    ]
    assert [(line["logger"], line["message"], line["correlation_id"]) for line in of_it] == [
        ("shop", "order read", "visit-1"),
        ("tercet.access", "request_completed", "visit-1"),
    ]


def test_every_response_but_a_probe_carries_its_ids(visit: Visit) -> None:
    """The trace id in the headers is that of the request's span."""
    traces = {span.trace_id for span in visit.received.server_spans()}
    for name in ("home", "order", "paid", "invalid", "unmatched", "stream", "head", "error"):
        assert visit.responses[name].headers["x-trace-id"] in traces, name
    assert "x-trace-id" not in visit.responses["health"].headers


def test_a_log_line_keeps_its_own_fields(visit: Visit) -> None:
    """Standard fields come first and in order, then the caller's own."""
    (line,) = [line for line in visit.log if line["message"] == "order paid"]
    standard = ["timestamp", "level", "logger", "message", "service", "trace_id", "span_id", "correlation_id"]
    assert list(line) == [*standard, "order_id"]
    assert (line["service"], line["order_id"], line["trace_id"]) == (
        "shop",
        8,
        visit.span("POST /orders/{order_id}/pay").trace_id,
    )


def test_the_same_records_leave_on_stdout_and_over_otlp(visit: Visit) -> None:
    """What was printed was sent: each record once by each way, with the same trace."""
    own = [line for line in visit.log if not line["logger"].startswith("opentelemetry.")]
    printed = Counter((line["logger"], line["message"], line["trace_id"]) for line in own)
    sent = Counter((record.logger, record.body, record.trace_id) for record in visit.received.records)
    assert sent == printed


def test_the_servers_own_lines_appear_once_each_as_json(visit: Visit) -> None:
    """Uvicorn says what it always says, in our form."""
    said = Counter(line["message"] for line in visit.log if line["logger"] == "uvicorn.error")
    assert said["Application startup complete."] == said["Waiting for application startup."] == 1
    assert said["Application shutdown complete."] == said["Shutting down"] == 1


def test_a_probe_is_left_out_of_all_three_signals(visit: Visit) -> None:
    """A health check works, and makes no span, no point and no access line."""
    assert visit.responses["health"].json() == {"ok": True}
    assert [s.name for s in visit.received.spans if s.attributes.get("url.path") == "/health"] == []
    assert [p for p in visit.durations() if p.attributes.get("http.route") == "/health"] == []
    access = [line for line in visit.log if line["logger"].endswith("access")]
    assert [line for line in access if "/health" in str(line)] == []


def test_every_door_leads_to_the_same_pipeline(python: str, environment: Environment, apps: Path) -> None:
    """Spans, points, records and resources are the same, however the service was started."""
    pictures = {door: _picture(_visit(python, door, environment, apps)) for door in DOORS}
    assert pictures["opentelemetry-instrument"] == pictures["tercet run"]
    assert pictures["setup_observability"] == pictures["tercet run"]


def _picture(visit: Visit) -> dict[str, Any]:
    received = visit.received
    first = received.spans[0].resource
    return {
        "spans": Counter((s.name, s.kind, s.failed, tuple(sorted(s.attributes))) for s in received.spans),
        "points": Counter(
            (p.name, str(sorted(p.attributes.items())), p.count)
            for p in received.series.values()
            # What has been delivered, or used, by the last collection depends on the moment of it.
            if not p.name.startswith("tercet.export.") and p.name not in OF_THE_MOMENT
        ),
        "records": Counter((r.logger, r.severity, tuple(sorted(r.attributes))) for r in received.records),
        "resource": {k: v for k, v in first.items() if k not in ("service.instance.id", "process.pid")},
        "headers": {name: sorted(r.headers) for name, r in visit.responses.items()},
    }


def test_both_doors_at_once_observe_a_request_once(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """An application that sets itself up may be started with `tercet run` as well."""
    run = command(sys.executable, "tercet run", "shop")
    run[run.index("shop:app")] = "shop_in_code:app"
    with serve(run, environment(receiver.endpoint), apps) as service:
        assert service.get("/orders/7").status_code == 200
        receiver.wait_for(lambda received: received.points("http.server.request.duration"))
        service.stop()
        completed = [line for line in service.log() if line["message"] == "request_completed"]
    assert [span.name for span in receiver.received.spans] == ["GET /orders/{order_id}"]
    assert [point.count for point in receiver.received.points("http.server.request.duration")] == [1]
    assert len(completed) == 1


def test_a_client_that_leaves_is_counted_as_a_failure(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """A response that nobody waited for fails in all three signals, with the status that was sent."""
    run = command(sys.executable, "tercet run", "shop")
    with serve(run, environment(receiver.endpoint), apps) as service:
        with httpx.stream("GET", f"{service.url}/endless", timeout=PATIENCE) as response:
            next(response.iter_lines())
        (point,) = receiver.wait_for(lambda received: received.points("http.server.request.duration"))
        (span,) = receiver.wait_for(lambda received: received.server_spans())
        service.stop()
        (line,) = [line for line in service.log() if line["message"] == "request_failed"]
    assert (span.failed, span.attributes["error.type"]) == (True, "client_disconnected")
    assert (point.attributes["error.type"], point.count) == ("client_disconnected", 1)
    assert (line["level"], line["error_type"], line["status"]) == ("WARNING", "client_disconnected", 200)


STARLETTE = {("GET", "/items/{item_id}"): 1, ("GET", "/shelf/items/{item_id}"): 1}
PURE = {("GET", None): 2}


@pytest.mark.parametrize(("app", "expected"), [("plain_starlette", STARLETTE), ("pure_asgi", PURE)])
def test_other_applications_are_measured_once_as_well(
    app: str, expected: dict[Any, int], receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Plain Starlette knows its routes and mounts; an app of no framework has none, and one point each."""
    run = command(sys.executable, "tercet run", app)
    with serve(run, environment(receiver.endpoint), apps) as service:
        for path in ("/items/3", "/shelf/items/4"):
            assert service.get(path).status_code == 200
        service.stop()
    points = receiver.received.points("http.server.request.duration")
    routes = {(p.attributes["http.request.method"], p.attributes.get("http.route")): p.count for p in points}
    assert routes == expected
    assert len(receiver.received.server_spans()) == 2


@pytest.mark.parametrize("door", ["tercet run", "opentelemetry-instrument"])
def test_a_script_delivers_everything_before_it_ends(
    door: str, python: str, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Each signal of a process that lives for a moment arrives."""
    launcher = launch(python, door)
    with started([*launcher, "script.py"], environment(receiver.endpoint), apps) as script:
        script.stop(0)
        assert (script.process.returncode, script.stderr.so_far()) == (0, []), script.said()
        (line,) = [line for line in script.log() if line["logger"] == "script"]
    (span,) = receiver.received.spans
    assert span.name == "nightly report"
    assert [point.value for point in receiver.received.points("reports")] == [1]
    assert [record.trace_id for record in receiver.received.records] == [span.trace_id] == [line["trace_id"]]


def test_long_lines_of_many_threads_stay_whole(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Each line of stdout is one JSON object, however long it is and whoever else writes."""
    run = [*launch(sys.executable, "tercet run"), "chatter.py"]
    with started(run, environment(receiver.endpoint), apps) as script:
        script.stop(0)
        broken = [line[:80] for line in script.stdout.so_far() if not _is_json(line)]
        assert broken == []
        said = Counter(line["message"][0] for line in script.log() if line["logger"] == "chatter")
    assert said == dict.fromkeys("abcdefgh", 50)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def test_disabled_means_that_nothing_is_sent(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """OTEL_SDK_DISABLED=true leaves the application as it was."""
    run = command(sys.executable, "tercet run", "shop")
    with serve(run, environment(receiver.endpoint, OTEL_SDK_DISABLED="true"), apps) as service:
        response = service.get("/orders/7")
        service.stop()
    assert (response.status_code, "x-trace-id" in response.headers) == (200, False)
    assert receiver.received == Received()


def test_a_provider_set_earlier_is_adopted_and_said_once(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """The owner's resource stays, our spans go through it, and one warning says so."""
    run = [sys.executable, "-m", "uvicorn", "shop_adopted:app", "--port", "{port}"]
    with serve(run, environment(receiver.endpoint), apps) as service:
        assert service.get("/orders/7").status_code == 200
        service.stop()
        warnings = service.warnings()
    (span,) = receiver.received.spans
    assert (span.name, span.resource["service.name"]) == ("GET /orders/{order_id}", "earlier")
    assert [text for text in warnings if "adopts" in text] == [
        "A TracerProvider was set earlier; tercet adopts it, and its own resource and rules stay."
    ]


DISTRIBUTION = {
    "METADATA": "Metadata-Version: 2.1\nName: neighbour\nVersion: 1\n",
    "entry_points.txt": (
        "[opentelemetry_distro]\nneighbour = neighbour:Distro\n"
        "[opentelemetry_instrumentor]\naaa_broken = neighbour:Broken\nzzz_working = neighbour:Working\n"
    ),
}
NEIGHBOUR = """
import sys
from opentelemetry.instrumentation.distro import BaseDistro
class Distro(BaseDistro):
    def _configure(self, **kwargs): pass
class Broken:
    def instrument(self, **kwargs): raise ValueError("no such library")
class Working:
    def instrument(self, **kwargs): sys.stderr.write("the working one works\\n")
"""


@pytest.fixture
def neighbour(tmp_path: Path) -> Path:
    """An installed package with a distribution of its own and two instrumentors, one of them broken."""
    info = tmp_path / "neighbour-1.dist-info"
    info.mkdir()
    for name, text in DISTRIBUTION.items():
        (info / name).write_text(text)
    (tmp_path / "neighbour.py").write_text(NEIGHBOUR)
    return tmp_path


@pytest.mark.parametrize("door", ["tercet run", "setup_observability"])
def test_an_instrumentor_that_fails_is_named_and_stops_no_other(
    door: str, neighbour: Path, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """One broken instrumentor costs itself, and nothing else."""
    settings = environment(receiver.endpoint, PYTHONPATH=str(neighbour))
    with serve(command(sys.executable, door, "shop"), settings, apps) as service:
        assert service.get("/orders/7").status_code == 200
        service.stop()
        named = [text for text in service.warnings() if "aaa_broken" in text]
        assert service.stderr.so_far().count("the working one works") == 1, service.said()
    assert named == ["The instrumentor aaa_broken failed and is left out: ValueError('no such library')"]
    assert [span.name for span in receiver.received.spans] == ["GET /orders/{order_id}"]


def test_a_distribution_beside_tercet_is_named(
    neighbour: Path, receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Two distributions in one environment are said, with the variable that chooses."""
    settings = environment(receiver.endpoint, PYTHONPATH=str(neighbour))
    settings.pop("OTEL_PYTHON_DISTRO", None)
    with serve(command(sys.executable, "setup_observability", "shop"), settings, apps) as service:
        service.stop()
        (named,) = [text for text in service.warnings() if "distribution" in text]
    assert "neighbour" in named
    assert "OTEL_PYTHON_DISTRO=tercet" in named
