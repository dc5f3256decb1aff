"""What the receiver knows of an order, and whether that is all there is to know."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, final

import httpx

from tercet.console.answers import LogLine, Node, Red, Span, Trace, Use
from tercet.demo.catalog import DATABASE, PORTS
from tercet.demo.ports import DemoError
from tercet.demo.traffic import Orders, Receipt

_ARRIVAL_SECONDS = 10.0
_POLL_SECONDS = 0.05
#: The last lines of a request, by how it ended.
_LAST_LINES = ("request_completed", "request_failed")


@dataclass(frozen=True, slots=True)
class Question:
    """What there must be evidence of.

    Attributes:
        receipt: Of the order that is shown.
        orders: How many there were, and what became of them; it may grow meanwhile.
        faults: What is broken on purpose.
        unreached: Services that no order comes to.
    """

    receipt: Receipt
    orders: Orders
    faults: Collection[str] = ()
    unreached: Collection[str] = ()

    @property
    def reached(self) -> list[str]:
        """Services that every order comes to."""
        return [name for name in PORTS if name not in self.unreached]


class OrderTrace(TypedDict):
    """The trace of one order."""

    trace_id: str
    correlation_id: str | None
    duration_ms: float
    spans: list[Span]
    tree: Node


@final
class Evidence(TypedDict):
    """One order as the three signals tell it."""

    trace: OrderTrace
    red: list[Red]
    use: list[Use]
    logs: list[LogLine]
    requests_sent: int
    orders: Orders
    faults: list[str]


class Findings(NamedTuple):
    """What the receiver knows at one moment."""

    trace: Trace | None
    red: list[Red]
    use: list[Use]
    logs: list[LogLine]


async def collect(client: httpx.AsyncClient, url: str, question: Question) -> Evidence:
    """Ask the receiver until it knows everything about an order and has counted every request.

    Raises:
        DemoError: Something did not arrive in time; the message names it.
    """
    lacking = "everything"
    try:
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            while True:
                found = await _ask(client, url, question.receipt)
                lacking = missing(found, question)
                if found.trace and not lacking:
                    return _evidence(found.trace, found, question)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        seconds = f"{_ARRIVAL_SECONDS:g} seconds"
        raise DemoError(f"telemetry must arrive within {seconds}, but this is missing: {lacking}.") from None


def missing(found: Findings, question: Question) -> str:
    """Name what has not arrived yet; empty when all has."""
    return (
        _missing_spans(found.trace, question.reached)
        or _missing_counts(found.red, question)
        or _missing_logs(found.logs, question.reached)
    )


def _missing_spans(trace: Trace | None, reached: list[str]) -> str:
    if trace is None:
        return "the trace"
    seen = {span["service"] for span in trace["spans"] if span["kind"] == "server"}
    seen |= {DATABASE for span in trace["spans"] if span["name"] == DATABASE}
    if absent := {*reached, DATABASE} - seen:
        return f"spans of {', '.join(sorted(absent))}"
    return "" if len(trace["roots"]) == 1 else "spans between the services"


def _missing_counts(red: list[Red], question: Question) -> str:
    sent, pending = question.orders["sent"], question.orders["pending"]
    counts = dict.fromkeys(question.reached, 0) | {
        row["service"]: row["requests"] for row in red if row["service"] in question.reached
    }
    wrong = [
        f"{name} counted {count}" for name, count in counts.items() if not sent - pending <= count <= sent
    ]
    return f"{sent} requests, but {', '.join(wrong)}" if wrong else ""


def _missing_logs(logs: list[LogLine], reached: list[str]) -> str:
    # A request's last line: where it has arrived, so have those before it.
    finished = {line["service"] for line in logs if line["message"] in _LAST_LINES}
    absent = {*reached} - finished
    return f"log lines of {', '.join(sorted(absent))}" if absent else ""


async def _ask(client: httpx.AsyncClient, url: str, receipt: Receipt) -> Findings:
    return Findings(
        *await asyncio.gather(
            _get(client, f"{url}/api/traces/{receipt.trace_id}"),
            _get(client, f"{url}/api/red"),
            _get(client, f"{url}/api/use"),
            _get(client, f"{url}/api/logs", correlation_id=receipt.correlation_id),
        )
    )


async def _get(client: httpx.AsyncClient, url: str, **parameters: str) -> Any:
    """Return an answer, or None for what the receiver does not know."""
    try:
        response = await client.get(url, params=parameters)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.raise_for_status().json()
    except httpx.HTTPError as error:
        raise DemoError(f"the receiver did not answer: {error!r}.") from error


def _evidence(trace: Trace, found: Findings, question: Question) -> Evidence:
    order = OrderTrace(
        trace_id=trace["trace_id"],
        correlation_id=trace["correlation_id"],
        duration_ms=trace["duration_ms"],
        spans=trace["spans"],
        tree=trace["roots"][0],
    )
    return Evidence(
        trace=order,
        red=found.red,
        use=found.use,
        logs=found.logs,
        requests_sent=question.orders["sent"],
        orders=question.orders.copy(),
        faults=list(question.faults),
    )
