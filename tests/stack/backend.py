"""The reference backend as tests run it: real programs with the files of configs/, on free loopback ports."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse_page
from service import LOOPBACK, PATIENCE, Service, free_port, started

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
ROUTES = CONFIGS / "generated" / "alertmanager.yaml"

_POLL = 0.1

T = TypeVar("T")
Find = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    service: Service
    folder: Path
    places: dict[str, str] = field(default_factory=dict)

    def look_at(self, places: Mapping[str, str]) -> None:
        """Say where targets of configs/targets are here; of which that is never said, are left out."""
        self.places.update(places)
        for path in (CONFIGS / "targets").iterdir():
            groups = yaml.safe_load(path.read_text("utf-8"))
            for group in groups:
                group["targets"] = [self.places[each] for each in group["targets"] if each in self.places]
            written = self.folder / "targets" / f".{path.name}"
            written.write_text(yaml.safe_dump(groups))
            written.rename(self.folder / "targets" / path.name)

    @property
    def otlp(self) -> str:
        """Where it takes OTLP."""
        return f"{self.service.url}/api/v1/otlp"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant vector, now."""
        answer = self.service.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def number(self, expression: str) -> float | None:
        """Return the value of what is one series, or None where there is none."""
        values = [float(series["value"][1]) for series in self.query(expression)]
        assert len(values) <= 1, values
        return values[0] if values else None

    def exemplars(self, selector: str) -> list[dict[str, str]]:
        """Return the labels of the exemplars of series."""
        parameters = {"query": selector, "start": "0", "end": "9999999999"}
        found = self.service.get("/api/v1/query_exemplars", params=parameters).json()["data"]
        return [each["labels"] for series in found for each in series["exemplars"]]


@dataclass(frozen=True, slots=True)
class Jaeger:
    """A running Jaeger."""

    service: Service
    otlp: str
    metrics: str

    def trace(self, trace_id: str) -> list["JaegerSpan"]:
        """Return the spans of a trace; none where it is not known."""
        data = self.service.get(f"/api/traces/{trace_id}").json()["data"] or []
        return [_span(span, trace["processes"]) for trace in data for span in trace["spans"]]

    def spans_of(self, service: str) -> set[str]:
        """Name the spans of a service."""
        data = self.service.get("/api/traces", params={"service": service}).json()["data"] or []
        return {span["operationName"] for trace in data for span in trace["spans"]}


@dataclass(frozen=True, slots=True)
class JaegerSpan:
    """A span as Jaeger shows it."""

    service: str
    name: str
    span_id: str
    parent_id: str
    started: int
    seconds: float
    tags: Mapping[str, Any]


def _span(span: dict[str, Any], processes: dict[str, Any]) -> JaegerSpan:
    parents = [each["spanID"] for each in span["references"] if each["refType"] == "CHILD_OF"]
    return JaegerSpan(
        processes[span["processID"]]["serviceName"],
        span["operationName"],
        span["spanID"],
        parents[0] if parents else "",
        span["startTime"],
        span["duration"] / 1e6,
        {tag["key"]: tag["value"] for tag in span["tags"]},
    )


@dataclass(frozen=True, slots=True)
class LogStore:
    """A running VictoriaLogs."""

    service: Service

    @property
    def otlp(self) -> str:
        """Where it takes OTLP."""
        return f"{self.service.url}/insert/opentelemetry"

    def lines(self, query: str) -> list[dict[str, str]]:
        """Return the records that a query of LogsQL finds."""
        answer = self.service.get("/select/logsql/query", params={"query": query, "limit": "1000000"})
        return [json.loads(line) for line in answer.text.splitlines()]


@dataclass(frozen=True, slots=True)
class Collector:
    """A running Collector."""

    service: Service
    settings: Mapping[str, str]

    @property
    def http(self) -> str:
        """Where it takes OTLP over HTTP."""
        return f"http://{LOOPBACK}:{self.settings['COLLECTOR_HTTP_PORT']}"

    @property
    def grpc(self) -> str:
        """Where it takes OTLP over gRPC."""
        return f"http://{LOOPBACK}:{self.settings['COLLECTOR_GRPC_PORT']}"

    def own_metrics(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return the series of one metric of its own."""
        page = httpx.get(
            f"http://{LOOPBACK}:{self.settings['COLLECTOR_METRICS_PORT']}/metrics", trust_env=False
        )
        families = {family.name: family.samples for family in parse_page(page.text)}
        return [(sample.labels, sample.value) for sample in families.get(name, ())]


@dataclass(frozen=True, slots=True)
class Backend:
    """All of it, wired as in docker-compose.yml.

    Attributes:
        destinations: Settings for another collector that sends to the same places, in haste.
    """

    collector: Collector
    jaeger: Jaeger
    prometheus: Prometheus
    logs: LogStore
    alertmanager: Service
    destinations: Mapping[str, str]


_IS_READY = {
    "otelcol": "Everything is ready.",
    "jaeger": "Everything is ready.",
    "prometheus": "Server is ready to receive web requests.",
    "alertmanager": "Listening on",
    "victoria-logs": "started server at",
}


@contextmanager
def _ready(name: str, command: list[str], folder: Path, settings: Mapping[str, str]) -> Iterator[Service]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **settings}
    with started(command, environ, folder) as service:
        service.stderr.wait_for(lambda lines: any(_IS_READY[name] in line for line in lines))
        yield service


@contextmanager
def running_collector(
    find: Find, folder: Path, settings: Mapping[str, str], *options: str
) -> Iterator[Collector]:
    """Run configs/collector.yaml.

    Args:
        find: Finds a program.
        folder: Where its queues are kept.
        settings: Its environment: where to send, and what is not by default. It listens on free ports.
        options: More options of the command, as another `--config` that is merged.
    """
    listens = {f"COLLECTOR_{each}_PORT": str(free_port()) for each in ("GRPC", "HTTP", "HEALTH", "METRICS")}
    environ = {"COLLECTOR_STORAGE": str(folder), **listens, **settings}
    command = [find("otelcol"), f"--config={CONFIGS / 'collector.yaml'}", *options]
    with _ready("otelcol", command, folder, environ) as service:
        yield Collector(service, environ)


@contextmanager
def running_jaeger(find: Find, folder: Path, settings: Mapping[str, str]) -> Iterator[Jaeger]:
    """Run configs/jaeger.yaml."""
    names = ("GRPC", "HTTP", "QUERY_GRPC", "HEALTH", "METRICS")
    listens = {f"JAEGER_{each}_PORT": str(free_port()) for each in names}
    command = [find("jaeger"), f"--config={CONFIGS / 'jaeger.yaml'}"]
    with _ready("jaeger", command, folder, {**listens, "JAEGER_QUERY_PORT": "{port}", **settings}) as service:
        yield Jaeger(
            service, *(f"{LOOPBACK}:{listens[f'JAEGER_{each}_PORT']}" for each in ("GRPC", "METRICS"))
        )


@contextmanager
def running_prometheus(find: Find, folder: Path) -> Iterator[Prometheus]:
    """Run configs/prometheus.yaml, its rules and the flags of docker-compose.yml, with targets of its own.

    Args:
        find: Finds a program.
        folder: Where the files lie beside each other as in the container, and where series are kept.
    """
    (folder / "targets").mkdir()
    for name in ("prometheus.yaml", "generated"):
        (folder / name).symlink_to(CONFIGS / name)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    own = ("--config.file=", "--storage.tsdb.path=", "--web.listen-address=")
    flags = [flag for flag in compose["services"]["prometheus"]["command"] if not flag.startswith(own)]
    here = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command = [find("prometheus"), *here, f"--web.listen-address={LOOPBACK}:{{port}}", *flags]
    with _ready("prometheus", command, folder, {}) as service:
        yield Prometheus(service, folder)


@contextmanager
def running_log_store(find: Find, folder: Path) -> Iterator[LogStore]:
    """Run VictoriaLogs, which takes OTLP as Loki does, in its place."""
    command = [find("victoria-logs"), f"-storageDataPath={folder}", f"-httpListenAddr={LOOPBACK}:{{port}}"]
    with _ready("victoria-logs", command, folder, {}) as service:
        yield LogStore(service)


@contextmanager
def running_alertmanager(find: Find, folder: Path, routes: Path = ROUTES) -> Iterator[Service]:
    """Run configs/generated/alertmanager.yaml, or what was made of it."""
    config = f"--config.file={routes}"
    listens = [f"--web.listen-address={LOOPBACK}:{{port}}", "--cluster.listen-address="]
    command = [find("alertmanager"), config, f"--storage.path={folder}", *listens]
    with _ready("alertmanager", command, folder, {}) as service:
        yield service


def eventually(ask: Callable[[], T], is_right: Callable[[T], bool], seconds: float = PATIENCE) -> T:
    """Ask a backend, which tells nobody when something has arrived, until its answer is right; return that.

    Raises:
        AssertionError: It was not in time; here is the last answer.
    """
    deadline = time.monotonic() + seconds
    while not is_right(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(_POLL)
    return answer


def eventually_equal(ask: Callable[[], T], wanted: object) -> None:
    """Ask a backend until it answers what is wanted.

    Raises:
        AssertionError: It did not in time; here is the last answer.
    """
    eventually(ask, lambda answer: answer == wanted)
