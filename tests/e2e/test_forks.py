"""A fork at any moment: no child hangs, none is silent, and none counts what its parent has counted."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from receiver import Received, Receiver
from service import PATIENCE, started

Environment = Callable[..., dict[str, str]]
FORKS = 1_000


def children(received: Received) -> dict[str, Counter[str]]:
    """Count, by instance id, what the children have said in each signal."""
    own = [point for point in received.points("work") if point.value < 100]
    return {
        "spans": Counter(
            each.resource["service.instance.id"] for each in received.spans if each.name == "child"
        ),
        "records": Counter(
            each.resource["service.instance.id"] for each in received.records if each.body == "child"
        ),
        "counts": Counter({each.resource["service.instance.id"]: int(each.value) for each in own}),
        "measurements": Counter(
            {
                each.resource["service.instance.id"]: each.count
                for each in received.points("seconds")
                if each.attributes["who"] == "child"
            }
        ),
    }


def test_a_thousand_forks_are_a_thousand_children(
    either_receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """While threads measure, trace, log, collect and export; each child in all signals, once, as itself."""
    settings = environment(
        either_receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL=either_receiver.protocol,
        OTEL_METRIC_EXPORT_INTERVAL="50",
        OTEL_RESOURCE_ATTRIBUTES="service.instance.id=blue",
    )
    with started([sys.executable, "forker.py", str(FORKS)], settings, apps) as forker:
        forker.stdout.wait_for(lambda lines: lines, 10 * PATIENCE)
        assert forker.stdout.so_far() == ["hung 0"], forker.said()
        heard = children(either_receiver.received)
        assert [set(each.values()) for each in heard.values()] == [{1}] * 4
        assert {name: len(each) for name, each in heard.items()} == dict.fromkeys(heard, FORKS), forker.said()
        assert len({frozenset(each) for each in heard.values()}) == 1
        assert all(name.startswith("blue-") for name in heard["spans"])
        assert forker.stderr.so_far() == []
