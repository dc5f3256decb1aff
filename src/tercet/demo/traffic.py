"""Customers: orders sent to the gateway, a few at a time or at a steady rate, and what became of them."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TypedDict

import httpx

_CUSTOMERS = 4
#: An order that takes longer is slow: what configs/objectives.yaml promises of the gateway.
SLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Receipt:
    """What came back for one order.

    Attributes:
        trace_id: Empty where nothing came back.
        correlation_id: Likewise.
        seconds: How long it took.
        failure: Why it was not accepted; empty where it was.
    """

    trace_id: str
    correlation_id: str
    seconds: float = 0.0
    failure: str = ""

    @property
    def is_slow(self) -> bool:
        """Whether it took longer than is promised."""
        return self.seconds > SLOW_SECONDS


class Orders(TypedDict):
    """How many orders were sent, and what became of them.

    `good` were accepted in time, `bad` were not accepted, `slow` took longer than is promised, accepted or
    not: so one order may be both bad and slow. `pending` have not come back yet.
    """

    sent: int
    good: int
    bad: int
    slow: int
    pending: int


class Shop:
    """The gateway as customers know it; counts what they send there, and what comes back.

    Args:
        client: Places the orders.
        url: Where the gateway is.
    """

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = f"{url}/orders"
        self.orders = Orders(sent=0, good=0, bad=0, slow=0, pending=0)

    async def order(self) -> Receipt:
        """Place one order, count it, and return what came back."""
        number = self.orders["sent"]
        self.orders["sent"] += 1
        self.orders["pending"] += 1
        try:
            receipt = await self._place(number)
        finally:
            self.orders["pending"] -= 1
        self.orders["bad"] += bool(receipt.failure)
        self.orders["slow"] += receipt.is_slow
        self.orders["good"] += not receipt.failure and not receipt.is_slow
        return receipt

    async def _place(self, number: int) -> Receipt:
        order = {"user_id": f"usr_{123 + number % 10}", "amount": 150.0}
        clock = asyncio.get_running_loop().time
        begin = clock()
        try:
            response = await self._client.post(self._url, json=order)
        except httpx.HTTPError as error:
            return Receipt("", "", clock() - begin, f"order {number + 1} was not answered: {error!r}.")
        ids = [response.headers.get(name, "") for name in ("X-Trace-ID", "X-Correlation-ID")]
        return Receipt(ids[0], ids[1], clock() - begin, _failure(number, response))


async def order_in_turn(shop: Shop, count: int) -> AsyncGenerator[Receipt]:
    """Place `count` orders, a few at a time, and yield each receipt as it comes back."""
    waiting: set[asyncio.Task[Receipt]] = set()
    try:
        for _ in range(count):
            if len(waiting) == _CUSTOMERS:
                yield await _first(waiting)
            waiting.add(asyncio.create_task(shop.order()))
        while waiting:
            yield await _first(waiting)
    finally:
        await _abandon(waiting)


async def order_steadily(shop: Shop, rate: float, count: int | None = None) -> AsyncGenerator[Receipt]:
    """Place `rate` orders a second, however long each takes, and yield each receipt as it comes back.

    Whoever asks for receipts late finds them waiting: orders go on meanwhile.

    Args:
        shop: Where to order.
        rate: Orders a second.
        count: After how many to stop; None for never.
    """
    receipts: asyncio.Queue[Receipt] = asyncio.Queue()
    customers = asyncio.create_task(_send_steadily(shop, rate, count, receipts))
    try:
        for _ in itertools.count() if count is None else range(count):
            yield await receipts.get()
    finally:
        await _abandon({customers})


async def _send_steadily(
    shop: Shop, rate: float, count: int | None, receipts: "asyncio.Queue[Receipt]"
) -> None:
    async def order() -> None:
        receipts.put_nowait(await shop.order())

    clock = asyncio.get_running_loop().time
    begin = clock()
    async with asyncio.TaskGroup() as customers:
        for number in itertools.count() if count is None else range(count):
            # By the clock, not by pauses: what was late once is not late for ever.
            await asyncio.sleep(begin + number / rate - clock())
            customers.create_task(order())


async def _first(waiting: set[asyncio.Task[Receipt]]) -> Receipt:
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    task = done.pop()
    waiting.discard(task)
    return task.result()


async def _abandon(waiting: "set[asyncio.Task[Receipt]] | set[asyncio.Task[None]]") -> None:
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def _failure(number: int, response: httpx.Response) -> str:
    if not response.is_success:
        return f"order {number + 1} was not accepted: {response.status_code} {response.reason_phrase}."
    missing = [name for name in ("X-Trace-ID", "X-Correlation-ID") if name not in response.headers]
    return f"order {number + 1} came back without {missing[0]!r}." if missing else ""
