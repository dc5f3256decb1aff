"""configs/destinations: what the real Collector says of each, and what arrives there."""

import os
import re
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from backend import CONFIGS, running_collector
from receiver import Listener, Receiver
from service import LOOPBACK, PATIENCE, free_port

DESTINATIONS = sorted((CONFIGS / "destinations").glob("*.yaml"), key=lambda path: path.stem)
#: Exporters that could not be built; the contrib image has them.
NOT_BUILT = {"datadog", "elasticsearch"}
BUILT = [path for path in DESTINATIONS if path.stem not in NOT_BUILT]
#: One for each signal, of one service.
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def nanoseconds(ago=0.0):
    return str(int((time.time() - ago) * 1e9))


def a_span():
    span = {
        "traceId": TRACE_ID,
        "spanId": "00f067aa0ba902b7",
        "name": "GET /orders",
        "kind": 2,
        "startTimeUnixNano": nanoseconds(0.01),
        "endTimeUnixNano": nanoseconds(),
    }
    return {"resourceSpans": [{"resource": RESOURCE, "scopeSpans": [{"spans": [span]}]}]}


def a_point():
    point = {"asDouble": 7, "startTimeUnixNano": nanoseconds(1), "timeUnixNano": nanoseconds()}
    metric = {
        "name": "orders",
        "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]},
    }
    return {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"metrics": [metric]}]}]}


def a_record():
    record = {"timeUnixNano": nanoseconds(), "body": {"stringValue": "order_placed"}, "traceId": TRACE_ID}
    return {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": [record]}]}]}


class Anything:
    """A destination that takes what it is sent, and remembers where to."""

    def __init__(self):
        anything = self
        self.paths = set()
        self._changed = threading.Condition()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with anything._changed:
                    anything.paths.add(self.path.partition("?")[0])
                    anything._changed.notify_all()
                self.send_response(204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        self._server = Listener((LOOPBACK, 0), Handler)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def wait_for(self, paths):
        with self._changed:
            assert self._changed.wait_for(lambda: paths <= self.paths, PATIENCE), self.paths

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def validate(find, paths, settings):
    """Ask the Collector whether it could start with some of them; return what it complains of."""
    options = [f"--config={path}" for path in [CONFIGS / "collector.yaml", *paths]]
    asked = {
        name for path in paths for name in re.findall(r"\{env:([A-Z_]+)\}", Path(path).read_text("utf-8"))
    }
    told = {name: "https://example.com" if name.endswith("_URL") else "told" for name in asked}
    done = subprocess.run(
        [find("otelcol-destinations"), "validate", *options],
        env=os.environ | told | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("path", DESTINATIONS, ids=lambda path: path.stem)
def test_the_collector_takes_a_destination(find, path, tmp_path):
    """Beside its own file."""
    if path.stem in NOT_BUILT:
        pytest.skip(f"the exporter of {path.name} is in the contrib image only")
    assert validate(find, [path], {"COLLECTOR_STORAGE": str(tmp_path)}) == ""


def test_the_collector_takes_all_of_them_at_once(find, tmp_path):
    """None stands in another's way."""
    assert validate(find, BUILT, {"COLLECTOR_STORAGE": str(tmp_path)}) == ""


def test_each_destination_gets_what_the_stack_gets(find, folder):
    """A span, a point and a record, each to all that take it, and the stack's own lose nothing by it."""
    chosen = ("zipkin", "splunk", "influxdb", "remote-write", "statsd")
    options = [f"--config={CONFIGS / 'destinations' / name}.yaml" for name in chosen]
    statsd = free_port()
    with Anything() as there, Receiver() as own:
        settings = {
            "JAEGER_OTLP_ENDPOINT": f"{LOOPBACK}:{free_port()}",  # nobody's: it waits
            "PROMETHEUS_OTLP_ENDPOINT": own.endpoint,
            "LOGS_OTLP_ENDPOINT": own.endpoint,
            "COLLECTOR_DECISION_WAIT": "1s",
            "ZIPKIN_ENDPOINT": f"{there.url}/api/v2/spans",
            "SPLUNK_HEC_URL": f"{there.url}/services/collector",
            "SPLUNK_HEC_TOKEN": "secret",
            "INFLUXDB_URL": there.url,
            "INFLUXDB_ORG": "shop",
            "INFLUXDB_TOKEN": "secret",
            "REMOTE_WRITE_URL": f"{there.url}/api/v1/push",
            "STATSD_PORT": str(statsd),
            "STATSD_INTERVAL": "1s",
        }
        with running_collector(
            lambda _: find("otelcol-destinations"), folder("destinations"), settings, *options
        ) as collector:
            for signal, body in (("traces", a_span()), ("metrics", a_point()), ("logs", a_record())):
                httpx.post(f"{collector.http}/v1/{signal}", json=body).raise_for_status()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                for _ in range(3):
                    client.sendto(b"legacy.orders:2|c", (LOOPBACK, statsd))

            there.wait_for({"/api/v2/spans", "/services/collector", "/api/v2/write", "/api/v1/push"})
            own.wait_for(lambda received: received.records)
            own.wait_for(lambda received: {7} == {point.value for point in received.points("orders")})
            own.wait_for(lambda received: {6} == {point.value for point in received.points("legacy.orders")})
