"""Six faults, each in its own environment, played at once: who is to know is called, once, and no one else.

The rules, the routes and their times are those of configs/generated; only each receiver is a pager that takes
notes. So this takes as long as an incident does, some twenty minutes. Silence everywhere has a Prometheus to
itself, where nobody else reports.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from backend import Backend, Find, Prometheus, running_alertmanager, running_collector, running_prometheus
from fleet import environment
from pager import Call, Pager
from service import LOOPBACK

from tercet.demo.catalog import GATEWAY
from tercet.demo.faults import (
    COLLECTOR_AWAY,
    DATABASE_LOCKED,
    MEMORY_PRESSURE,
    NOTIFICATION_DOWN,
    PAYMENT_FAILING,
    PAYMENT_SLOW,
)
from tercet.demo.fleet import Stage, Surroundings, running_fleet
from tercet.demo.traffic import Orders, Shop, order_steadily

_A_SECOND = 2.0
_POLL = 1.0
#: Until rules have seen that orders come.
_BEGIN_SECONDS = 300
#: What pages and tickets wait for company, in configs/generated/alertmanager.yaml.
_PAGE, _TICKET = 90, 300
#: A rule is evaluated each minute, and what it reads is sent every few seconds.
_LATE = 75
_OVER_SECONDS = 8 * 60


@dataclass(frozen=True, slots=True)
class Play:
    """A fault, and what must come of it.

    Attributes:
        fault: What is broken.
        alert: What fires for it.
        service: Whom the call names.
        receiver: Who is called.
        minutes: After how many the alert fires, as docs/demo.md promises.
        waits: Seconds until somebody is called, once it fires.
        alone: Whether nobody else may report meanwhile.
    """

    fault: str
    alert: str
    service: str
    receiver: str
    minutes: int
    waits: int = _PAGE
    alone: bool = False

    @property
    def seconds(self) -> int:
        """How long to wait for the call."""
        return self.minutes * 60 + self.waits + _LATE


PLAYS = (
    Play(PAYMENT_SLOW, "PaymentServiceLatencyBurn1h", "payment-service", "page-payments", 7),
    Play(PAYMENT_FAILING, "PaymentServiceAvailabilityBurn1h", "payment-service", "page-payments", 3),
    Play(DATABASE_LOCKED, "OrderServiceAvailabilityBurn1h", "order-service", "page-shop", 3),
    Play(MEMORY_PRESSURE, "OrderServiceMemoryBurn1h", "order-service", "ticket-default", 10, _TICKET),
    Play(NOTIFICATION_DOWN, "NotificationSilent", "notification", "page-shop", 11),
    Play(COLLECTOR_AWAY, "AllServicesSilent", "telemetry", "page-default", 9, alone=True),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A backend that alerts, and who is called."""

    otlp: str
    prometheus: Prometheus
    pager: Pager


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a play went.

    Attributes:
        calls: All that were made while it lasted, and until it was over.
        was_called: Whether the right one was called in time.
        is_over: Whether the alert ended in time once the fault did.
        orders: What customers saw.
    """

    calls: list[Call]
    was_called: bool
    is_over: bool
    orders: Orders


@contextmanager
def _scene(find: Find, folder: Callable[[str], Path], backend: Backend) -> Iterator[Scene]:
    with ExitStack() as running:
        pager, here = running.enter_context(Pager().listening()), folder("routes")
        alertmanager = running.enter_context(
            running_alertmanager(find, folder("alertmanager"), pager.routes(here))
        )
        prometheus = running.enter_context(running_prometheus(find, folder("prometheus")))
        prometheus.look_at({"alertmanager:9093": f"{LOOPBACK}:{alertmanager.port}"})
        destinations = {**backend.destinations, "PROMETHEUS_OTLP_ENDPOINT": prometheus.otlp}
        collector = running.enter_context(running_collector(find, folder("collector"), destinations))
        yield Scene(collector.http, prometheus, pager)


@pytest.fixture(scope="module")
def outcomes(find: Find, folder: Callable[[str], Path], backend: Backend) -> Iterator[dict[str, Outcome]]:
    """All plays, at once."""
    with ExitStack() as running:
        shared = running.enter_context(_scene(find, folder, backend))
        scenes = {
            play.fault: running.enter_context(_scene(find, folder, backend)) if play.alone else shared
            for play in PLAYS
        }
        yield asyncio.run(_all(scenes, folder))


async def _all(scenes: dict[str, Scene], folder: Callable[[str], Path]) -> dict[str, Outcome]:
    async with asyncio.TaskGroup() as group:
        plays = {
            play.fault: group.create_task(_perform(play, scenes[play.fault], folder(play.fault)))
            for play in PLAYS
        }
    return {fault: play.result() for fault, play in plays.items()}


async def _perform(play: Play, scene: Scene, folder: Path) -> Outcome:
    surroundings = Surroundings(
        folder, environment(), scene.otlp, play.fault, detachable=play.fault == COLLECTOR_AWAY
    )
    limits = httpx.Limits(max_connections=None)
    async with (
        running_fleet(surroundings, print) as stage,
        httpx.AsyncClient(trust_env=False, timeout=30, limits=limits) as client,
    ):
        await stage.fleet.wait_until_ready(client)
        shop = Shop(client, stage.fleet.url(GATEWAY))
        customers = asyncio.create_task(_order(shop))
        try:
            was_called, is_over = await _break_and_mend(play, scene, stage)
        finally:
            customers.cancel()
        calls = [call for call in scene.pager.calls() if play.alone or call.environment == play.fault]
        return Outcome(calls, was_called, is_over, shop.orders.copy())


async def _order(shop: Shop) -> None:
    async for _ in order_steadily(shop, _A_SECOND):
        pass


async def _break_and_mend(play: Play, scene: Scene, stage: Stage) -> tuple[bool, bool]:
    well = f'slo:budget_remaining:ratio{{service="gateway",deployment_environment_name="{play.fault}"}} == 1'
    assert await _until(lambda: bool(scene.prometheus.query(well)), _BEGIN_SECONDS), (
        "the budgets are not seen"
    )
    await stage.sabotage.switch(play.fault, on=True)
    was_called = await _until(lambda: any(_is_for(play, call) for call in scene.pager.calls()), play.seconds)
    await stage.sabotage.switch(play.fault, on=False)
    where = "" if play.alone else f',deployment_environment_name="{play.fault}"'
    fires = f'ALERTS{{alertname="{play.alert}",alertstate="firing"{where}}}'
    is_over = await _until(lambda: not scene.prometheus.query(fires), _OVER_SECONDS)
    return was_called, is_over


def _is_for(play: Play, call: Call) -> bool:
    right = (call.receiver, call.service) == (play.receiver, play.service)
    return call.is_firing and right and (play.alone or call.environment == play.fault)


async def _until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Ask until it is so, for at most so long; return whether it was."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(is_so):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_POLL)
    return True


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.fault)
def test_whoever_is_to_know_is_called_in_time(play: Play, outcomes: dict[str, Outcome]) -> None:
    """With the name of the service that is broken, and of the alert that was promised."""
    outcome = outcomes[play.fault]
    named = {name for call in outcome.calls if _is_for(play, call) for name in call.alerts}
    assert (outcome.was_called, play.alert in named) == (True, True), outcome


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.fault)
def test_nobody_else_is_called(play: Play, outcomes: dict[str, Outcome]) -> None:
    """One incident is one page, also where five services suffer from it; tickets may follow."""
    pages = {(call.receiver, call.service) for call in outcomes[play.fault].calls if "page" in call.receiver}
    assert pages == ({(play.receiver, play.service)} if "page" in play.receiver else set())


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.fault)
def test_an_alert_ends_with_its_fault(play: Play, outcomes: dict[str, Outcome]) -> None:
    """Once its short window has no more of it."""
    assert outcomes[play.fault].is_over, outcomes[play.fault]


@pytest.mark.parametrize("fault", [PAYMENT_FAILING, DATABASE_LOCKED])
def test_customers_noticed_what_was_paged_for(fault: str, outcomes: dict[str, Outcome]) -> None:
    """The faults are real: orders failed meanwhile, and only meanwhile."""
    orders = outcomes[fault].orders
    assert orders["bad"] > 0
    assert orders["good"] > 0
