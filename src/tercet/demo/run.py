"""The demo on one page: start everything, break what is asked for, place orders, show what telemetry says."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, final
from urllib.parse import urlsplit

import httpx

from tercet.demo.catalog import GATEWAY, RECEIVER
from tercet.demo.evidence import Evidence, Question, collect
from tercet.demo.faults import COLLECTOR_AWAY, unreached
from tercet.demo.fleet import Fleet, Surroundings, running_fleet
from tercet.demo.ports import DemoError, Tell
from tercet.demo.traffic import Orders, Receipt, Shop, order_in_turn, order_steadily

_ROUND_SECONDS = 3.0
_REQUEST_SECONDS = 15.0


@final
class Sent(TypedDict):
    """What there is to say when the telemetry went to an outside collector, or cannot go anywhere."""

    trace_id: str
    requests_sent: int
    orders: Orders
    faults: list[str]
    undelivered: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the demo.

    Attributes:
        requests: Orders in a round.
        once: Whether to stop after one round.
        otlp: The base URL of an outside collector; None starts the receiver.
        environ: The environment that the services start from.
        environment: The `deployment.environment.name` of the services.
        rate: Orders a second; None for a few at a time, as fast as they are answered.
        faults: What goes wrong, by name.
    """

    requests: int
    once: bool
    otlp: str | None
    environ: Mapping[str, str]
    environment: str
    rate: float | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Screen:
    """Where things are shown.

    Attributes:
        show: Told after each round what the telemetry says.
        progress: Told after each order how many of how many are done.
        tell: Told a notice.
    """

    show: Callable[[Evidence | Sent], None]
    progress: Callable[[int, int], None]
    tell: Tell


async def run(options: Options, screen: Screen) -> None:
    """Run the demo until its round is over, or until cancelled; SIGTERM cancels it.

    Raises:
        DemoError: Something did not work; the message says what, with the last log lines of who failed.
    """
    _cancel_on_sigterm()
    if options.otlp:
        await _check_reachable(options.otlp)
    async with _stage(options, screen) as (fleet, client):
        try:
            await _play(options, screen, fleet, client)
        except DemoError as error:
            raise fleet.failure(str(error)) from error


async def _play(options: Options, screen: Screen, fleet: Fleet, client: httpx.AsyncClient) -> None:
    shop = Shop(client, fleet.url(GATEWAY))
    async with aclosing(_rounds(options, screen, shop)) as rounds:
        async for receipts in rounds:
            receipt = _most_telling(receipts, options.faults)
            screen.show(await _report(options, fleet, client, shop, receipt))


async def _report(
    options: Options, fleet: Fleet, client: httpx.AsyncClient, shop: Shop, receipt: Receipt
) -> Evidence | Sent:
    if not options.otlp and COLLECTOR_AWAY not in options.faults:
        question = Question(receipt, shop.orders, options.faults, unreached(options.faults))
        return await collect(client, fleet.url(RECEIVER), question)
    return Sent(
        trace_id=receipt.trace_id,
        requests_sent=shop.orders["sent"],
        orders=shop.orders.copy(),
        faults=list(options.faults),
        undelivered=fleet.undelivered(),
    )


async def _rounds(options: Options, screen: Screen, shop: Shop) -> AsyncGenerator[list[Receipt]]:
    """Yield the receipts of each round; at a steady rate, the next round goes on while one is looked at."""
    last = options.requests if options.once else None
    if options.rate is not None:
        async with aclosing(order_steadily(shop, options.rate, last)) as orders:
            while True:
                yield await _round(options, screen, orders)
                if options.once:
                    return
    while True:
        async with aclosing(order_in_turn(shop, options.requests)) as orders:
            yield await _round(options, screen, orders)
        if options.once:
            return
        await asyncio.sleep(_ROUND_SECONDS)


async def _round(options: Options, screen: Screen, orders: AsyncIterator[Receipt]) -> list[Receipt]:
    receipts: list[Receipt] = []
    while len(receipts) < options.requests:
        receipts.append(await anext(orders))
        screen.progress(len(receipts), options.requests)
    return receipts


def _most_telling(receipts: list[Receipt], faults: tuple[str, ...]) -> Receipt:
    """Choose the order that is shown: the latest that failed, or was slow, or else the latest.

    Raises:
        DemoError: An order failed although nothing is broken on purpose, or none of them has a trace.
    """
    failed = [receipt for receipt in receipts if receipt.failure]
    if failed and not faults:
        raise DemoError(failed[0].failure)
    traced = [receipt for receipt in receipts if receipt.trace_id]
    if not traced:
        raise DemoError(failed[0].failure)
    bad = [receipt for receipt in traced if receipt.failure]
    slow = [receipt for receipt in traced if receipt.is_slow]
    return (bad or slow or traced)[-1]


@asynccontextmanager
async def _stage(options: Options, screen: Screen) -> AsyncIterator[tuple[Fleet, httpx.AsyncClient]]:
    with tempfile.TemporaryDirectory(prefix="tercet-demo-", ignore_cleanup_errors=True) as directory:
        surroundings = Surroundings(
            Path(directory),
            options.environ,
            options.otlp,
            options.environment,
            detachable=COLLECTOR_AWAY in options.faults,
        )
        client = httpx.AsyncClient(
            trust_env=False, timeout=_REQUEST_SECONDS, limits=httpx.Limits(max_connections=None)
        )
        async with running_fleet(surroundings, screen.tell) as stage, client:
            await stage.fleet.wait_until_ready(client)
            for fault in options.faults:
                await stage.sabotage.switch(fault, on=True)
            yield stage.fleet, client


def _cancel_on_sigterm() -> None:
    task = asyncio.current_task()
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _check_reachable(url: str) -> None:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except OSError as error:  # TimeoutError is one
        reason = f"--otlp must be a collector that answers, got {url!r}: {error!r}. Start it first."
        raise DemoError(reason) from None
    writer.close()
