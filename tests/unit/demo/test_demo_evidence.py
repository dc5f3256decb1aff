"""When all the telemetry of an order is there, and what is said when it is not."""

import asyncio

import httpx
import pytest
from order_evidence import TRACE_ID, log, logs, orders, red, trace, use

from tercet.demo import evidence as room
from tercet.demo.evidence import Findings, Question, collect, missing
from tercet.demo.ports import DemoError
from tercet.demo.traffic import Receipt

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
    assert missing(Findings(found, counts, use(), lines), Question(RECEIPT, orders(20))) == lacking


def test_a_service_that_no_order_comes_to_is_not_missed():
    """Nothing is waited for that a fault keeps away."""
    question = Question(RECEIPT, orders(20), ["notification-down"], {"notification"})
    found = Findings(_without("notification"), red()[:-1], use(), logs()[:-1])

    assert missing(found, question) == ""


def test_a_request_that_failed_has_its_last_line_too():
    """It is another one."""
    failed = [log("gateway", "request_failed"), *logs()[1:]]

    assert missing(Findings(trace(), red(), use(), failed), Question(RECEIPT, orders(20))) == ""


@pytest.mark.parametrize(("counted", "lacking"), [(19, ""), (20, ""), (18, "gateway counted 18")])
def test_orders_that_are_on_the_way_may_be_counted_or_not(counted, lacking):
    """At a steady rate, the next round goes on."""
    counts = red(counted)[:1] + red()[1:]

    assert lacking in missing(
        Findings(trace(), counts, use(), logs()), Question(RECEIPT, orders(20, pending=1))
    )


def _client(*answers: httpx.Response | None) -> httpx.AsyncClient:
    """A receiver that answers what it is asked, except for the first traces, which are as given."""
    early = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        documents = {
            f"/api/traces/{TRACE_ID}": trace(),
            "/api/red": red(),
            "/api/use": use(),
            "/api/logs": logs(),
        }
        found = next(early, None) if "traces" in request.url.path else None
        return found or httpx.Response(200, json=documents[request.url.path])

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def test_the_receiver_is_asked_until_all_is_there():
    """A trace that is not there yet is asked for again."""
    found = asyncio.run(collect(_client(httpx.Response(404)), "http://r", Question(RECEIPT, orders(20))))

    assert (found["trace"]["trace_id"], found["trace"]["tree"]["service"]) == (TRACE_ID, "gateway")
    assert [len(found["red"]), len(found["logs"]), found["requests_sent"]] == [5, 5, 20]


def test_waiting_has_an_end(monkeypatch):
    """After the deadline the message names what did not arrive."""
    monkeypatch.setattr(room, "_ARRIVAL_SECONDS", 0.1)

    with pytest.raises(
        DemoError, match=r"within 0\.1 seconds, .* missing: 7 requests, but gateway counted 20"
    ):
        asyncio.run(collect(_client(), "http://r", Question(RECEIPT, orders(7))))


def test_a_receiver_in_trouble_is_named():
    """An error of the receiver is not waited for."""
    with pytest.raises(DemoError, match=r"the receiver did not answer"):
        asyncio.run(collect(_client(httpx.Response(500)), "http://r", Question(RECEIPT, orders(20))))
