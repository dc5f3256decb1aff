"""Metrics and the collector's moods: each point is counted, and the telemetry tells of itself."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from receiver import Received
from service import started
from test_delivery import OK, Answer, Collector

Environment = Callable[..., dict[str, str]]


def outcomes(received: Received) -> dict[str, float]:
    """Say what became of the points, as the process itself tells it."""
    own = [
        point for point in received.points("tercet.export.items") if point.attributes["signal"] == "metrics"
    ]
    return {point.attributes["outcome"]: point.value for point in own}


@pytest.mark.parametrize(
    ("answer", "outcome", "line"),
    [
        ((503, {"Retry-After": "1"}), "unavailable", "Cannot deliver metrics"),
        ((307, {"Location": "http://127.0.0.1:9"}), "refused", "refused by the collector: HTTP 307"),
        ((413, {}), None, None),
        ((0, {}), "unavailable", "Cannot deliver metrics"),
    ],
    ids=str,
)
def test_what_becomes_of_points_is_counted(
    answer: Answer, outcome: str | None, line: str | None, environment: Environment, apps: Path
) -> None:
    """A collection that fails is counted and said; one that is too large is sent in halves."""
    left: list[Any] = [answer, answer] if answer[0] == 0 else [answer]

    def answers(path: str) -> Answer:
        return left.pop() if path == "/v1/metrics" and left else OK

    with Collector(answer=answers) as collector:
        settings = environment(collector.endpoint, PYTHONWARNINGS="error")
        with started([sys.executable, "steady.py"], settings, apps) as steady:
            found = collector.wait_for(lambda got: outcomes(got) if outcomes(got).get("delivered") else None)
            if outcome is not None:
                found = collector.wait_for(lambda got: outcomes(got) if outcome in outcomes(got) else None)
            collector.wait_for(lambda got: got.points("tercet.export.duration"))
            steady.stop(signal.SIGKILL)
        said = steady.stderr.so_far()
    assert found.keys() == {"delivered", outcome} - {None}
    assert [line in each for each in said if "metrics" in each][:1] == ([True] if line else [])
    assert not any("Traceback" in each for each in said)


def test_the_telemetry_tells_of_itself(environment: Environment, apps: Path, tmp_path: Path) -> None:
    """What was made, sent and lost of each signal, what waits where, and how long it takes."""
    with Collector() as collector:
        settings = environment(collector.endpoint, TERCET_SPOOL_DIRECTORY=str(tmp_path))
        with started([sys.executable, "steady.py"], settings, apps):
            own = collector.wait_for(_of_all_signals)
    assert own == {
        "tercet.export.created": {"traces", "metrics", "logs"},
        "tercet.export.items": {"traces", "metrics", "logs"},
        "tercet.export.waiting": {"traces", "metrics", "logs"},
        "tercet.export.duration": {"traces", "metrics", "logs"},
        "tercet.export.spool.size": {"traces", "logs"},
    }


def _of_all_signals(received: Received) -> dict[str, set[str]] | None:
    table: dict[str, set[str]] = {}
    for point in received.series.values():
        if point.name.startswith("tercet.export."):
            table.setdefault(point.name, set()).add(point.attributes["signal"])
    complete = len(table) == 5 and len(table["tercet.export.duration"]) == 3
    return table if complete else None
