"""The reference backend for tests: real programs, started once, each test with names of its own in it."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from backend import (
    Backend,
    Find,
    running_alertmanager,
    running_collector,
    running_jaeger,
    running_log_store,
    running_prometheus,
)
from binaries import Workshop, cache_folder, load_recipes
from emitter import Emitter
from fleet import APPS, Start
from service import LOOPBACK

# Applications are started, never imported here: some set up the process that they are in.
collect_ignore_glob = ["apps/*"]


@pytest.fixture(scope="session")
def find() -> Find:
    """Find a program, or skip the test and say how to get it."""
    built = Workshop(cache_folder(os.environ), load_recipes(), "", print).folder

    def find_program(name: str) -> str:
        path = shutil.which(name, path=str(built))
        if path is None:
            pytest.skip(f"{name} is not built: `make e2e` does that where Go is installed")
        return path

    return find_program


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a folder for a program."""
    return tmp_path_factory.mktemp


@pytest.fixture(scope="session")
def backend(find: Find, folder: Callable[[str], Path]) -> Iterator[Backend]:
    """All of it, wired as in docker-compose.yml; every trace is kept."""
    # Nothing is started where something is missing.
    for program in ("prometheus", "jaeger", "victoria-logs", "alertmanager", "otelcol"):
        find(program)
    with ExitStack() as running:
        prometheus = running.enter_context(running_prometheus(find, folder("prometheus")))
        jaeger = running.enter_context(
            running_jaeger(find, folder("jaeger"), {"PROMETHEUS_URL": prometheus.service.url})
        )
        logs = running.enter_context(running_log_store(find, folder("logs")))
        alertmanager = running.enter_context(running_alertmanager(find, folder("alertmanager")))
        destinations = {
            "JAEGER_OTLP_ENDPOINT": jaeger.otlp,
            "PROMETHEUS_OTLP_ENDPOINT": prometheus.otlp,
            "LOGS_OTLP_ENDPOINT": logs.otlp,
            "COLLECTOR_DECISION_WAIT": "1s",
            "COLLECTOR_METRICS_INTERVAL": "1s",
        }
        collector = running.enter_context(running_collector(find, folder("collector"), destinations))
        prometheus.look_at(
            {
                "collector:8888": f"{LOOPBACK}:{collector.settings['COLLECTOR_METRICS_PORT']}",
                "jaeger:8888": jaeger.metrics,
                "alertmanager:9093": f"{LOOPBACK}:{alertmanager.port}",
                "localhost:9090": f"{LOOPBACK}:{prometheus.service.port}",
            }
        )
        yield Backend(collector, jaeger, prometheus, logs, alertmanager, destinations)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start scripts that do what they are told, and leave none behind."""
    running: list[Emitter] = []

    def start_script(script: str, env: dict[str, str]) -> Emitter:
        running.append(Emitter(env, APPS, script))
        return running[-1]

    yield start_script
    for each in running:
        each.process.kill()
        each.process.wait()
