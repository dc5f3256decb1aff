"""What the receiver knows of an order, and whether that is all there is to know."""

import asyncio
from typing import Any, TypedDict, final

import httpx

from tercet.console.answers import LogLine, Node, Red, Span, Trace
from tercet.demo.catalog import DATABASE, PORTS
from tercet.demo.fleet import DemoError
from tercet.demo.traffic import Receipt

_ARRIVAL_SECONDS = 10.0
_POLL_SECONDS = 0.05


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
    logs: list[LogLine]
    requests_sent: int


async def collect(client: httpx.AsyncClient, url: str, receipt: Receipt, requests_sent: int) -> Evidence:
    """Ask the receiver until it knows everything about an order and has counted every request.

    Raises:
        DemoError: Something did not arrive in time; the message names it.
    """
    lacking = "everything"
    try:
        async with asyncio.timeout(_ARRIVAL_SECONDS):
            while True:
                trace, red, logs = await _ask(client, url, receipt)
                lacking = missing(trace, red, logs, requests_sent)
                if trace and not lacking:
                    return _evidence(trace, red, logs, requests_sent)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        seconds = f"{_ARRIVAL_SECONDS:g} seconds"
        raise DemoError(f"telemetry must arrive within {seconds}, but this is missing: {lacking}.") from None


def missing(trace: Trace | None, red: list[Red], logs: list[LogLine], requests_sent: int) -> str:
    """Name what has not arrived yet; empty when all has."""
    return _missing_spans(trace) or _missing_counts(red, requests_sent) or _missing_logs(logs)


def _missing_spans(trace: Trace | None) -> str:
    if trace is None:
        return "the trace"
    seen = {span["service"] for span in trace["spans"] if span["kind"] == "server"}
    seen |= {DATABASE for span in trace["spans"] if span["name"] == DATABASE}
    if absent := {*PORTS, DATABASE} - seen:
        return f"spans of {', '.join(sorted(absent))}"
    return "" if len(trace["roots"]) == 1 else "spans between the services"


def _missing_counts(red: list[Red], requests_sent: int) -> str:
    counts = dict.fromkeys(PORTS, 0) | {row["service"]: row["requests"] for row in red}
    wrong = [f"{name} counted {count}" for name, count in counts.items() if count != requests_sent]
    return f"{requests_sent} requests, but {', '.join(wrong)}" if wrong else ""


def _missing_logs(logs: list[LogLine]) -> str:
    # A request's last line: where it has arrived, so have those before it.
    finished = {line["service"] for line in logs if line["message"] == "request_completed"}
    absent = PORTS.keys() - finished
    return f"log lines of {', '.join(sorted(absent))}" if absent else ""


async def _ask(
    client: httpx.AsyncClient, url: str, receipt: Receipt
) -> tuple[Trace | None, list[Red], list[LogLine]]:
    trace, red, logs = await asyncio.gather(
        _get(client, f"{url}/api/traces/{receipt.trace_id}"),
        _get(client, f"{url}/api/red"),
        _get(client, f"{url}/api/logs", correlation_id=receipt.correlation_id),
    )
    return trace, red, logs


async def _get(client: httpx.AsyncClient, url: str, **parameters: str) -> Any:
    """Return an answer, or None for what the receiver does not know."""
    try:
        response = await client.get(url, params=parameters)
        return None if response.status_code == httpx.codes.NOT_FOUND else response.raise_for_status().json()
    except httpx.HTTPError as error:
        raise DemoError(f"the receiver did not answer: {error!r}.") from error


def _evidence(trace: Trace, red: list[Red], logs: list[LogLine], requests_sent: int) -> Evidence:
    order = OrderTrace(
        trace_id=trace["trace_id"],
        correlation_id=trace["correlation_id"],
        duration_ms=trace["duration_ms"],
        spans=trace["spans"],
        tree=trace["roots"][0],
    )
    return Evidence(trace=order, red=red, logs=logs, requests_sent=requests_sent)
