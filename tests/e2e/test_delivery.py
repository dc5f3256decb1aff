"""Nothing lost, nothing hangs: real processes, and a collector that misbehaves in every way it can."""

import gzip
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from emitter import Emitter, names, once, span_names
from receiver import Listener, Receiver
from service import PATIENCE, SLACK, free_port, serve

from forward_proxy import forwarding

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable)
SHOP = (*RUN, "-m", "uvicorn", "shop:app", "--port", "{port}")
Answer = tuple[int, dict[str, str]]
OK: Answer = (200, {})
CUT: Answer = (0, {})


class Collector(Receiver):
    """A receiver on a port of choice that answers as it is told; it keeps only what it has answered well."""

    def __init__(self, port: int = 0, answer: Callable[[str], Answer] = lambda path: OK) -> None:
        super().__init__()
        self._server.server_close()
        self.answer = answer
        self.asked: Counter[tuple[str, int]] = Counter()
        self._server = Listener(("127.0.0.1", port), _misbehaving(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)


def _misbehaving(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            status, headers = collector.answer(self.path)
            collector.asked[self.path, status] += 1
            self.close_connection = status == 0
            if status == 0:  # in the middle of the request's body
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = self.rfile.read(length)
            if status == 200:
                packed = self.headers["Content-Encoding"] == "gzip"
                collector.take(self.path, gzip.decompress(body) if packed else body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


@contextmanager
def blackhole(port: int = 0) -> Iterator[str]:
    """Accept connections, and never say a word."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def first_few(answer: Answer, count: int) -> Callable[[str], Answer]:
    """Answer so at first, then well."""
    left = iter([answer] * count)
    return lambda _path: next(left, OK)


def test_a_collector_that_comes_later_gets_everything(environment: Environment, apps: Path) -> None:
    """One line when it is away, one when it is there; the requests notice nothing."""
    port = free_port()
    settings = environment(f"http://127.0.0.1:{port}", OTEL_METRICS_EXPORTER="none")
    with serve(SHOP, settings, apps) as service:
        for number in range(20):
            assert service.get(f"/orders/{number}").status_code == 200
        service.stdout.wait_for(lambda lines: sum("Cannot deliver" in line for line in lines) == 2)
        with Collector(port) as collector:
            collector.wait_for(lambda got: len(got.server_spans()) >= 20 and len(got.bodies("shop")) >= 20)
            service.stdout.wait_for(lambda lines: sum("Delivering" in line for line in lines) == 2)
        service.stop()
        own = [line["message"] for line in service.log() if line["logger"] == "tercet.export"]
    assert len(collector.received.server_spans()) == 20
    assert sorted(line.split()[2 if line.startswith("C") else 1] for line in own) == sorted(
        ["traces", "traces", "logs", "logs"]
    )


@pytest.mark.parametrize(
    "answer", [(429, {"Retry-After": "1"}), (503, {"Retry-After": "1"}), (502, {}), CUT], ids=str
)
def test_what_is_not_taken_now_is_taken_later(answer: Answer, emitter: Callable[..., Emitter]) -> None:
    """After the pause that was asked for, each once."""
    wanted = span_names(30)
    with Collector(answer=first_few(answer, 2 if answer is CUT else 1)) as collector:
        process = emitter(collector.endpoint)
        began = time.monotonic()
        process.tell(*wanted)
        collector.wait_for(once(wanted))
        assert time.monotonic() - began >= 0.9
        process.end()
        assert names(collector.received) == wanted


def test_a_redirect_is_a_refusal(emitter: Callable[..., Emitter]) -> None:
    """Followed nowhere, sent no more, and said."""
    with Receiver() as elsewhere:
        moved = (307, {"Location": f"{elsewhere.endpoint}/v1/traces"})
        with Collector(answer=lambda _path: moved) as collector:
            process = emitter(collector.endpoint)
            process.tell("span 0", "flush")
            process.end()
        assert elsewhere.received.spans == []
        assert collector.asked == {("/v1/traces", 307): 1}
    assert any("refused by the collector: HTTP 307" in line for line in process.stderr.so_far())


def test_a_request_that_is_too_large_is_halved(emitter: Callable[..., Emitter]) -> None:
    """Until it fits."""
    with Collector(answer=first_few((413, {}), 3)) as collector:
        process = emitter(collector.endpoint)
        process.tell(*span_names(30), "flush")
        process.end()
        assert names(collector.received) == span_names(30)


def test_requests_never_wait_for_a_silent_collector(environment: Environment, apps: Path) -> None:
    """Nor does the exit, beyond its time."""
    with blackhole() as endpoint:
        settings = environment(endpoint, TERCET_SHUTDOWN_TIMEOUT="1")
        with serve(SHOP, settings, apps) as service:
            for number in range(100):
                began = time.monotonic()
                assert service.get(f"/orders/{number}").status_code == 200
                assert time.monotonic() - began < SLACK
            assert service.stop() < 1 + SLACK


def test_a_script_ends_in_time_at_a_silent_collector(emitter: Callable[..., Emitter]) -> None:
    """Whether the export had begun or not."""
    with blackhole() as endpoint:
        process = emitter(endpoint, TERCET_SHUTDOWN_TIMEOUT="1")
        process.tell(*span_names(30))
        assert process.end() < 1 + SLACK


@pytest.mark.parametrize("away", [nullcontext, blackhole], ids=["gone", "silent"])
def test_what_was_spooled_outlives_a_kill(
    away: Callable[[int], AbstractContextManager[object]],
    environment: Environment,
    apps: Path,
    tmp_path: Path,
) -> None:
    """The next process delivers everything, exactly once; also what a silent collector was just sent."""
    port = free_port()
    settings = environment(
        f"http://127.0.0.1:{port}", OTEL_METRICS_EXPORTER="none", TERCET_SPOOL_DIRECTORY=str(tmp_path)
    )
    with away(port), serve(SHOP, settings, apps) as service:
        trace_ids = [service.get(f"/orders/{n}").headers["x-trace-id"] for n in range(30)]
        _until(lambda: _items_on_disk(tmp_path / "traces") == 30)
        _until(lambda: _items_on_disk(tmp_path / "logs") == len(_exported(service.log())))
        service.process.kill()
        service.process.wait()
    with Collector(port) as collector, serve(SHOP, settings, apps):
        collector.wait_for(
            lambda got: len(got.server_spans()) >= 30 and got.bodies("shop").count("order read") >= 30
        )
        _until(lambda: not any(path.is_file() for path in tmp_path.rglob("*")))
        assert sorted(span.trace_id for span in collector.received.server_spans()) == sorted(trace_ids)
        assert collector.received.bodies("shop") == ["order read"] * 30


def _exported(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what is said of the setup and of the delivery itself."""
    return [line for line in log if line["logger"].startswith(("shop", "uvicorn", "tercet.access"))]


def _items_on_disk(folder: Path) -> int:
    headers = [path.read_bytes()[:12] for path in folder.glob("*.otlp")]
    return sum(int.from_bytes(header[8:], "big") for header in headers)


def _until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Look at a disk, which wakes nobody."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_share_a_spool(emitter: Callable[..., Emitter], tmp_path: Path) -> None:
    """What both have left there arrives once, whoever sends it."""
    port = free_port()
    endpoint, spool = f"http://127.0.0.1:{port}", {"TERCET_SPOOL_DIRECTORY": str(tmp_path)}
    one, other = emitter(endpoint, **spool), emitter(endpoint, **spool)
    one.tell(*span_names(100, "one"), "flush")
    other.tell(*span_names(100, "other"), "flush")
    assert _items_on_disk(tmp_path / "traces") == 200
    wanted = sorted([*span_names(100, "one"), *span_names(100, "other")])
    with Collector(port) as collector:
        collector.wait_for(once(wanted))
        one.end()
        other.end()
        assert names(collector.received) == wanted
    assert list((tmp_path / "traces").iterdir()) == []


def test_children_that_are_forked_during_exports_are_heard(emitter: Callable[..., Emitter]) -> None:
    """Each of them, however it leaves; and what the parent holds is not sent twice."""
    wanted = sorted([*span_names(100, "parent"), *span_names(100, "child")])
    with Collector() as collector:
        process = emitter(collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="10")
        process.tell("fork 100")
        process.end()
        assert Counter(names(collector.received)) == Counter(wanted), process.stderr.so_far()
    assert process.stderr.so_far() == []


def test_a_collector_beyond_a_proxy_is_reached(emitter: Callable[..., Emitter]) -> None:
    """By its own name, which only the proxy knows; and who needs a password says so, and does not say it."""
    wanted, far = span_names(20), "http://collector.example:4318"
    with Collector() as collector, forwarding(urlsplit(collector.endpoint).port or 0) as proxy:
        proxy.refusal = 407
        process = emitter(far, http_proxy=f"http://user:hunter2@127.0.0.1:{proxy.port}", no_proxy="localhost")
        process.tell(*wanted)
        process.stderr.wait_for(lambda lines: any("HTTP 407" in line for line in lines))
        proxy.refusal = 0
        collector.wait_for(once(wanted))
        process.end()
        assert names(collector.received) == wanted
        assert {*proxy.asked} == {f"POST {far}/v1/traces HTTP/1.1"}
    assert "hunter2" not in "".join(process.stderr.so_far())
