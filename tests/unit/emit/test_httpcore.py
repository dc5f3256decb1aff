"""The pools that httpx keeps its connections in."""

import asyncio
import os
import socketserver
import threading

import pytest
from measured import collected
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet.declare.usage import HTTP_POOLS
from tercet.emit import httpcore as edge
from tercet.emit.snapshot import Snapshot

CLIENTS = {"httpx": "httpcore", "httpx2": "httpcore2"}


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def observed(reader, monkeypatch):
    meter = MeterProvider([reader]).get_meter("test")
    found = edge.HttpPools(meter)
    Snapshot(meter, HTTP_POOLS, found.readings)
    monkeypatch.setattr(edge, "_installed", found)
    for name in CLIENTS.values():
        edge.attach(pytest.importorskip(name), meter)
    return found


class Server(socketserver.ThreadingTCPServer):
    """Answer each request when told to, and keep the connection."""

    daemon_threads = True

    def __init__(self):
        self.asked, self.answer = threading.Semaphore(0), threading.Event()
        super().__init__(("127.0.0.1", 0), Answering)


class Answering(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            if line == b"\r\n":
                self.server.asked.release()
                self.server.answer.wait(30)
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@pytest.fixture
def server():
    with Server() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.answer.set()
        found.shutdown()
        thread.join()


@pytest.mark.parametrize("library", CLIENTS)
def test_a_pool_tells_its_connections_and_who_waits(library, observed, reader, server):
    """One connection for two requests, of which one gives up."""
    http = pytest.importorskip(library)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    here = ("127.0.0.1", server.server_address[1])
    limits = http.Limits(max_connections=1)
    with http.Client(limits=limits, timeout=http.Timeout(30, pool=0.05)) as client:
        thread = threading.Thread(target=client.get, args=(url,))
        thread.start()
        server.asked.acquire(timeout=30)
        with pytest.raises(http.PoolTimeout):
            client.get(url)
        during = collected(reader)
        server.answer.set()
        thread.join(30)
        after = collected(reader)
    assert during["http.client.open_connections"] == {(*here, "active"): 1}
    assert after["http.client.open_connections"] == {(*here, "idle"): 1}
    assert after["tercet.http.client.connection.timeouts"] == {here: 1}
    assert after["tercet.http.client.connection.wait_time"] == {here: 2}


@pytest.mark.parametrize("library", CLIENTS)
def test_an_asynchronous_pool_does_so_too(library, observed, reader, server):
    """With the request that waits in sight."""
    http = pytest.importorskip(library)
    url = f"http://127.0.0.1:{server.server_address[1]}/"
    here = ("127.0.0.1", server.server_address[1])

    async def serve():
        async with http.AsyncClient(limits=http.Limits(max_connections=1), timeout=30) as client:
            tasks = [asyncio.create_task(client.get(url)) for _ in range(2)]
            async with asyncio.timeout(30):
                while collected(reader).get("tercet.http.client.pending_requests") != {here: 1}:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            server.answer.set()
            await asyncio.gather(*tasks)
            return collected(reader)

    found = asyncio.run(serve())
    assert found["tercet.http.client.connection.wait_time"] == {here: 2}
    assert "tercet.http.client.connection.timeouts" not in found


def test_without_anybody_to_measure_clients_work_as_before(observed, server, monkeypatch):
    """As when telemetry is off."""
    httpx = pytest.importorskip("httpx")
    monkeypatch.setattr(edge, "_installed", None)
    server.answer.set()
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{server.server_address[1]}/").text == "ok"


def test_a_recorder_that_fails_stops_no_request(observed, server):
    """The request goes on."""
    httpx = pytest.importorskip("httpx")

    class Broken:
        def record(self, *_):
            raise RuntimeError

    observed._wait = Broken()
    server.answer.set()
    with httpx.Client() as client:
        assert client.get(f"http://127.0.0.1:{server.server_address[1]}/").text == "ok"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_waited_for_nothing(observed):
    """What its parent waited for is not its own, and what locked it is not there."""
    observed.waited(("a", 1), 0.1, in_vain=True)
    with observed._lock:
        child = os.fork()
        if child == 0:
            observed.waited(("b", 2), 0.1, in_vain=True)
            os._exit(0 if observed._timeouts == {("b", 2): 1} else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pools_are_set_up_once(observed):
    """By whichever library comes first."""
    meter = MeterProvider().get_meter("test")
    edge.setup(meter)
    assert edge.installed() is observed
    edge.install(None)
    edge.setup(meter)
    assert edge.installed() is not observed


def test_there_are_as_many_servers_as_are_of_use(observed, reader):
    """More of them are counted all the same, without a name."""
    for number in range(1000):
        observed.waited((f"host{number}", 1), 0.1, in_vain=True)
    counts = collected(reader)["tercet.http.client.connection.timeouts"]
    assert (len(counts), sum(counts.values()), counts[()]) == (501, 1000, 500)
