"""What a type checker says of code that uses tercet: right use passes, wrong use does not."""

import sys

from mypy import api

_RIGHT = """
from collections.abc import AsyncIterator, Iterator
from tercet import Counter, Gauge, Histogram, Objective, Summary, UpDownCounter, observed, traced

orders = Counter("orders", "Orders.", attributes=("status",), ready={"status": ["paid"]}, limit=10)
orders.add(1, status="paid")
orders.add(status="paid")
orders.bind(status="paid").add(2.5)
Gauge("pool", "Pool.", observe=lambda: 5).set(1)
Gauge("pools", "Pools.", attributes=("pool",), observe=lambda: [({"pool": "main"}, 5)]).bind(pool="a").set(1)
UpDownCounter("jobs", "Jobs.", attributes=["queue"]).add(-1, **{"queue": "mail"})
Histogram("wait", "Wait.", unit="s", buckets=(0.1, 1)).bind().record(0.5)
Summary("size", "Size.", quantiles=(0.5,), window=60).record(3)

@observed
def add(a: int, b: int) -> int:
    return a + b

@observed("later", kind="mail", size=3, is_big=True)
async def later(text: str) -> AsyncIterator[str]:
    yield text

total: int = add(1, 2)

Objective("paid", kind="availability", target="99.9%", metric=orders, bad={"status": ["failed"]})
fast = Objective("fast", kind="latency", target=0.99, below="300ms", forgive="x", severity={"1h": "off"},
    symptoms=[{"above": "2s", "for": "5m", "severity": "SEV-2"}], where={"http.route": "/orders"},
    runbook={"impact": "All.", "causes": ["One."], "actions": ["Look."]}, minimum_events=3, period="30d",
    counted="calls")
fast.good()
fast.bad(2)
"""
_WRONG = """
from tercet import Counter, Gauge, Objective, observed

orders = Counter("orders", "Orders.")
orders.set(1)
orders.add("one")
Counter("orders")
Counter("orders", "Orders.", buckets=(1, 2))
Gauge("pool", "Pool.", ready=[{}])

observed("add", kind=object())

@observed("add", kind="sum")
def add(a: int) -> int:
    return a

add("one")
Objective("fast", kind="latency")
Objective("fast", kind="speed", target=0.99)
Objective("fast", kind="latency", target=0.99, metric=3)
Objective("fast", kind="availability", target=0.99, counted="calls").good("one")
"""


# Of ours, no setting: those of users are not ours either.
_OPTIONS = ("--strict", "--config-file=", "--no-error-summary", "--python-executable", sys.executable)


def errors(code: str) -> set[int]:
    """Check code, and return the lines with errors."""
    told, wrong, _ = api.run([*_OPTIONS, "-c", code])
    assert not wrong
    return {int(line.split(":")[1]) for line in told.splitlines() if ": error:" in line}


def test_right_use_passes() -> None:
    """Under the strictest rules."""
    assert errors(_RIGHT) == set()


def test_wrong_use_is_found_where_it_is() -> None:
    """An argument of another kind, a number that is none, a decorated function called wrongly."""
    assert errors(_WRONG) == {5, 6, 7, 8, 9, 11, 17, 18, 19, 20, 21}
