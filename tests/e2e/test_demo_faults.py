"""`tercet demo` with something broken: what customers and telemetry say of each fault, and after it."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from receiver import Receiver, Span
from service import PATIENCE

from tercet.demo.fleet import Stage, Surroundings, running_fleet
from tercet.demo.traffic import Orders, Receipt, Shop

T = TypeVar("T")
COMMAND = [sys.executable, "-m", "tercet.cli.main", "demo"]


def _demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "--once", *words], capture_output=True, text=True, timeout=4 * PATIENCE, check=False
    )


def test_the_command_tells_of_what_is_broken_in_json():
    """Two faults at once, orders at a rate, and an order that shows both."""
    faults = ["--fault", "payment-slow", "--fault", "notification-down"]
    done = _demo("--json", "--requests", "2", "--rate", "5", *faults)
    answer = json.loads(done.stdout)

    assert (done.returncode, answer["faults"]) == (0, ["payment-slow", "notification-down"])
    assert answer["orders"] == {"sent": 2, "good": 0, "bad": 0, "slow": 2, "pending": 0}
    charge = [
        span["duration_ms"] for span in answer["trace"]["spans"] if span["service"] == "payment-service"
    ]
    failed = [span["name"] for span in answer["trace"]["spans"] if span["status"] == "error"]
    assert (charge[0] > 3000, failed) == (True, ["POST"])


def test_the_command_tells_of_a_collector_that_is_away():
    """There is no trace to show; the services say why."""
    done = _demo("--requests", "2", "--fault", "collector-away")

    assert (done.returncode, "Fault collector-away" in done.stdout) == (0, True)
    assert "2 sent, " in done.stdout
    assert "Undelivered, as the services say" in done.stdout


def test_a_wrong_fault_is_told_the_right_ones():
    """As argparse does, with the exit code of wrong words."""
    done = _demo("--fault", "earthquake")

    assert (done.returncode, "payment-slow" in done.stderr) == (2, True)


class LiveDemo:
    """Five services and one customer, driven from a test that knows nothing of event loops."""

    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self.receiver = receiver
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = AsyncExitStack()
        self._surroundings = Surroundings(directory, os.environ, receiver.endpoint, "blue", detachable=True)
        self.stage: Stage
        self.shop: Shop

    def __enter__(self) -> "LiveDemo":
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def switch(self, fault: str, *, on: bool) -> None:
        """Break something, or mend it."""
        self._run(self.stage.sabotage.switch(fault, on=on))

    def order(self) -> Receipt:
        """Place one order."""
        return self._run(self.shop.order())

    def spans_of(self, receipt: Receipt, service: str) -> list[Span]:
        """Wait for a trace to be whole, and return what one service did in it."""
        spans = self.receiver.wait_for(lambda received: _complete(received.spans, receipt.trace_id))
        return [span for span in spans if span.resource["service.name"] == service]

    def counted(self, service: str, metric: str, **attributes: object) -> int:
        """Return how many measurements a service has sent, by attributes."""
        return sum(
            point.count
            for point in self.receiver.received.points(metric)
            if point.resource["service.name"] == service
            and all(point.attributes.get(key.replace("_", ".")) == value for key, value in attributes.items())
        )

    async def _start(self) -> None:
        self.stage = await self._stack.enter_async_context(running_fleet(self._surroundings, print))
        client = await self._stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=PATIENCE))
        await self.stage.fleet.wait_until_ready(client)
        self.shop = Shop(client, self.stage.fleet.url("gateway"))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(4 * PATIENCE)


def _complete(spans: list[Span], trace_id: str) -> list[Span]:
    """Return a trace once its root is there, and the far side of each call that was answered."""
    found = [span for span in spans if span.trace_id == trace_id]
    parents = {span.parent_id for span in found}
    answered = [
        span for span in found if span.kind == "CLIENT" and "http.response.status_code" in span.attributes
    ]
    return found if "" in parents and all(span.span_id in parents for span in answered) else []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDemo]:
    """One fleet for all faults: none of them may leave anything behind."""
    with Receiver() as receiver, LiveDemo(tmp_path_factory.mktemp("demo"), receiver) as running:
        yield running


@pytest.fixture
def broken(request: pytest.FixtureRequest, demo: LiveDemo) -> Iterator[Receipt]:
    """An order placed while something is broken; after it, orders are accepted again."""
    demo.switch(request.param, on=True)
    yield demo.order()
    demo.switch(request.param, on=False)
    assert demo.order().failure == ""


@pytest.mark.parametrize("broken", ["payment-slow"], indirect=True)
def test_a_slow_payment_makes_the_order_slow(demo, broken):
    """Nothing fails; the time goes where the provider is."""
    spans = [span for name in ("gateway", "order-service") for span in demo.spans_of(broken, name)]

    assert (broken.failure, broken.seconds > 3) == ("", True)
    assert [span.name for span in spans if span.failed] == []
    assert demo.receiver.wait_for(
        lambda received: any(
            point.value > 3
            for point in received.points("http.server.request.duration")
            if point.resource["service.name"] == "payment-service"
        )
    )


@pytest.mark.parametrize("broken", ["payment-failing"], indirect=True)
def test_a_payment_that_fails_is_recorded_where_it_happened(demo, broken):
    """With its exception in payment-service; the services before it say 502, and none is notified."""
    (charge,) = demo.spans_of(broken, "payment-service")
    statuses = [
        span.attributes["http.response.status_code"]
        for name in ("gateway", "order-service")
        for span in demo.spans_of(broken, name)
        if span.kind == "SERVER"
    ]

    assert broken.failure.endswith("502 Bad Gateway.")
    assert (charge.attributes["http.response.status_code"], charge.failed, charge.events) == (
        503,
        True,
        ("exception",),
    )
    assert (statuses, demo.spans_of(broken, "notification")) == ([502, 502], [])


@pytest.mark.parametrize("broken", ["database-locked"], indirect=True)
def test_a_locked_database_makes_orders_wait_and_fail(demo, broken):
    """In SQLite's own words, and nobody is charged."""
    (database,) = [span for span in demo.spans_of(broken, "order-service") if span.name == "database"]

    assert (broken.failure.endswith("502 Bad Gateway."), broken.seconds > 3) == (True, True)
    assert (database.failed, database.attributes["error.type"]) == (True, "sqlite3.OperationalError")
    assert demo.spans_of(broken, "payment-service") == []
    assert demo.receiver.wait_for(
        lambda received: any(
            record.attributes.get("reason") == "database is locked" for record in received.records
        )
    )


@pytest.mark.parametrize("broken", ["notification-down"], indirect=True)
def test_orders_are_safe_without_notification(demo, broken):
    """The call is refused, the log says so, the order is accepted."""
    (call,) = [span for span in demo.spans_of(broken, "gateway") if span.failed]

    assert (broken.failure, call.kind, call.attributes["error.type"]) == (
        "",
        "CLIENT",
        "httpx.ConnectError",
    )
    assert demo.receiver.wait_for(
        lambda received: any(record.body == "confirmation_not_sent" for record in received.records)
    )


def _memory(received) -> float:
    return max(
        (
            point.value
            for point in received.points("process.memory.usage")
            if point.resource["service.name"] == "order-service"
        ),
        default=0.0,
    )


def test_memory_pressure_is_seen_and_ends(demo):
    """The metric of the one service grows with each order, and falls when it is over."""
    before = demo.receiver.wait_for(_memory)
    demo.switch("memory-pressure", on=True)
    for _ in range(8):
        demo.order()
    grown = 100 * 2**20

    assert demo.receiver.wait_for(lambda received: _memory(received) > before + grown)

    demo.switch("memory-pressure", on=False)
    demo.order()
    assert demo.receiver.wait_for(lambda received: _memory(received) < before + grown)


def test_orders_go_on_without_a_collector_and_their_telemetry_comes_later(demo):
    """Nothing is lost in an outage that is short, and the services have said that there was one."""
    demo.switch("collector-away", on=True)
    receipt = demo.order()
    complaints = demo.stage.fleet.undelivered
    while not any("Connection refused" in line for lines in complaints().values() for line in lines):
        demo.order()
    demo.switch("collector-away", on=False)

    assert receipt.failure == ""
    assert len([span for span in demo.spans_of(receipt, "gateway") if span.kind == "SERVER"]) == 1


def test_what_is_counted_is_what_customers_saw(demo):
    """Sent and failed, after all that has happened; in the environment that was asked for."""
    orders: Orders = demo.shop.orders
    duration = "http.server.request.duration"

    assert demo.receiver.wait_for(lambda _: demo.counted("gateway", duration) == orders["sent"])
    assert demo.counted("gateway", duration, error_type="502") == orders["bad"]
    assert {
        point.resource["deployment.environment.name"] for point in demo.receiver.received.points(duration)
    } == {"blue"}
