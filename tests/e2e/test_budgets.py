"""What `tercet slo` says of a budget is what whoever sent the requests has counted."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from receiver import Receiver
from service import LOOPBACK, PATIENCE, Service, free_port, serve

Environment = Callable[..., dict[str, str]]
pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is not installed: apt install prometheus"
)
TERCET = (sys.executable, "-m", "tercet.cli.main")
#: Share of the requests that may be bad.
BUDGET = 0.05
DOCUMENT = """\
team: shop
period: 30d
links: {grafana: "http://localhost:3000", runbooks: "http://localhost/runbooks"}
contacts:
  default: {page: {webhook: {url: "http://localhost/page"}}, ticket: {webhook: {url: "http://localhost/ticket"}}}
deadman: {webhook: {url: "http://localhost/alive"}}
services:
  shop: {runbook: {impact: Nobody can buy., causes: [The shelf fell down.], actions: [Look.]}}
objectives:
  - {service: shop, name: availability, kind: availability, target: 95%}
  - service: shop
    name: by-query
    kind: query
    target: 95%
    bad: |-
      sum by (deployment_environment_name) (
        rate(http_server_request_duration_seconds_count{error_type!=""}[{{.window}}])
      )
    total: |-
      sum by (deployment_environment_name) (
        rate(http_server_request_duration_seconds_count[{{.window}}])
      )
  - {service: shop, name: payments, kind: availability, target: 95%, where: {http.route: "/nobody/pays"}}
"""
CONFIGURATION = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
rule_files: [rules.yaml]
scrape_configs:
- job_name: shop
  static_configs:
  - targets: ["127.0.0.1:{port}"]
    labels: {{deployment_environment_name: staging}}
"""
#: Two seconds stand for a minute: a budget that is counted every two minutes is counted every four seconds.
SECONDS_A_MINUTE = 2
_MINUTES = {"m": 1, "h": 60, "d": 24 * 60}


def hastened(rules: str) -> str:
    """Let time pass faster in rules: in their windows, offsets and intervals alike."""

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * _MINUTES[found[3]] * SECONDS_A_MINUTE}s"

    return re.sub(r"(\[|offset |interval: |for: )(\d+)([mhd])\b", shorter, rules)


@dataclass
class Customers:
    """Send requests, and count what came of them."""

    service: Service
    answers: Counter[int] = field(default_factory=Counter)

    def ask(self, path: str, times: int) -> None:
        """Send requests, each over a connection of its own: some end it."""
        self.answers.update(self.service.get(path).status_code for _ in range(times))

    @property
    def one_event(self) -> float:
        """The share of the budget that one request is."""
        return 1 / (BUDGET * self.answers.total())

    @property
    def left(self) -> float:
        """The share of the budget that must be left."""
        return 1 - self.answers[500] * self.one_event


@contextmanager
def prometheus(folder: Path, scraped: int, env: dict[str, str]) -> Iterator[Service]:
    """Run Prometheus with the rules that are generated for the document."""
    (folder / "objectives.yaml").write_text(DOCUMENT, "utf-8")
    subprocess.run(
        [*TERCET, "generate", "objectives.yaml"], cwd=folder, env=env, check=True, timeout=PATIENCE
    )
    rules = (folder / "generated" / "rules" / "shop.yaml").read_text("utf-8")
    (folder / "rules.yaml").write_text(hastened(rules), "utf-8")
    (folder / "prometheus.yaml").write_text(CONFIGURATION.format(port=scraped), "utf-8")
    command = [
        *("prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data"),
        f"--web.listen-address={LOOPBACK}:{{port}}",
    ]
    with serve(command, env, folder) as running:
        yield running


def wait_until_counted(running: Service, requests: int) -> None:
    """Wait until Prometheus has recorded all requests that were sent, and what their ratio is."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if all(recorded(running, name) == requests for name in ("availability", "by-query")):
            return
        time.sleep(0.2)
    raise AssertionError(f"{requests} requests were sent, and not recorded:\n{running.said()}")


def recorded(running: Service, objective: str) -> float:
    """Count the requests that are recorded, once the recorded ratio is theirs."""
    events, bad, ratio = (
        f'{name}{{slo="{objective}"}}'
        for name in ("slo:events:increase2m", "slo:bad_events:increase2m", "slo:bad_ratio:period")
    )
    total = f"sum_over_time({events}[1d])"
    query = f"{total} and abs({ratio} - sum_over_time({bad}[1d]) / {total}) < 1e-9"
    answer = httpx.get(f"{running.url}/api/v1/query", params={"query": query}, verify=False)
    # Until it is ready, it says so in no JSON.
    result = answer.json()["data"]["result"] if answer.is_success else []
    return float(result[0]["value"][1]) if result else 0.0


def slo(folder: Path, env: dict[str, str], running: Service, *words: str) -> tuple[int, dict[str, Any], str]:
    """Run `tercet slo`, and return its exit code, what it says in JSON, and what it says to people."""
    done = subprocess.run(
        [*TERCET, "slo", words[0], "--prometheus", running.url, "--json", *words[1:]],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_budget_is_what_the_customers_have_counted(
    receiver: Receiver, environment: Environment, apps: Path, tmp_path: Path
) -> None:
    """Within one request, for `status` and on both sides of a bar for `gate`, until nothing is left."""
    port = free_port()
    settings = environment(
        receiver.endpoint, OTEL_METRICS_EXPORTER="prometheus", OTEL_EXPORTER_PROMETHEUS_PORT=str(port)
    )
    command = [*TERCET, "run", "--", sys.executable, "-m", "uvicorn", "shop:app", "--port", "{port}"]
    with serve(command, settings, apps) as service, prometheus(tmp_path, port, settings) as running:
        customers = Customers(service)
        customers.ask("/orders/7", 400)
        customers.ask("/error", 12)
        assert customers.answers == {200: 400, 500: 12}
        wait_until_counted(running, 412)

        for name in ("availability", "by-query"):
            code, told, _ = slo(tmp_path, settings, running, "status", "--objective", name)
            (budget,) = told["objectives"]
            assert (code, budget["environment"]) == (0, "staging")
            assert abs(budget["budget_remaining"] - customers.left) < customers.one_event / 100
            assert abs(budget["budget_remaining_minutes"] - customers.left * 2160) < 1e-3
            assert abs(budget["error_ratio"] - 12 / 412) < 1e-9

        for bar, expected in (
            (customers.left - customers.one_event, 0),
            (customers.left + customers.one_event, 1),
        ):
            words = "gate", "--objective", "availability", "--min-budget", f"{bar:.6f}"
            code, told, said = slo(tmp_path, settings, running, *words)
            assert (code, told["passed"]) == (expected, expected == 0), said

        # Of payments nobody knows anything, for there was none.
        assert slo(tmp_path, settings, running, "gate")[0] == 3
        assert slo(tmp_path, settings, running, "gate", "--allow-no-data")[0] == 0

        customers.ask("/error", 15)
        wait_until_counted(running, 427)
        code, told, _ = slo(tmp_path, settings, running, "status", "--service", "shop")
        assert code == 1
        spent = next(each for each in told["objectives"] if each["objective"] == "availability")
        assert spent["health"] == "RED"
        assert abs(spent["budget_remaining"] - customers.left) < customers.one_event / 100
        running.stop()
        service.stop()
