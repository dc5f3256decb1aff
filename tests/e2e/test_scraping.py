"""Prometheus asks a running service: on a port of its own, and at a path of the application."""

import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from receiver import Receiver
from service import LOOPBACK, PATIENCE, free_port, serve

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable)
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
_FAMILIES: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
COUNT = "http_server_request_duration_seconds_count"
BUCKET = "http_server_request_duration_seconds_bucket"


def uvicorn(app: str) -> list[str]:
    """Start an application under `tercet run`."""
    return [*RUN, "-m", "uvicorn", f"{app}:app", "--port", "{port}"]


def scrape(url: str) -> list[Sample]:
    """Ask as Prometheus does, and read the answer with Prometheus' own parser."""
    response = httpx.get(url, headers=OPENMETRICS, follow_redirects=True, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return [sample for family in _FAMILIES(response.text) for sample in family.samples]


def requests_by_route(samples: list[Sample]) -> dict[str, float]:
    """Read the number of requests of each route."""
    return {s.labels.get("http_route", ""): s.value for s in samples if s.name == COUNT}


def traces(samples: list[Sample]) -> set[str]:
    """Read the traces that exemplars of the durations lead to."""
    return {s.exemplar.labels["trace_id"] for s in samples if s.name == BUCKET and s.exemplar}


def test_a_port_of_its_own_answers_with_exemplars(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """With the exporter `prometheus`, metrics are scraped on loopback and no longer pushed."""
    port = free_port()
    settings = environment(
        receiver.endpoint, OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)
    )
    with serve(uvicorn("shop"), settings, apps) as service:
        trace_id = service.get("/orders/7").headers["x-trace-id"]
        samples = scrape(f"http://{LOOPBACK}:{port}/metrics")
        service.stop()
    assert requests_by_route(samples) == {"/orders/{order_id}": 1}
    assert traces(samples) == {trace_id}
    assert receiver.received.series == {}
    assert [span.trace_id for span in receiver.received.spans] == [trace_id]


def test_an_app_mounted_in_the_application_answers_with_exemplars(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """`metrics_app()` in FastAPI shows the service's requests, and not the scrapes themselves."""
    with serve(uvicorn("shop_scraped"), environment(receiver.endpoint), apps) as service:
        trace_id = service.get("/orders/7").headers["x-trace-id"]
        scrape(f"{service.url}/metrics")
        scrape(f"{service.url}/metrics/")
        samples = scrape(f"{service.url}/metrics")
        service.stop()
    assert requests_by_route(samples) == {"/orders/{order_id}": 1}
    assert traces(samples) == {trace_id}
    assert [span.name for span in receiver.received.server_spans()] == ["GET /orders/{order_id}"]


def test_a_taken_port_is_a_warning_and_the_service_answers(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Metrics that cannot be scraped stop no request."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = environment(
            receiver.endpoint, OTEL_METRICS_EXPORTER="otlp,prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=port
        )
        with serve(uvicorn("shop"), settings, apps) as service:
            assert service.get("/orders/7").status_code == 200
            receiver.wait_for(lambda received: received.points("http.server.request.duration"))
            service.stop()
            (warning,) = service.warnings()
    assert port in warning
