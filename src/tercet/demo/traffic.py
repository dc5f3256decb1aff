"""Customers: orders sent to the gateway, a few at a time."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from tercet.demo.fleet import DemoError

_CUSTOMERS = 4


@dataclass(frozen=True, slots=True)
class Receipt:
    """The ids that an answer came back with."""

    trace_id: str
    correlation_id: str


async def place_orders(client: httpx.AsyncClient, url: str, count: int) -> AsyncIterator[Receipt]:
    """Place `count` orders at the gateway and yield each receipt as it comes back.

    Raises:
        DemoError: An order was not accepted, or came back without its ids.
    """
    waiting: set[asyncio.Task[Receipt]] = set()
    try:
        for number in range(count):
            if len(waiting) == _CUSTOMERS:
                yield await _first(waiting)
            waiting.add(asyncio.create_task(_place_order(client, url, number)))
        while waiting:
            yield await _first(waiting)
    finally:
        await _abandon(waiting)


async def _first(waiting: set[asyncio.Task[Receipt]]) -> Receipt:
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    task = done.pop()
    waiting.discard(task)
    return task.result()


async def _abandon(waiting: set[asyncio.Task[Receipt]]) -> None:
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def _place_order(client: httpx.AsyncClient, url: str, number: int) -> Receipt:
    order = {"user_id": f"usr_{123 + number % 10}", "amount": 150.0}
    try:
        response = await client.post(f"{url}/orders", json=order)
        response.raise_for_status()
        return Receipt(response.headers["X-Trace-ID"], response.headers["X-Correlation-ID"])
    except httpx.HTTPError as error:
        raise DemoError(f"order {number + 1} was not accepted: {error!r}.") from error
    except KeyError as error:
        raise DemoError(f"order {number + 1} came back without {error}.") from error
