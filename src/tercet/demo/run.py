"""The demo on one page: start everything, place orders, show what the telemetry says."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, final
from urllib.parse import urlsplit

import httpx

from tercet.demo.catalog import GATEWAY, RECEIVER
from tercet.demo.evidence import Evidence, collect
from tercet.demo.fleet import DemoError, Fleet, Tell, running_fleet
from tercet.demo.traffic import Receipt, place_orders

_ROUND_SECONDS = 3.0
_REQUEST_SECONDS = 15.0


@final
class Sent(TypedDict):
    """What there is to say when the telemetry went to an outside collector."""

    trace_id: str
    requests_sent: int


@dataclass(frozen=True, slots=True)
class Options:
    """How to run the demo.

    Attributes:
        requests: Orders in a round.
        once: Whether to stop after one round.
        otlp: The base URL of an outside collector; None starts the receiver.
        environ: The environment that the services start from.
    """

    requests: int
    once: bool
    otlp: str | None
    environ: Mapping[str, str]


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
    requests_sent = 0
    while True:
        receipt = await _round(options, screen, fleet.url(GATEWAY), client)
        requests_sent += options.requests
        if options.otlp:
            screen.show(Sent(trace_id=receipt.trace_id, requests_sent=requests_sent))
        else:
            screen.show(await collect(client, fleet.url(RECEIVER), receipt, requests_sent))
        if options.once:
            return
        await asyncio.sleep(_ROUND_SECONDS)


async def _round(options: Options, screen: Screen, url: str, client: httpx.AsyncClient) -> Receipt:
    receipts: list[Receipt] = []
    async for receipt in place_orders(client, url, options.requests):
        receipts.append(receipt)
        screen.progress(len(receipts), options.requests)
    return receipts[-1]


@asynccontextmanager
async def _stage(options: Options, screen: Screen) -> AsyncIterator[tuple[Fleet, httpx.AsyncClient]]:
    with tempfile.TemporaryDirectory(prefix="tercet-demo-", ignore_cleanup_errors=True) as directory:
        async with (
            running_fleet(Path(directory), options.environ, options.otlp, screen.tell) as fleet,
            httpx.AsyncClient(trust_env=False, timeout=_REQUEST_SECONDS) as client,
        ):
            await fleet.wait_until_ready(client)
            yield fleet, client


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
