"""How `make bench` measures: rounds that turn, what wrk says, and a server that counts all it is given."""

import http.client
from urllib.parse import urlsplit

import pytest
from bench.counter import receiver
from bench.http import parse_wrk
from bench.process import RunError
from bench.request import Run
from bench.rounds import interleave, median, undisturbed
from bench.turns import take_turns
from bench.variants import Environment, Variant

SAID = """
Running 2s test @ http://127.0.0.1:8000/orders/42
  Latency Distribution
     50%    1.50ms
     99%  950.00us
  12345 requests in 2.00s, 1.2MB read
Requests/sec:   6172.50
"""


def test_every_round_starts_with_another_job():
    """So that none is always the one that comes after the same other."""
    order = []
    jobs = {name: lambda name=name: order.append(name) or {"value": 1} for name in "abc"}
    samples = interleave("part", jobs, 3)
    assert "".join(order) == "abcbcacab"
    assert {name: len(found) for name, found in samples.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_job_that_fails_is_left_out_and_stops_no_other(capsys):
    """It is named, and its earlier samples go with it."""

    def fail():
        raise RunError("no such module")

    assert list(interleave("part", {"bad": fail, "good": lambda: {"value": 1}}, 2)) == ["good"]
    assert "bad is left out: no such module" in capsys.readouterr().err


def player(folder, script):
    """A variant whose Python is a script of the shell."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}")
    python.chmod(0o755)
    return Variant("mine", "mine", environment=Environment(folder)), Run(1)


TALKATIVE = """
echo '{"message": "set up"}'
echo and more
turn=0
while read line; do turn=$((turn + 1)); echo "{\\"microseconds\\": $turn}"; done
"""


def test_processes_take_turns(tmp_path):
    """Each measures when it is asked, and only then; what it logs is no figure, nor is its first turn.

    Another round is another process.
    """
    players = {name: player(tmp_path / name, TALKATIVE) for name in "ab"}
    samples = take_turns("part", players, turns=3, rounds=2)
    assert {name: [each["microseconds"] for each in found] for name, found in samples.items()} == {
        "a": [2, 3, 4, 2, 3, 4],
        "b": [2, 3, 4, 2, 3, 4],
    }
    assert [each["seat"] for each in samples["a"]] == [0, 0, 0, 1, 1, 1]
    assert {each["requests"] for each in samples["a"]} == {1}


def test_a_process_that_ends_is_left_out(tmp_path, capsys):
    """As a job that fails, with what it said last."""
    assert take_turns("part", {"a": player(tmp_path, "read line; echo no such module >&2")}, 2, 2) == {}
    assert "a is left out: no such module" in capsys.readouterr().err


def test_turns_that_are_disturbed_do_not_count():
    """Other work in most of them changes no figure, and a process that is slow by luck is one of several."""
    turns = [{"microseconds": cost, "seat": 0} for cost in (60, 90, 60, 99, 60, *[120] * 7)]
    others = [{"microseconds": 64, "seat": 1}] * 12
    assert undisturbed(turns, "microseconds") == 60
    assert undisturbed(turns + others, "microseconds") == 62


def test_of_rounds_without_turns_the_middle_one_counts():
    """Each is a process of its own, and there are few."""
    assert undisturbed([{"microseconds": cost} for cost in (90, 60, 61)], "microseconds") == 61


def test_the_median_is_the_middle_one():
    """One round that was disturbed changes nothing."""
    assert median([{"value": 3}, {"value": 900}, {"value": 1}], "value") == 3


def test_what_wrk_says_is_read_in_milliseconds():
    """Its units change with the figure."""
    assert parse_wrk(SAID) == {"requests": 12345, "per_second": 6172.5, "p99": pytest.approx(0.95)}
    assert parse_wrk(SAID.replace("950.00us", "1.25s"))["p99"] == 1250


@pytest.mark.parametrize("trouble", ["  Non-2xx or 3xx responses: 3", "  Socket errors: connect 0, read 9"])
def test_requests_that_fail_are_no_throughput(trouble):
    """An error page is served fast."""
    with pytest.raises(RunError, match=trouble.strip()):
        parse_wrk(SAID + trouble)


def test_the_counting_server_takes_requests_in_any_framing():
    """With a length or in chunks, many on one connection, and nothing is decoded before it is asked."""
    with receiver() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        agent = {"X-Datadog-Trace-Count": "7"}
        for body in (b"\x90" * 300_000, iter([b"\x90", b"\x90" * 70_000])):
            connection.request("PUT", "/v0.5/traces", body, agent)
            assert connection.getresponse().read() == b"{}"
        connection.request("POST", "/v1/traces", b"")
        assert connection.getresponse().read() == b""
        counts = server.counts()
        connection.request("POST", "/forget")
        assert connection.getresponse().read() == b"{}"
        connection.close()
        assert server.counts()["requests"] == 0
    assert (counts["requests"], counts["traces"], counts["bytes"]) == (3, 14, 370_001)
