"""The collector is killed: tercet keeps what it is not rid of, the collector what it has accepted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backend import Backend, Collector, Find, LogStore, eventually, eventually_equal, running_collector
from emitter import Emitter
from fleet import Start, service_environment
from service import LOOPBACK, free_port

IN_MEMORY = f"--config={Path(__file__).parent / 'in_memory.yaml'}"


@pytest.fixture
def emit(start: Start) -> Callable[[str, str], Emitter]:
    """Start a process that emits numbers."""
    return lambda name, otlp: start("counting.py", service_environment(name, otlp))


@pytest.fixture
def collect(backend: Backend, find: Find, tmp_path: Path) -> Callable[..., Any]:
    """Run a collector that comes back with the same ports and the same folder."""
    same = {f"COLLECTOR_{each}_PORT": str(free_port()) for each in ("GRPC", "HTTP", "HEALTH", "METRICS")}

    def run(logs: str, *options: str) -> Any:
        settings = {**backend.destinations, **same, "LOGS_OTLP_ENDPOINT": logs}
        return running_collector(find, tmp_path, settings, *options)

    return run


def account(emitter: Emitter) -> dict[str, Any]:
    emitter.tell("account")
    return json.loads(emitter.stdout.so_far()[-1])


def emit_until_some_is_delivered(emitter: Emitter) -> None:
    had = account(emitter)["delivered"]
    emitter.tell(*["emit 50"] * 20)
    eventually(lambda: account(emitter)["delivered"], lambda delivered: delivered > had)


def kill(collector: Collector) -> None:
    collector.service.process.kill()
    collector.service.process.wait()


def emitted(backend: Backend, name: str) -> float | None:
    return backend.prometheus.number(f'numbers_emitted_total{{job="{name}"}}')


def numbers(logs: LogStore, name: str) -> list[int]:
    return sorted(int(line["number"]) for line in logs.lines(f'"service.name":="{name}" number:*'))


@pytest.mark.parametrize(
    ("options", "kept"), [((), range(300)), ((IN_MEMORY,), range(100, 300))], ids=["on_disk", "in_memory"]
)
def test_a_killed_collector_loses_what_it_had_in_memory_and_nothing_else(
    backend: Backend,
    collect: Callable[..., Any],
    emit: Callable[[str, str], Emitter],
    options: tuple[str, ...],
    kept: range,
) -> None:
    """A hundred records that it had accepted, a hundred while it was away, a hundred after."""
    name = f"killed-{len(kept)}"
    with collect(f"http://{LOOPBACK}:{free_port()}", *options) as collector:
        emitter = emit(name, collector.http)
        emitter.tell("emit 100")
        eventually_equal(lambda: account(emitter)["delivered"], 100)
        kill(collector)
        emitter.tell("emit 100")
    with collect(backend.logs.otlp, *options):
        emitter.tell("emit 100")
        eventually_equal(lambda: account(emitter)["delivered"], 300)
        assert account(emitter)["dropped"] == {}
        eventually_equal(lambda: numbers(backend.logs, name), list(kept))
        # Sums know of each.
        eventually_equal(lambda: emitted(backend, name), 300)


def test_a_collector_killed_under_load_loses_nothing(
    backend: Backend, collect: Callable[..., Any], emit: Callable[[str, str], Emitter]
) -> None:
    """Three times, while records come; what was on its way may come twice, and each comes."""
    name, emitter = "loaded", None
    for _ in range(3):
        with collect(backend.logs.otlp) as collector:
            emitter = emitter or emit(name, collector.http)
            emit_until_some_is_delivered(emitter)
            kill(collector)
        emitter.tell(*["emit 50"] * 20)
    with collect(backend.logs.otlp):
        eventually_equal(lambda: account(emitter)["delivered"], 6_000)
        eventually_equal(lambda: set(numbers(backend.logs, name)), set(range(6_000)))
        eventually_equal(lambda: emitted(backend, name), 6_000)
