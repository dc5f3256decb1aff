"""The service that every variant serves: one route, one JSON reply, one JSON log line with one extra."""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import FastAPI

log = logging.getLogger("orders")


@dataclass(frozen=True)
class Load:
    """How much a request does beyond the one log line.

    Attributes:
        attributes: Set on the current span.
        routes: That the service has; requests visit them in turn.
        series: Of a counter that requests count in, in turn.
    """

    attributes: int = 0
    routes: int = 1
    series: int = 0


class JsonFormatter(logging.Formatter):
    """The line of a service that formats its own: the same work for every variant that brings no format."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        return json.dumps(fields | {"order_id": getattr(record, "order_id", None)})


def setup_lines() -> None:
    """Write each record as a line of JSON on stdout."""
    import sys

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def build_app(load: Load) -> FastAPI:
    """Make the service."""
    app = FastAPI()
    read = _read_order if load == Load(routes=load.routes) else _busy_reader(load)
    for number in range(load.routes):
        app.get(route(number, "{order_id}"))(read)
    return app


def route(number: int, order: str) -> str:
    """Name the path of an order on one of the routes."""
    return f"/shops/{number}/orders/{order}" if number else f"/orders/{order}"


async def _read_order(order_id: int) -> dict[str, int]:
    log.info("order_read", extra={"order_id": order_id})
    return {"order_id": order_id}


def _busy_reader(load: Load) -> Callable[[int], Awaitable[dict[str, int]]]:
    from opentelemetry import metrics, trace

    orders = metrics.get_meter("bench").create_counter("orders.read")
    names = [f"order.line.{number}" for number in range(load.attributes)]

    async def read_order(order_id: int) -> dict[str, int]:
        trace.get_current_span().set_attributes(dict.fromkeys(names, f"line {order_id}"))
        if load.series:
            orders.add(1, {"shop": order_id % load.series})
        return await _read_order(order_id)

    return read_order
