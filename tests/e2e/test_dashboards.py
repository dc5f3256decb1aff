"""Every query of every dashboard, asked of a Prometheus that scrapes the demo: each has its answer."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from receiver import Receiver
from service import LOOPBACK, PATIENCE, Service, free_port, serve, started

from as_grafana import Asked, Page, filled, selectors
from tercet.demo.catalog import GATEWAY, ORDERS, PAYMENTS, PORTS

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("prometheus"), reason="prometheus is not installed: apt install prometheus"
    ),
    pytest.mark.skipif(sys.platform != "linux", reason="What a host uses is measured on Linux."),
]

ROOT = Path(__file__).parents[2]
#: What a machine may lack, by the beginning of its metrics' names.
MAY_BE_ABSENT = (
    "tercet_container_",  # it runs in no container that has a limit
    "tercet_system_pressure_",  # its kernel has no pressure stall information
    "hw_network_",  # its network has no speed
    "system_network_",  # it shows no interface
    "system_paging_utilization_",  # it has no swap
    "tercet_system_disk_",  # it shows no disk
)
#: Empty as long as nothing is wrong.
EMPTY_WHEN_WELL = {"Alerts that fire", "Pages", "Waiting on disk"}
#: At zero as long as nothing is wrong, rather than nowhere. On a busy machine some order may be slow.
ZERO_WHEN_WELL = {
    "tercet-service": ("Errors", "Errors by route"),
    "tercet-slo": ("Bad events a second", "Burn rate over 1h"),
    "tercet-telemetry": ("Lost", "Dropped", "Overflow", "Misuse", "Metrics beyond their limit"),
}


Question = tuple[Page, Asked, Any]


@dataclass
class Scene:
    """The demo, what scrapes it, and what is generated for it."""

    prometheus: Service
    services: dict[str, Service]
    receiver: Receiver
    pages: dict[str, Page]
    client: httpx.Client
    began: float

    def order(self) -> int:
        """Place an order as a customer does."""
        order = {"user_id": "usr_1", "amount": 150.0}
        return self.client.post(f"{self.services[GATEWAY].url}/orders", json=order).status_code

    def ask(self, path: str, *, get: bool = False, **parameters: Any) -> Any:
        """Ask Prometheus.

        Raises:
            AssertionError: It does not understand.
        """
        url = f"{self.prometheus.url}/api/v1/{path}"
        sent = self.client.get(url, params=parameters) if get else self.client.post(url, data=parameters)
        answer = sent.json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, asked: Asked, chosen: dict[str, str]) -> dict[str, list[float]]:
        """Ask what a panel asks, for now or from the beginning until now, and read each series' values."""
        query = asked.filled(chosen, interval="10s")
        if asked.is_instant:
            series = [(each["metric"], [each["value"]]) for each in self.ask("query", query=query)["result"]]
        else:
            span = {"start": self.began, "end": time.time(), "step": 1}
            found = self.ask("query_range", query=query, **span)["result"]
            series = [(each["metric"], each["values"]) for each in found]
        return {
            named(asked.legend, labels): [float(value) for _, value in values] for labels, values in series
        }

    def shown(self, uid: str, title: str, **chosen: str) -> dict[str, list[float]]:
        """Read what a panel shows, series by series."""
        page = self.pages[uid]
        everything = [
            self.values(asked, {**page.everything, **chosen})
            for asked in page.asked()
            if asked.where == title
        ]
        return {name: values for each in everything for name, values in each.items()}

    def lights(self) -> dict[str, float]:
        """Read the light of each service."""
        return {name: values[-1] for name, values in self.shown("tercet-service", "Services").items()}

    def unanswered(self, queries: Iterable[Question]) -> Iterator[Question]:
        """List the queries that have no answer, and should: this machine has all that they read."""
        there = set(self.ask("label/__name__/values", get=True))
        for page, asked, expression in queries:
            lacking = {selector.name for selector in selectors(expression) if selector.name} - there
            is_excused = any(name.startswith(MAY_BE_ABSENT) for name in lacking)
            if (
                not is_excused
                and asked.where not in EMPTY_WHEN_WELL
                and not self.values(asked, page.everything)
            ):
                yield page, asked, expression

    def offered(self, page: Page, name: str, **chosen: str) -> set[str]:
        """Ask for the values of a variable as Grafana does."""
        variable = page.variables[name]
        query = filled(variable["definition"], {**page.everything, **chosen})
        selected, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        values = self.ask(f"label/{label}/values", get=True, **{"match[]": selected})
        pattern = re.compile(variable["regex"].strip("/") or "(.*)")
        return {found[1] for value in values if (found := pattern.search(value))}

    def until(self, is_so: Callable[[], Any]) -> Any:
        """Place orders until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not (found := is_so()):
            assert time.monotonic() < deadline, "it never was so"
            self.order()
        return found


def named(legend: str, labels: dict[str, str]) -> str:
    """Name a series as Grafana does."""
    if legend == "__auto":
        return " ".join(labels.values())
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend).strip()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, apps: Path) -> Iterator[Scene]:
    """Start it all, each service with a port for Prometheus."""
    folder = tmp_path_factory.mktemp("scene")
    generate(folder, apps)
    quicken(folder / "generated" / "rules")
    urls = {name: f"http://{LOOPBACK}:{free_port()}" for name in PORTS}
    scraped: dict[str, int] = {}
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())

        def start(name: str, *command: str) -> Service:
            scraped[name] = free_port()
            environment = {
                **{key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
                "OTEL_METRICS_EXPORTER": "otlp,prometheus",
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(scraped[name]),
                "OTEL_METRIC_EXPORT_INTERVAL": "250",
            }
            return stack.enter_context(started((sys.executable, *command), environment, folder))

        services = {}
        for name, url in urls.items():
            port = url.rpartition(":")[2]
            peers = [f"--peer={peer}={address}" for peer, address in urls.items()]
            options = [f"--port={port}", f"--otlp={receiver.endpoint}", f"--database={folder / 'orders.db'}"]
            services[name] = start(name, "-m", "tercet.demo", name, *options, *peers)
            services[name].port = int(port)
        for name in PORTS:
            services[name].wait_until_it_accepts()
        start("measured", str(apps / "measured.py"), receiver.endpoint, f"{urls[GATEWAY]}/health")
        prometheus = stack.enter_context(serve(prometheus_command(folder, scraped), dict(os.environ), folder))
        prometheus.stderr.wait_for(lambda lines: any("Server is ready" in line for line in lines))
        # uvicorn closes a connection on which a request has failed, maybe while the next one is on its way.
        each_its_own = httpx.Limits(max_keepalive_connections=0)
        client = stack.enter_context(httpx.Client(timeout=PATIENCE, trust_env=False, limits=each_its_own))
        pages = {
            path.stem: Page.read(path.read_text("utf-8"))
            for path in (folder / "generated" / "dashboards").iterdir()
        }
        yield Scene(prometheus, services, receiver, pages, client, time.time())


def generate(folder: Path, apps: Path) -> None:
    """Generate what is needed as a user does, in one step."""
    objectives = shutil.copy(ROOT / "configs" / "objectives.yaml", folder)
    subprocess.run(
        [sys.executable, "-m", "tercet.cli.main", "generate", "--module", "measured", objectives],
        cwd=apps,
        check=True,
        timeout=PATIENCE,
        capture_output=True,
    )


def quicken(rules: Path) -> None:
    """Have the rules evaluated each second instead of each minute; the budget looks back as much less."""
    for path in rules.iterdir():
        text = path.read_text("utf-8")
        text = re.sub(r"interval: \d+m", "interval: 1s", text)
        path.write_text(re.sub(r"offset (\d)m\b", r"offset \1s", text), "utf-8")


def prometheus_command(folder: Path, scraped: dict[str, int]) -> list[str]:
    """Write what Prometheus reads, and say how it is started."""
    jobs = [
        {
            "job_name": name,
            "static_configs": [
                {"targets": [f"{LOOPBACK}:{port}"], "labels": {"deployment_environment_name": "demo"}}
            ],
        }
        for name, port in scraped.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "generated" / "rules" / "*.yaml")],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config), "utf-8")
    return [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={LOOPBACK}:{{port}}",
        "--enable-feature=exemplar-storage",
    ]


def test_every_query_has_its_answer(scene: Scene) -> None:
    """With everything chosen, but for what this machine lacks; what fails is at 0 as long as nothing does."""
    left = [(page, *each) for page in scene.pages.values() for each in page.parsed]
    deadline = time.monotonic() + PATIENCE
    while (left := list(scene.unanswered(left))) and time.monotonic() < deadline:
        assert scene.order() == 201
    assert [(asked.where, asked.expression) for _, asked, _ in left] == []
    for uid, titles in ZERO_WHEN_WELL.items():
        for title in titles:
            failed = scene.shown(uid, title, slo="availability")
            own = [values for name, values in failed.items() if "objective" not in name]
            assert {max(values) for values in own} == {0.0}, title
    assert set(PORTS) <= set(scene.lights())
    assert scene.lights()["auth-service"] == 0


def test_the_lines_of_a_table_differ_in_what_it_shows_and_in_nothing_else(scene: Scene) -> None:
    """Each column would else have lines of its own."""
    for page in scene.pages.values():
        for asked, columns in page.columns():
            answer = scene.ask("query", query=asked.filled(page.everything, interval="10s"))["result"]
            assert set().union(*(series["metric"] for series in answer)) <= columns, asked


def test_variables_offer_what_is_there(scene: Scene) -> None:
    """Each narrowed by those before it."""
    page = scene.pages["tercet-service"]
    scene.until(lambda: "/orders" in scene.offered(page, "route"))
    assert scene.offered(page, "service") == {*PORTS, "measured"}
    assert scene.offered(page, "environment") == {"demo"}
    assert len(scene.offered(page, "instance", service="gateway")) == 1
    assert scene.offered(page, "route", service="gateway") == {"/orders"}
    assert scene.offered(scene.pages["tercet-slo"], "slo", service="auth-service") == {
        "availability",
        "latency",
    }


def test_a_dot_leads_to_a_trace(scene: Scene) -> None:
    """Of an order, which the collector has received."""
    (quantile, *_) = [each for each in scene.pages["tercet-service"].asked() if each.where == "Duration"]
    chosen = {**scene.pages["tercet-service"].everything, "service": GATEWAY}

    def traces() -> set[str]:
        query = quantile.filled(chosen, interval="10s")
        series = scene.ask("query_exemplars", query=query, start=scene.began, end=time.time())
        return {dot["labels"]["trace_id"] for each in series for dot in each["exemplars"]}

    dots = scene.until(traces)
    scene.receiver.wait_for(
        lambda received: (
            dots <= {span.trace_id for span in received.server_spans() if span.name == "POST /orders"}
        )
    )


def test_the_first_screen_says_what_is_broken(scene: Scene) -> None:
    """Payments are gone: the lights of who needs them turn red, and so does their dependency."""
    scene.until(lambda: set(PORTS) <= set(scene.lights()))
    scene.services[PAYMENTS].stop()
    scene.until(lambda: {scene.lights()[name] for name in (GATEWAY, ORDERS)} == {2.0})
    assert scene.lights()["auth-service"] == 0
    alerts = scene.shown("tercet-service", "Alerts that fire", service=ORDERS)
    assert any("OrderServiceAvailabilityBurn1h" in name for name in alerts)
    called = scene.shown("tercet-service", "Dependencies", service=ORDERS)
    port = str(scene.services[PAYMENTS].port)
    assert {name.endswith(port): values[-1] > 0.05 for name, values in called.items()} == {
        True: True,
        False: False,
    }
    assert any(
        "/orders 502" in name for name in scene.shown("tercet-service", "Errors by route", service=ORDERS)
    )
    left = scene.shown("tercet-service", "Budget left", service=ORDERS)
    assert left["order-service availability"][-1] < 0
