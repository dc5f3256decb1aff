"""Headers that a stranger may send, over raw sockets: the request succeeds, they go no further."""

import re
import socket
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from receiver import Received, Receiver
from service import LOOPBACK, PATIENCE, Service, serve

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable, "-m")
SERVERS = {
    "uvicorn with httptools": ("uvicorn", "shop:app", "--port", "{port}", "--http", "httptools"),
    "uvicorn with h11": ("uvicorn", "shop:app", "--port", "{port}", "--http", "h11"),
    "hypercorn": ("hypercorn", "shop:app", "-b", "127.0.0.1:{port}"),
}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01".encode()
OTHER_PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
USABLE = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@~-]{0,127}")


@dataclass(frozen=True)
class Case:
    """Header lines as a stranger writes them; the word `evil` must never come out again.

    Attributes:
        lines: What stands between the request line and the empty line, without the Host.
        replaced: The reason for which the correlation id is replaced; "" when it is not.
        continued: Whether the trace that was sent is still continued.
        refusable: Whether a server may refuse the request itself, before any application sees it.
    """

    lines: bytes
    replaced: str = ""
    continued: bool = False
    refusable: bool = False


def _id(value: bytes, reason: str = "characters", *, refusable: bool = False) -> Case:
    return Case(b"X-Correlation-ID: " + value, reason, refusable=refusable)


def _members(number: int) -> bytes:
    return b",".join(b"evil%d=x%d" % (each, each) for each in range(number))


CASES = {
    "id of 10 kB": _id(b"evil" + b"a" * 10_240, "length"),
    "id of 129 characters": _id(b"evil" + b"a" * 125, "length"),
    "id with a script": _id(b"<script>evil()</script>"),
    "id with quotes and a brace": _id(b'evil", "level": "CRITICAL'),
    "id with an encoded line end": _id(b"evil%0d%0aSet-Cookie:%20a=b"),
    "id with a format": _id(b"evil%s%(message)s{0}${jndi:ldap://evil}"),
    "id in Latin-1": _id(b"evil\xff\xfe"),
    "id in UTF-8": _id("evil\u2028\u202eé".encode()),
    "id with a tabulator": _id(b"evil\tevil"),
    "id with an escape": _id(b"evil\x1b[31m", refusable=True),
    "id with a delete": _id(b"evil\x7f", refusable=True),
    "id with a null": _id(b"evil\x00", refusable=True),
    "id with a bare CR": _id(b"evil\rSet-Cookie: a=b", refusable=True),
    "id with a bare LF": _id(b"evil-\nSet-Cookie: a=b", refusable=True),
    "id folded over two lines": _id(b"evil\r\n Set-Cookie: a=b", refusable=True),
    "id sent twice": Case(b"X-Correlation-ID: evil1\r\nX-Correlation-ID: evil2", "ambiguous"),
    "alias of 10 kB": Case(b"X-Request-ID: evil" + b"a" * 10_240, "length"),
    "alias that cannot be used beside an id that can": Case(
        b"X-Correlation-ID: good\r\nX-Request-ID: <evil>"
    ),
    "traceparent of garbage": Case(b"traceparent: evil"),
    "traceparent of 10 kB": Case(b"traceparent: " + PARENT + b"evil" * 2_560),
    "traceparent in capitals": Case(b"traceparent: " + PARENT.upper()),
    "traceparent of zeros": Case(b"traceparent: 00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"),
    "traceparent of version ff": Case(b"traceparent: ff" + PARENT[2:]),
    "traceparent in Latin-1": Case(b"traceparent: \xff" + PARENT),
    "traceparent sent twice": Case(b"traceparent: " + PARENT + b"\r\ntraceparent: " + OTHER_PARENT),
    "traceparent sent twice alike": Case(b"traceparent: " + PARENT + b"\r\ntraceparent: " + PARENT),
    "tracestate of 1000 members": Case(
        b"traceparent: " + PARENT + b"\r\ntracestate: " + _members(1000), continued=True
    ),
    "tracestate of 200 headers": Case(
        b"\r\n".join([b"traceparent: " + PARENT, *[b"tracestate: evil=\xff"] * 90]), continued=True
    ),
    "tracestate without its parent": Case(b"tracestate: evil=1"),
    "baggage of nonsense": Case(b"baggage: =evil;,,;;=%%%,evil=\xff\xfe"),
    "baggage of 1000 members": Case(b"baggage: " + _members(1000)),
    "baggage sent ninety times": Case(b"\r\n".join([b"baggage: evil=1"] * 90)),
    "user agent in Latin-1": Case(b"User-Agent: \xff\xfe"),
    "forwarded host in brackets": Case(b"X-Forwarded-Host: [evil"),
}


@dataclass(frozen=True)
class Answers:
    """What a server answered to each case, and what it has sent and written."""

    raw: dict[str, bytes]
    received: Received
    stdout: str
    stderr: list[str]

    def headers(self, case: str) -> list[tuple[bytes, bytes]]:
        lines = self.raw[case].partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        pairs = [line.partition(b": ") for line in lines]
        return [(name.lower(), value) for name, _, value in pairs]

    def value(self, case: str, name: bytes) -> bytes:
        """Return the one value of a header that must be there exactly once."""
        (value,) = [value for each, value in self.headers(case) if each == name]
        return value

    def refused(self, case: str) -> bool:
        return CASES[case].refusable and b" 400 " in self.raw[case].partition(b"\r\n")[0]


def _ask(service: Service, number: int, lines: bytes) -> bytes:
    request = b"GET /orders/%d HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n%s\r\n\r\n" % (number, lines)
    with socket.create_connection((LOOPBACK, service.port), timeout=PATIENCE) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.read()


@cache
def _answers(server: str, environment: Environment, apps: Path) -> Answers:
    with Receiver() as receiver:
        with serve([*RUN, *SERVERS[server]], environment(receiver.endpoint), apps) as service:
            raw = {name: _ask(service, n, case.lines) for n, (name, case) in enumerate(CASES.items())}
            answered = sum(b"x-trace-id" in answer for answer in raw.values())
            receiver.wait_for(lambda received: _measured(received) == answered)
            service.stop()
        return Answers(raw, receiver.received, "\n".join(service.stdout.so_far()), service.stderr.so_far())


def _measured(received: Received) -> int:
    return sum(point.count for point in received.points("http.server.request.duration"))


@pytest.fixture(params=SERVERS)
def answers(request: pytest.FixtureRequest, environment: Environment, apps: Path) -> Answers:
    """Each server's answers, shared by the tests that look at them."""
    return _answers(request.param, environment, apps)


@pytest.mark.parametrize("case", CASES)
def test_the_request_succeeds_with_clean_headers(case: str, answers: Answers) -> None:
    """The answer is what it would have been, with usable ids, each once."""
    if answers.refused(case):
        assert b"evil" not in answers.raw[case].replace(b"evil-\n", b"")
        return
    assert answers.raw[case].startswith(b"HTTP/1.1 200"), answers.raw[case]
    assert answers.raw[case].rstrip(b"\r\n0").endswith(b"}")
    assert b"evil" not in answers.raw[case]
    assert b"set-cookie" not in answers.raw[case].lower()
    assert USABLE.fullmatch(answers.value(case, b"x-correlation-id"))
    trace_id = answers.value(case, b"x-trace-id")
    assert re.fullmatch(rb"00-%s-[0-9a-f]{16}-0[13]" % trace_id, answers.value(case, b"traceresponse"))


@pytest.mark.parametrize("case", CASES)
def test_a_trace_is_continued_only_where_the_specification_says_so(case: str, answers: Answers) -> None:
    """A broken or doubled traceparent restarts the trace; a broken tracestate or baggage does not."""
    if answers.refused(case):
        return
    _, trace_id, span_id, _ = answers.value(case, b"traceresponse").decode().split("-")
    (span,) = [span for span in answers.received.server_spans() if span.span_id == span_id]
    assert (trace_id == TRACE_ID, span.parent_id != "") == (CASES[case].continued,) * 2


def test_replaced_ids_are_counted_by_reason(answers: Answers) -> None:
    """`tercet.correlation.replaced` says how many, and why."""
    expected = Counter(case.replaced for name, case in CASES.items() if not answers.refused(name))
    # A parser may take a bare LF for the end of the header: what stands before it is then a usable id.
    del expected[""]
    points = answers.received.points("tercet.correlation.replaced")
    assert {str(point.attributes["reason"]): point.value for point in points} == dict(expected)


def test_what_was_replaced_is_never_written_or_sent(answers: Answers) -> None:
    """No log line and no attribute holds a byte of it, and each line is still one JSON object."""
    assert "evil" not in answers.stdout
    assert "evil" not in str(answers.received)
    assert answers.stderr == []


def test_each_request_that_arrived_is_recorded_once(answers: Answers) -> None:
    """Hostile headers cost no signal."""
    arrived = sum(not answers.refused(case) for case in CASES)
    assert len(answers.received.server_spans()) == _measured(answers.received) == arrived
    assert answers.received.bodies("tercet.access") == ["request_completed"] * arrived
