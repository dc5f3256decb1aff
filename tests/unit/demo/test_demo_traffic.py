"""Customers: how many at a time or a second, and what they count."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from tercet.declare.document import load_catalog
from tercet.declare.settings import Settings
from tercet.demo.catalog import GATEWAY
from tercet.demo.ports import DemoError
from tercet.demo.run import _most_telling
from tercet.demo.traffic import SLOW_SECONDS, Receipt, Shop, order_in_turn, order_steadily

OBJECTIVES = Path(__file__).parents[3] / "configs" / "objectives.yaml"


def _accepted(number: int) -> httpx.Response:
    return httpx.Response(201, headers={"X-Trace-ID": f"t{number}", "X-Correlation-ID": f"c{number}"})


def _shop(*answers: httpx.Response) -> Shop:
    given = iter(answers)
    return Shop(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(given))), "http://g")


async def _all(orders: AsyncIterator[Receipt]) -> list[Receipt]:
    return [receipt async for receipt in orders]


@pytest.mark.parametrize("order", [order_in_turn, lambda shop, count: order_steadily(shop, 1000, count)])
def test_each_order_has_a_receipt(order):
    """As many receipts as orders, each with the ids of its answer."""
    shop = _shop(*map(_accepted, range(9)))

    receipts = asyncio.run(_all(order(shop, 9)))

    assert {receipt.trace_id: receipt.correlation_id for receipt in receipts} == {
        f"t{number}": f"c{number}" for number in range(9)
    }
    assert shop.orders == {"sent": 9, "good": 9, "bad": 0, "slow": 0, "pending": 0}


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (httpx.Response(500), "order 1 was not accepted: 500 Internal Server Error."),
        (httpx.Response(302, headers={"location": "/"}), "order 1 was not accepted: 302 Found."),
        (httpx.Response(201), "order 1 came back without 'X-Trace-ID'."),
    ],
)
def test_only_an_accepted_order_with_its_ids_is_good(refusal, reason):
    """Anything else is counted as bad, and says why."""
    shop = _shop(refusal)

    receipt = asyncio.run(shop.order())

    assert receipt.failure == reason
    assert shop.orders == {"sent": 1, "good": 0, "bad": 1, "slow": 0, "pending": 0}


def test_an_order_that_nobody_answers_is_bad():
    """And has no trace to look at."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    shop = Shop(httpx.AsyncClient(transport=httpx.MockTransport(refuse)), "http://g")
    receipt = asyncio.run(shop.order())

    assert (receipt.trace_id, receipt.failure) == (
        "",
        "order 1 was not answered: ConnectError('refused').",
    )
    assert shop.orders["bad"] == 1


class SlowLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is ahead by a second whenever somebody looks."""

    def time(self) -> float:
        self._looks = getattr(self, "_looks", 0) + 1
        return super().time() + self._looks


def test_an_order_may_be_both_bad_and_slow():
    """As it counts in both objectives of the gateway."""
    shop = _shop(httpx.Response(500), _accepted(2))
    with asyncio.Runner(loop_factory=SlowLoop) as runner:
        runner.run(shop.order())
        runner.run(shop.order())

    assert shop.orders == {"sent": 2, "good": 0, "bad": 1, "slow": 2, "pending": 0}


def test_what_is_slow_is_what_the_gateway_promises():
    """So that the count can be compared with its budget."""
    (latency,) = [
        objective
        for objective in load_catalog(OBJECTIVES, Settings()).objectives
        if (objective.service.name, objective.name) == (GATEWAY, "latency")
    ]

    assert latency.indicator.threshold == Decimal(str(SLOW_SECONDS))


def test_a_steady_rate_does_not_wait_for_answers():
    """Orders that hang are joined by others, and whoever stops leaves none behind."""
    hanging: list[httpx.Request] = []

    async def hang(request: httpx.Request) -> httpx.Response:
        hanging.append(request)
        enough.set() if len(hanging) == 50 else None
        await asyncio.Event().wait()
        return httpx.Response(500)

    async def order() -> Shop:
        shop = Shop(httpx.AsyncClient(transport=httpx.MockTransport(hang)), "http://g")
        async with aclosing(order_steadily(shop, 1000)) as orders:
            waiting = asyncio.ensure_future(anext(orders))
            await enough.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        return shop

    enough = asyncio.Event()
    shop = asyncio.run(order())

    assert (shop.orders["sent"] >= 50, shop.orders["pending"]) == (True, 0)


GOOD, SLOW, BAD, LOST = (
    Receipt("good", "c"),
    Receipt("slow", "c", seconds=3),
    Receipt("bad", "c", failure="refused"),
    Receipt("", "", failure="lost"),
)


@pytest.mark.parametrize(
    ("receipts", "shown"),
    [
        ([SLOW, GOOD], SLOW),
        ([BAD, SLOW, GOOD], BAD),
        ([GOOD], GOOD),
        ([BAD, LOST], BAD),
        ([GOOD, LOST], GOOD),
    ],
)
def test_the_order_that_is_shown_tells_of_the_fault(receipts, shown):
    """One that failed before one that was slow, and either before one that knows nothing."""
    assert _most_telling(receipts, ("payment-slow",)) is shown


@pytest.mark.parametrize(("receipts", "faults"), [([GOOD, BAD], ()), ([LOST], ("payment-failing",))])
def test_what_nobody_broke_must_work(receipts, faults):
    """And what is broken must leave a trace."""
    with pytest.raises(DemoError, match=r"refused|lost"):
        _most_telling(receipts, faults)
