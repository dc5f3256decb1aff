"""What a step through a metric costs: declared with tercet, bound, and made with the SDK, as JSON.

All take their steps in turns, with the same attributes and one reader each.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tercet.emit.declared import Counter, Histogram
from tercet.emit.registry import Registry
from tercet.export.metered import LeanMeterProvider

KINDS = ("counter", "histogram")
_KEYS = ("status", "payment_method")
_STEPS, _TURNS = 10_000, 9

Step = Callable[[], None]


def steps() -> dict[str, dict[str, Step]]:
    """Make one step of each kind: by the SDK, unbound and bound."""
    theirs = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    registry = Registry()
    ours = LeanMeterProvider([InMemoryMetricReader()], Resource({}), TraceBasedExemplarFilter(), [])
    registry.bind(ours.get_meter("bench"), raises=False)
    counter, histogram = theirs.create_counter("orders"), theirs.create_histogram("waits")
    orders = Counter("orders", "Orders.", attributes=_KEYS, registry=registry)
    waits = Histogram("waits", "Waits.", unit="s", attributes=_KEYS, registry=registry)
    paid, waited = (each.bind(status="paid", payment_method="card") for each in (orders, waits))
    return {
        "counter": {
            "sdk": lambda: counter.add(1, {"status": "paid", "payment_method": "card"}),
            "unbound": lambda: orders.add(1, status="paid", payment_method="card"),
            "bound": lambda: paid.add(1),
        },
        "histogram": {
            "sdk": lambda: histogram.record(0.3, {"status": "paid", "payment_method": "card"}),
            "unbound": lambda: waits.record(0.3, status="paid", payment_method="card"),
            "bound": lambda: waited.record(0.3),
        },
    }


def measure(ways: dict[str, Step]) -> dict[str, float]:
    """Return microseconds a step, the best of some turns, by who takes it."""
    turns = [{way: _microseconds(step) for way, step in ways.items()} for _ in range(1 + _TURNS)]
    return {way: min(turn[way] for turn in turns) for way in ways}


def _microseconds(step: Step) -> float:
    began = time.thread_time()
    for _ in range(_STEPS):
        step()
    return (time.thread_time() - began) / _STEPS * 1e6


def main() -> None:
    """Measure, and print."""
    found: dict[str, Any] = {kind: measure(ways) for kind, ways in steps().items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
