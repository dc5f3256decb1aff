"""One variant in its own process: serve requests in process, and print what one costs as JSON.

CPU time is that of the whole process, exporter threads and the last flush included, so that nothing is left
out by being late.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.service import Load, build_app, route, setup_lines
from bench.setups import dress, flush
from bench.worker import answer, forget, megabytes, silence, take_stdout

HEADERS = [
    (b"host", b"localhost:8000"),
    (b"user-agent", b"bench/1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip"),
    (b"connection", b"keep-alive"),
]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-%s"


@dataclass(frozen=True)
class Run:
    """What one process is to do.

    Attributes:
        requests: How many are measured, without a pause: the loop holds the interpreter, and exporters
            have to make do with what it leaves them, until what is still waiting is sent at the end.
        flags: Of the traceparent that comes with each request; no such header when empty.
        load: What a request does.
        whole: Of how many requests this is one turn, of which each line on stdin asks for one more; none
            where it is all there is. A turn bears its share of what it takes to send the metrics.
    """

    requests: int
    flags: str = "01"
    load: Load = field(default_factory=Load)
    whole: int = 0

    def text(self) -> str:
        """Write it as an argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> "Run":
        """Read what `text` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "load": Load(**fields["load"])})


class Driver:
    """A server without a network, and its one client."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._app = build_app(run.load)
        dress(self._app)
        self._headers = [
            *HEADERS,
            *([(b"traceparent", (TRACEPARENT % run.flags).encode())] if run.flags else []),
        ]
        self.statuses: list[int] = []

    async def serve(self, requests: int) -> None:
        """Serve so many requests."""
        app, receive, send = self._app, _receive, _send
        for number in range(1, requests + 1):
            await app(self._scope(number), receive, send)

    async def try_out(self, requests: int) -> None:
        """Serve requests, and check what is answered."""

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        for number in range(1, requests + 1):
            await self._app(self._scope(number), _receive, send)

    def _scope(self, number: int) -> dict[str, Any]:
        path = route(number % self._run.load.routes, str(number))
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
            "headers": self._headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_message: MutableMapping[str, Any]) -> None:
    pass


def warm_up(driver: Driver, requests: int) -> None:
    """Serve some requests, and insist on what makes variants comparable: an answer and a line for each.

    Raises:
        SystemExit: The variant does other work than the rest.
    """
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), sys.stdout.fileno())
        asyncio.run(driver.try_out(requests))
        sys.stdout.flush()
        lines.seek(0)
        written = [json.loads(line) for line in lines]
    silence()
    wrong = [line for line in written if line.get("message") != "order_read" or not line.get("order_id")]
    if len(written) != requests or wrong:
        raise SystemExit(f"{requests} requests must write as many lines, got {len(written)}: {wrong[:1]}")
    if driver.statuses != [200] * requests:
        raise SystemExit(f"each request must be answered with 200, got {set(driver.statuses)}")


def measured(driver: Driver, run: Run) -> float:
    """Serve what a run asks for, send all of it, and return the microseconds that a request has taken."""
    started = time.process_time()
    asyncio.run(driver.serve(run.requests))
    flush(also_metrics=False)
    served = time.process_time()
    flush(also_metrics=True)
    sent = time.process_time()
    share = run.requests / (run.whole or run.requests)
    return (served - started + share * (sent - served)) / run.requests * 1e6


def main(run: Run) -> None:
    """Measure, and print."""
    out = take_stdout()
    if os.environ.get("BENCH_FORMATS_ITSELF"):
        setup_lines()
    driver = Driver(run)
    warm_up(driver, 500)
    flush(also_metrics=True)
    for _ in sys.stdin if run.whole else (None,):
        forget()
        answer(out, {"microseconds": measured(driver, run), "megabytes": megabytes()})


if __name__ == "__main__":
    main(Run.of(sys.argv[1]))
