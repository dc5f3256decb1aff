"""What two settings turn on and off, and what happens when a service begins and ends."""

import asyncio
import logging
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider

from tercet.configure import usage
from tercet.configure.usage import Usage
from tercet.declare.settings import Settings
from tercet.emit import threads


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    """Measure with a meter of nobody's, and leave the hooks of this process as they are."""
    provider = MeterProvider()
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    monkeypatch.setattr(threads, "_timed", None)
    return provider


def instruments(provider):
    consumer = provider._measurement_consumer
    return {instrument.name.partition(".")[0] for instrument in consumer._async_instruments}


@pytest.mark.parametrize(
    ("settings", "families"),
    [
        ({"usage": "off", "runtime_metrics": False}, set()),
        ({"usage": "off"}, {"cpython", "tercet", "db", "http"}),
        ({"usage": "process", "runtime_metrics": False}, {"process", "tercet"}),
        ({"usage": "host", "runtime_metrics": False}, {"process", "system", "container", "hw", "tercet"}),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="Other systems have no host to tell of.")
def test_settings_say_what_is_measured(settings, families, elsewhere):
    """By the first word of their names."""
    Usage(Settings(**settings)).install()
    assert instruments(elsewhere) == families


def test_a_loop_is_watched_from_begin_to_end():
    """Once, with the limiter of its threads; and again when it begins again."""
    measuring = Usage(Settings(usage="off"))
    measuring.install()

    async def serve():
        measuring.begin()
        watch, limiter = measuring._watch, measuring._thread_pools.limiter
        measuring.begin()
        assert measuring._watch is watch
        measuring.end()
        assert watch._timer.cancelled()
        measuring.end()
        return watch, limiter

    watch, limiter = asyncio.run(serve())
    assert watch is not None
    assert limiter is not None or "anyio.to_thread" not in sys.modules
    assert measuring._watch is measuring._thread_pools.limiter is None


def test_without_a_loop_of_asyncio_nothing_is_watched():
    """Trio has one of its own."""
    measuring = Usage(Settings(usage="off"))
    measuring.install()
    measuring.begin()
    assert measuring._watch is None


def test_nothing_is_watched_where_it_is_not_wanted():
    """A setting says so."""
    measuring = Usage(Settings(usage="off", runtime_metrics=False))
    measuring.install()

    async def serve():
        measuring.begin()
        measuring.end()

    asyncio.run(serve())
    assert measuring._watch is None


def test_a_library_of_an_unknown_kind_is_named_and_stays_as_it_is(caplog):
    """Whoever imports it never notices."""
    library = ModuleType("sqlalchemy")
    with caplog.at_level(logging.WARNING, "tercet"):
        usage._attach(metrics.get_meter("test"), "tercet.emit.sqlalchemy", library)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "The pools of sqlalchemy are of an unknown kind, and go unobserved: "
    )


def test_what_nobody_has_imported_has_nothing_to_say(monkeypatch):
    """Nor has what is being imported just now."""
    monkeypatch.setitem(sys.modules, "tercet.emit.pools", SimpleNamespace())
    assert list(usage._read_installed("tercet.emit.pools")) == []
    assert list(usage._read_installed("tercet.emit.none")) == []


def test_no_library_is_imported_for_it():
    """An application pays for what it uses, and a process that starts for nothing."""
    code = """if True:
        import sys
        from tercet import setup_observability
        setup_observability("x", metrics_exporter="none", traces_exporter="none", logs_exporter="none")
        unwanted = {"sqlalchemy", "redis", "psycopg_pool", "httpcore", "anyio", "tercet.emit.pools",
                    "tercet.emit.host", "tercet.emit.process", "tercet.emit.cgroup"}
        print(unwanted & set(sys.modules))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
