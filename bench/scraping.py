"""What a scrape of ten thousand lines takes by tercet and upstream's exporter, and whom it holds up, as JSON.

Both are scraped in turns, with the same counters and histograms. Upstream's are the SDK's; tercet's are
declared ones, and the SDK's as well, as other libraries bring them. Meanwhile an event loop turns: for each
scrape, the longest of its turns is taken, as a request would have waited; and for the machine's own part, the
longest without one.
"""

import asyncio
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from prometheus_client import REGISTRY, generate_latest

from tercet.declare.metric import DURATION_BUCKETS, Metric
from tercet.emit.registry import build_ledger
from tercet.export.metered import LeanMeterProvider
from tercet.export.prometheus import PrometheusReader
from tercet.export.scrape import respond

LINES = 10_000
TURNS = 7
IDLE_SECONDS = 0.05
_LINES_A_HISTOGRAM = len(DURATION_BUCKETS) + 3
_COUNTERS = 5
_TURN_SECONDS = 0.001
_KEYS = ("http.route", "http.request.method", "http.response.status_code")

Scrape = Callable[[], object]


def routes(lines: int) -> Iterator[tuple[str, str, int]]:
    """Make attribute values for so many lines: half of them of counters, half of histograms."""
    return ((f"/orders/{number}/items", "GET", 200) for number in range(lines))


def build_declared() -> Scrape:
    """Count in declared metrics."""
    reader, provider = _provided()
    meter = provider.get_meter("bench")
    for number in range(_COUNTERS):
        counter = meter.take(build_ledger(Metric(f"orders{number}", "counter", "", "Orders.", _KEYS)))
        for values in routes(LINES // 2 // _COUNTERS):
            counter.add(1, values, INVALID_SPAN_CONTEXT)
    waited = meter.take(build_ledger(Metric("waited", "histogram", "s", "Wait.", _KEYS, DURATION_BUCKETS)))
    for values in routes(LINES // 2 // _LINES_A_HISTOGRAM):
        waited.record(0.3, values, INVALID_SPAN_CONTEXT)
    return lambda: respond(reader, "GET", "", "")


def build_ours() -> Scrape:
    """Count in the SDK's instruments, for tercet's reader."""
    reader, provider = _provided()
    _count(provider)
    return lambda: respond(reader, "GET", "", "")


def build_theirs() -> Scrape:
    """Count in the SDK's instruments, for upstream's reader."""
    _count(MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False))
    return lambda: generate_latest(REGISTRY)


def _provided() -> tuple[PrometheusReader, Any]:
    reader = PrometheusReader()
    return reader, LeanMeterProvider([reader], Resource({}), TraceBasedExemplarFilter(), [])


def _count(provider: MeterProvider) -> None:
    meter = provider.get_meter("bench")
    for number in range(_COUNTERS):
        counter = meter.create_counter(f"orders{number}", description="Orders.")
        for values in routes(LINES // 2 // _COUNTERS):
            counter.add(1, dict(zip(_KEYS, values, strict=True)))
    buckets = list(DURATION_BUCKETS)
    waited = meter.create_histogram("waited", "s", "Wait.", explicit_bucket_boundaries_advisory=buckets)
    for values in routes(LINES // 2 // _LINES_A_HISTOGRAM):
        waited.record(0.3, dict(zip(_KEYS, values, strict=True)))


class Loop:
    """An event loop that turns in a thread of its own, and knows the longest of its turns."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._is_over = False

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Turn meanwhile."""
        thread = threading.Thread(target=lambda: asyncio.run(self._turn()))
        thread.start()
        try:
            yield
        finally:
            self._is_over = True
            thread.join()

    async def _turn(self) -> None:
        while not self._is_over:
            began = time.perf_counter()
            await asyncio.sleep(_TURN_SECONDS)
            self.longest = max(self.longest, time.perf_counter() - began - _TURN_SECONDS)


def compare(scrapes: Sequence[Scrape]) -> dict[str, Any]:
    """Do nothing and scrape in turns; return the seconds of each, and the longest that a loop waited."""
    loop = Loop()
    took: list[list[float]] = [[] for _ in scrapes]
    waited: list[list[float]] = [[] for _ in scrapes]
    with loop.turning():
        for _ in range(1 + TURNS):
            for scrape, seconds, longest in zip(scrapes, took, waited, strict=True):
                loop.longest = 0.0
                began = time.perf_counter()
                scrape()
                seconds.append(time.perf_counter() - began)
                longest.append(loop.longest)
    _, declared, ours, theirs = (seconds[1:] for seconds in took)
    return {
        "declared": declared,
        "ours": ours,
        "theirs": theirs,
        "ratio": [mine / their for mine, their in zip(declared, theirs, strict=True)],
        "sdk_ratio": [mine / their for mine, their in zip(ours, theirs, strict=True)],
        "idle": waited[0][1:],
        "held_up": waited[1][1:],
        "held_up_by_theirs": waited[3][1:],
    }


if __name__ == "__main__":
    idle = functools.partial(time.sleep, IDLE_SECONDS)
    print(json.dumps(compare([idle, build_declared(), build_ours(), build_theirs()])))
