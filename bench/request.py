"""One variant in its own process: serve requests in process, and print what they cost as JSON.

CPU time is that of the whole process, exporter threads and the last flush included, so that nothing is left
out by being late.
"""

import asyncio
import json
import logging
import os
import resource
import sys
import time
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI

HEADERS = [
    (b"host", b"localhost:8000"),
    (b"user-agent", b"bench/1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"connection", b"keep-alive"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
app = FastAPI()
log = logging.getLogger("orders")


class JsonFormatter(logging.Formatter):
    """The line that a service writes which formats its own: the same work for every variant."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        return json.dumps(fields | {"order_id": getattr(record, "order_id", None)})


@app.get("/orders/{order_id}")
async def read_order(order_id: int) -> dict[str, int]:
    log.info("order_read", extra={"order_id": order_id})
    return {"order_id": order_id}


def scope(number: int) -> dict[str, Any]:
    path = f"/orders/{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }


async def receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_message: MutableMapping[str, Any]) -> None:
    pass


async def serve(requests: int) -> None:
    for number in range(requests):
        await app(scope(number), receive, send)
        if number % 50 == 0:
            await asyncio.sleep(0)  # a server lets go of the loop, and so do its threads of the interpreter


def flush() -> None:
    """Send what is waiting, in whichever way the variant has."""
    from opentelemetry import _logs, metrics, trace

    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        if hasattr(provider, "force_flush"):
            provider.force_flush()


def main(requests: int) -> None:
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # lines are written, and read by nobody
    if os.environ.get("BENCH_FORMATS_ITSELF"):
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(JsonFormatter())
        logging.basicConfig(level=logging.INFO, handlers=[handler])
    asyncio.run(serve(requests // 10))
    flush()
    started = time.process_time()
    asyncio.run(serve(requests))
    flush()
    microseconds = (time.process_time() - started) / requests * 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump({"microseconds": microseconds, "megabytes": memory}, out)
    out.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
