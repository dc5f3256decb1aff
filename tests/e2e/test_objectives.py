"""Objectives in code, counted by several workers that are killed: what was promised, to the last event."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from receiver import Receiver
from service import PATIENCE, Service, serve
from test_workers import RUN, Environs, environ, scrape, until

UVICORN = ("uvicorn", "shop_promising:app", "--port", "{port}", "--workers", "2")
DOORS = {"in code": (sys.executable, "-m", *UVICORN), "tercet run": (*RUN, *UVICORN)}
#: How requests go, as callers say it: status (0 raises), and seconds.
REQUESTS = [(200, 0.0), (404, 0.0), (409, 0.0), (500, 0.0), (503, 0.0), (0, 0.0), (200, 0.35)]
SLOW = 0.35
Events = dict[tuple[str, str], float]
__all__ = ["environ"]


class Load:
    """Requests from several threads, each as its turn has it, and what came of them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._counting = threading.Lock()
        self.asked: Counter[tuple[int, float]] = Counter()
        self.others = self.answered_by = 0

    def ask(self, times: int) -> None:
        """Place orders of each kind, from two threads."""

        def place() -> None:
            for number in range(times):
                for status, seconds in REQUESTS:
                    path = f"/api/orders/{number}?status={status}&seconds={seconds}"
                    answer = httpx.post(self._service.url + path, timeout=PATIENCE, verify=False)
                    assert answer.status_code == (status or 500)
                    with self._counting:
                        self.asked[status, seconds] += 1

        threads = [threading.Thread(target=place) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def worker(self, but: set[int]) -> int:
        """Ask until a worker answers that is none of these."""

        def look() -> bool:
            self.answered_by = int(self._service.get("/who").text)
            self.others += 1
            return self.answered_by not in but

        until(look, self._service.said)
        return self.answered_by

    def placed(self, *statuses: int) -> int:
        """Count the orders that ended so; all when none is named."""
        return sum(number for (status, _), number in self.asked.items() if status in (statuses or range(999)))


def events(url: str) -> Events:
    """Read how often each promise was kept and broken."""
    return {
        (sample.labels["slo"], sample.labels["outcome"]): sample.value
        for sample in scrape(url)
        if sample.name == "slo_events_total"
    }


def buckets(url: str) -> Counter[str]:
    """Add up the buckets of orders, by their bound."""
    found: Counter[str] = Counter()
    for sample in scrape(url):
        is_order = sample.labels.get("http_route") == "/api/orders/{number}"
        if is_order and sample.name == "http_server_request_duration_seconds_bucket":
            found[sample.labels["le"]] += int(sample.value)
    return found


def expected(load: Load) -> Events:
    """Say what was caused; how fast it was is the service's to say."""
    bad, raised = load.placed(500, 503, 0), load.placed(0)
    counted = load.placed() + load.others
    return {
        ("checkout", "good"): load.placed() - bad,
        ("checkout", "bad"): bad,
        ("all", "good"): counted - bad + raised,
        ("all", "bad"): bad - raised,
        ("stock", "good"): load.placed(200),
        ("stock", "bad"): 2 * load.placed(404, 500, 503),
    }


@pytest.mark.parametrize("door", DOORS)
def test_each_event_is_counted_though_workers_are_killed(door: str, environ: Environs, apps: Path) -> None:
    """As the callers count, and in whichever worker it was; a bucket ends at the threshold in all."""
    with serve(DOORS[door], environ(), apps) as service:
        load, metrics = Load(service), f"{service.url}/metrics"
        zeros = dict.fromkeys((*expected(load), ("fast", "good"), ("fast", "bad")), 0.0)
        assert set(events(metrics)) == set(zeros)
        killed: set[int] = set()
        for _ in range(3):
            load.ask(2)
            victim = load.worker(but=killed)
            told(metrics, load)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
            load.worker(but=killed)
            load.ask(1)
            found = told(metrics, load)
            assert {key: found[key] for key in expected(load)} == expected(load), service.said()
            within = buckets(metrics)
            assert found["fast", "good"] == within["0.3"]
            assert found["fast", "good"] + found["fast", "bad"] == within["+Inf"] == load.placed()
            assert found["fast", "bad"] >= load.asked[200, SLOW]
        service.stop()


def told(metrics: str, load: Load) -> Events:
    """Wait until the last request, whose answer may come before it is counted, is there."""
    found: Events = {}

    def is_told() -> bool:
        found.update(events(metrics))
        return sum(found[key] for key in found if key[0] == "all") >= load.placed() + load.others

    until(is_told, lambda: found)
    return found


def test_over_otlp_each_event_is_counted_too(environ: Environs, apps: Path, receiver: Receiver) -> None:
    """By all workers together, with both series there from the beginning."""
    with serve(DOORS["tercet run"], environ(), apps) as service:
        load = Load(service)
        load.ask(3)

        def arrived() -> bool:
            found: Counter[tuple[str, str]] = Counter()
            for point in receiver.wait_for(lambda received: received.points("slo.events")):
                found[point.attributes["slo"], point.attributes["outcome"]] += int(point.value)
            return {key: found[key] for key in expected(load)} == expected(load)

        until(arrived, service.said)
        service.stop()


OBJECTIVES = """\
team: platform
period: 30d
links: {grafana: "https://grafana.example.com/", runbooks: "https://runbooks.example.com"}
contacts: {default: {page: {webhook: {url: "https://a.example.com"}}, ticket: {webhook: {url: "https://b.example.com"}}}}
deadman: {webhook: {url: "https://deadman.example.com"}}
services:
  shop: {runbook: {impact: Nobody can order., causes: [The database.], actions: [Look.]}}
"""


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt install prometheus")
def test_prometheus_takes_the_rules_of_the_code(
    environment: Callable[..., dict[str, str]], apps: Path, tmp_path: Path
) -> None:
    """They read what the code counts, and their own tests hold."""
    document = tmp_path / "objectives.yaml"
    document.write_text(OBJECTIVES, "utf-8")
    environ = environment("http://127.0.0.1:9")
    generate = (sys.executable, "-m", "tercet.cli.main", "generate", "--module", "shop_promising")
    subprocess.run([*generate, str(document)], cwd=apps, env=environ, check=True, timeout=600)
    rules = tmp_path / "generated" / "rules" / "shop.yaml"
    read = set(re.findall(r'slo_events_total\{job="shop",slo="(\w+)"', rules.read_text("utf-8")))
    assert read == {"checkout", "fast", "all", "stock"}
    for command in (
        ("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(rules)),
        ("promtool", "test", "rules", str(tmp_path / "generated" / "tests" / "shop.yaml")),
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
