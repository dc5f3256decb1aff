"""Use what can be measured: a pool of each kind, a lock, a queue, operations, and each kind of metric.

What it declares is there for `tercet generate --module measured`; started, it runs until it is stopped.
"""

import queue
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
from sqlalchemy import create_engine, exc, text

import tercet.demo.services  # noqa: F401 - what the services beside this one declare
from tercet import (
    Gauge,
    Histogram,
    ObservedLock,
    Summary,
    UpDownCounter,
    observe_queue,
    observed,
    setup_observability,
)

temperature = Gauge("room.temperature", "Warmth of the room.", unit="Cel", attributes=("room",))
present = UpDownCounter("people.present", "People in the building.", unit="{person}")
basket = Histogram("basket.value", "What a basket costs.", unit="EUR", buckets=(1, 10, 100))
rendering = Summary("render.time", "Time to render a page.", unit="s", quantiles=(0.5, 0.99))
lock = ObservedLock("stock")
letters: "queue.Queue[str]" = queue.Queue(maxsize=10)


@observed("pack")
def pack(*, fails: bool) -> None:
    time.sleep(0.001)
    if fails:
        raise ValueError("nothing to pack")


def step(engine, threads: ThreadPoolExecutor, client: httpx.Client, peer: str) -> None:
    """Use everything once, with somebody who waits for it."""
    temperature.set(21, room="hall")
    present.add(1)
    basket.record(25)
    rendering.record(0.01)
    pack(fails=False)
    with suppress(ValueError):
        pack(fails=True)
    with suppress(queue.Full):
        letters.put_nowait("hello")

    def hold() -> None:
        with lock, suppress(exc.TimeoutError), engine.connect() as connection:
            connection.execute(text("SELECT 1"))
            time.sleep(0.05)

    list(threads.map(lambda _: hold(), range(3)))
    with engine.connect(), suppress(exc.TimeoutError):
        engine.connect().close()  # the only one is taken
    list(threads.map(lambda _: ask(client, peer), range(3)))


def ask(client: httpx.Client, peer: str) -> None:
    """Ask the peer; a request that waits may close the connection of the one before it (httpcore 1.0)."""
    with suppress(httpx.TransportError):
        client.get(peer)


def main(otlp: str, peer: str) -> None:
    setup_observability(
        "measured", service_version="2.0", environment="demo", otlp_endpoint=otlp, log_format="off"
    )
    observe_queue("letters", letters)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as threads:
        engine = create_engine(
            f"sqlite:///{Path(folder) / 'stock.db'}", pool_size=1, max_overflow=0, pool_timeout=0.2
        )
        with httpx.Client(limits=httpx.Limits(max_connections=1), trust_env=False) as client:
            while not threading.Event().wait(0.05):
                step(engine, threads, client, peer)


if __name__ == "__main__":
    main(*sys.argv[1:])
