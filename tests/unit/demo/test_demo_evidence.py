"""When all the telemetry of an order is there, and what is said when it is not."""

import asyncio

import httpx
import pytest
from order_evidence import TRACE_ID, log, logs, red, trace

from tercet.demo import evidence as room
from tercet.demo.evidence import collect, missing
from tercet.demo.fleet import DemoError
from tercet.demo.traffic import Receipt, place_orders

RECEIPT = Receipt(TRACE_ID, "c1")


def _without(name: str):
    whole = trace()
    whole["spans"] = [span for span in whole["spans"] if span["service"] != name and span["name"] != name]
    return whole


def _torn():
    whole = trace()
    whole["roots"] += whole["roots"][0]["children"][1:2]
    return whole


@pytest.mark.parametrize(
    ("found", "counts", "lines", "lacking"),
    [
        (trace(), red(), logs(), ""),
        (None, red(), logs(), "the trace"),
        (_without("notification"), red(), logs(), "spans of notification"),
        (_without("database"), red(), logs(), "spans of database"),
        (_torn(), red(), logs(), "spans between the services"),
        (trace(), red(21)[:1] + red()[1:], logs(), "20 requests, but gateway counted 21"),
        (trace(), red()[:-1], logs(), "20 requests, but notification counted 0"),
        (trace(), red(), logs()[1:], "log lines of gateway"),
        (
            trace(),
            red(),
            [log("gateway", "other"), *logs()[1:]],
            "log lines of gateway",
        ),
    ],
)
def test_what_is_missing_is_named(found, counts, lines, lacking):
    """Nothing is shown before every span, count and line is there."""
    assert missing(found, counts, lines, 20) == lacking


def _client(*answers: httpx.Response | None) -> httpx.AsyncClient:
    """A receiver that answers what it is asked, except for the first traces, which are as given."""
    early = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        documents = {f"/api/traces/{TRACE_ID}": trace(), "/api/red": red(), "/api/logs": logs()}
        found = next(early, None) if "traces" in request.url.path else None
        return found or httpx.Response(200, json=documents[request.url.path])

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def test_the_receiver_is_asked_until_all_is_there():
    """A trace that is not there yet is asked for again."""
    found = asyncio.run(collect(_client(httpx.Response(404)), "http://r", RECEIPT, 20))

    assert (found["trace"]["trace_id"], found["trace"]["tree"]["service"]) == (TRACE_ID, "gateway")
    assert [len(found["red"]), len(found["logs"]), found["requests_sent"]] == [5, 5, 20]


def test_waiting_has_an_end(monkeypatch):
    """After the deadline the message names what did not arrive."""
    monkeypatch.setattr(room, "_ARRIVAL_SECONDS", 0.1)

    with pytest.raises(
        DemoError, match=r"within 0\.1 seconds, .* missing: 7 requests, but gateway counted 20"
    ):
        asyncio.run(collect(_client(), "http://r", RECEIPT, 7))


def test_a_receiver_in_trouble_is_named():
    """An error of the receiver is not waited for."""
    with pytest.raises(DemoError, match=r"the receiver did not answer"):
        asyncio.run(collect(_client(httpx.Response(500)), "http://r", RECEIPT, 20))


def _gateway(*answers: httpx.Response) -> httpx.AsyncClient:
    given = iter(answers)
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: next(given)))


async def _receipts(client: httpx.AsyncClient, count: int) -> list[Receipt]:
    return [receipt async for receipt in place_orders(client, "http://g", count)]


def _accepted(number: int) -> httpx.Response:
    return httpx.Response(201, headers={"X-Trace-ID": f"t{number}", "X-Correlation-ID": f"c{number}"})


def test_each_order_has_a_receipt():
    """As many receipts as orders, each with the ids of its answer."""
    receipts = asyncio.run(_receipts(_gateway(*map(_accepted, range(9))), 9))

    ids = {receipt.trace_id: receipt.correlation_id for receipt in receipts}
    assert ids == {f"t{number}": f"c{number}" for number in range(9)}


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (httpx.Response(500), r"was not accepted: .*500"),
        (httpx.Response(302, headers={"location": "/"}), r"was not accepted: .*302"),
        (httpx.Response(201), "came back without 'x-trace-id'"),
    ],
)
def test_an_order_that_fails_ends_the_traffic(refusal, reason):
    """Only 2xx with both ids is an order placed."""
    answers = [_accepted(0), refusal, *[_accepted(0)] * 8]

    with pytest.raises(DemoError, match=f"(?i){reason}"):
        asyncio.run(_receipts(_gateway(*answers), 10))
