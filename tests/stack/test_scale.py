"""configs/scale for real: an agent and two gateways, each on an address of its own behind one name."""

import os
import shutil
import subprocess
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from backend import CONFIGS, eventually
from grpc_receiver import GrpcReceiver
from receiver import Receiver
from service import LOOPBACK, free_port, started

ADDRESSES = ["127.0.0.2", "127.0.0.3"]
SERVICES = ["gateway", "orders", "payments"]
AGENT = [CONFIGS / "scale" / "agent.yaml"]
GATEWAY = [CONFIGS / "collector.yaml", CONFIGS / "scale" / "gateway.yaml"]


# In a mount of its own, where a name has the addresses that a file says.
WITH_NAMES = [
    "unshare",
    "--map-root-user",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$0" /etc/hosts && exec "$@"',
]


@pytest.fixture
def names(tmp_path):
    """The gateways' name, as a file that can be written while the agent looks it up."""
    path = tmp_path / "hosts"
    path.write_text("".join(f"{address} gateway\n" for address in ADDRESSES))
    trial = [*WITH_NAMES, str(path), "true"]
    if not shutil.which("unshare") or subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("no mount of its own can be had here, in which to give a name two addresses")
    return path


@contextmanager
def running(find, files, settings, within=()):
    """Run a Collector with some of its files, until it is left or killed."""
    command = [*within, find("otelcol"), *(f"--config={path}" for path in files)]
    ports = {f"COLLECTOR_{name}_PORT": str(free_port()) for name in ("GRPC", "HTTP", "HEALTH", "METRICS")}
    environ = {"PATH": os.environ["PATH"], **ports, **settings}
    with started(command, environ, CONFIGS) as service:
        service.stderr.wait_for(lambda lines: any("Everything is ready." in line for line in lines))
        yield environ


class Gateway:
    """A gateway, and those that it sends to."""

    def __init__(self, find, settings, traces, rest):
        self._settings = settings | {
            "JAEGER_OTLP_ENDPOINT": traces.endpoint.removeprefix("http://"),
            "PROMETHEUS_OTLP_ENDPOINT": rest.endpoint,
            "LOGS_OTLP_ENDPOINT": rest.endpoint,
        }
        self._find = find
        self._life = ExitStack()
        self._traces = traces
        self.rest = rest

    def start(self):
        self._life.enter_context(running(self._find, GATEWAY, self._settings))

    def kill(self):
        self._life.close()

    def kept(self):
        """From each trace that it has kept to the services whose spans it has."""
        kept = {}
        for span in list(self._traces.received.spans):
            kept.setdefault(span.trace_id, set()).add(span.resource["service.name"])
        return kept

    def counted(self):
        """From each service to the number of its spans."""
        calls = [point for point in list(self.rest.received.series.values()) if point.name.endswith(".calls")]
        return {
            service: sum(each.value for each in calls if each.attributes["service.name"] == service)
            for service in {point.attributes["service.name"] for point in calls}
        }


class Installation:
    """An agent and its gateways."""

    def __init__(self, agent, gateways):
        self._agent = f"http://{LOOPBACK}:{agent['COLLECTOR_HTTP_PORT']}"
        self.gateways = gateways

    def post(self, signal, body):
        httpx.post(f"{self._agent}/v1/{signal}", json=body).raise_for_status()

    def send(self, first, *, failed=()):
        """Send 60 traces, of each service the spans on their own, as processes do; return the traces' ids."""
        ids = [f"{first + number:032x}" for number in range(60)]
        now = time.time_ns()
        for number, service in enumerate(SERVICES):
            spans = [span(trace_id, number, now, failed=service in failed) for trace_id in ids]
            self.post(
                "traces", {"resourceSpans": [{"resource": of(service), "scopeSpans": [{"spans": spans}]}]}
            )
        return set(ids)

    def kept(self):
        """List what was kept, by trace and by gateway."""
        return [(trace, services) for gateway in self.gateways for trace, services in gateway.kept().items()]

    def wait_for_whole(self, traces):
        """Wait until each of these traces, and no other, is whole on one gateway and nowhere else."""
        whole = sorted((trace, sorted(SERVICES)) for trace in traces)
        eventually(lambda: sorted((trace, sorted(services)) for trace, services in self.kept()), whole.__eq__)


def of(service):
    return {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}


def span(trace_id, number, now, *, failed):
    return {
        "traceId": trace_id,
        "spanId": f"{number + 1:016x}",
        "parentSpanId": f"{number:016x}" if number else "",
        "name": "work",
        "kind": 2,
        "startTimeUnixNano": str(now - 10_000_000),
        "endTimeUnixNano": str(now),
        "status": {"code": 2} if failed else {},
    }


@pytest.fixture
def installation(request, find, folder, names):
    """An agent and two gateways, which keep what failed and nothing else; more settings as its parameter."""
    traces, services = str(free_port()), str(free_port())
    with ExitStack() as life:
        gateways = []
        for address in ADDRESSES:
            settings = {
                "COLLECTOR_HOST": address,
                "COLLECTOR_GRPC_PORT": traces,
                "COLLECTOR_SERVICES_PORT": services,
                "COLLECTOR_STORAGE": str(folder("gateway")),
                "COLLECTOR_DECISION_WAIT": "2s",
                "COLLECTOR_METRICS_INTERVAL": "200ms",
                "COLLECTOR_TRACES_PERCENT": "0",
                **getattr(request, "param", {}),
            }
            there = [life.enter_context(receiver) for receiver in (GrpcReceiver(), Receiver())]
            gateways.append(Gateway(find, settings, *there))
            life.callback(gateways[-1].kill)
            gateways[-1].start()
        settings = {
            "GATEWAY_TRACES_PORT": traces,
            "GATEWAY_SERVICES_PORT": services,
            "COLLECTOR_STORAGE": str(folder("agent")),
        }
        agent = life.enter_context(running(find, AGENT, settings, [*WITH_NAMES, str(names)]))
        yield Installation(agent, gateways)


def judged(*command, **settings):
    """Ask a program what it says of its files, and have it say nothing against them."""
    environ = os.environ | settings
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("files", [AGENT, GATEWAY], ids=["agent", "gateway"])
def test_the_collector_takes_the_files_as_they_stand(find, files):
    """With the defaults of a bare machine."""
    judged(find("otelcol"), "validate", *(f"--config={path}" for path in files))


@pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-global.yaml"])
def test_prometheus_takes_the_files_as_they_stand(find, name, tmp_path):
    """Where the container has them, beside the rules and the targets of the other one."""
    for each in ("generated", "targets"):
        (tmp_path / each).symlink_to(CONFIGS / each)
    (tmp_path / name).symlink_to(CONFIGS / "scale" / name)
    judged(find("promtool"), "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / name))


def test_what_failed_is_kept_and_each_trace_is_whole_on_one_gateway(installation):
    """Although its spans come one service after the other, and only one of them failed; the rest goes."""
    installation.send(1000)
    failed = installation.send(2000, failed=SERVICES[:1])

    installation.wait_for_whole(failed)
    assert all(gateway.kept() for gateway in installation.gateways)


def test_each_span_is_counted_once_on_the_gateway_of_its_service(installation):
    """Also those that are not kept."""
    installation.send(1000)
    installation.send(2000, failed=SERVICES)

    counted = eventually(
        lambda: [item for gateway in installation.gateways for item in gateway.counted().items()],
        lambda items: sum(count for _, count in items) >= 120 * len(SERVICES),
    )
    assert sorted(counted) == sorted((service, 120) for service in SERVICES)


@pytest.mark.parametrize("installation", [{"COLLECTOR_NUM_TRACES": "10"}], indirect=True, ids=["10"])
def test_a_gateway_that_is_full_forgets_nothing(installation):
    """What comes waits with the agent until there is room."""
    installation.wait_for_whole(installation.send(1000, failed=SERVICES))


def test_a_gateway_that_is_killed_costs_no_trace_that_it_had_not_taken(installation):
    """The other goes on; what this one did not take waits with the agent, and is whole when it is back."""
    _, second = installation.gateways
    before = installation.send(1000, failed=SERVICES)
    installation.wait_for_whole(before)

    second.kill()
    after = installation.send(2000, failed=SERVICES)
    first, _ = installation.gateways
    eventually(lambda: first.kept().keys() & after, bool)
    second.start()

    installation.wait_for_whole(before | after)


def test_what_a_gateway_did_not_take_goes_to_who_is_there(installation, names):
    """Once its address is gone from the name, as that of a pod is."""
    first, second = installation.gateways
    second.kill()
    traces = installation.send(1000, failed=SERVICES)
    eventually(lambda: first.kept().keys() & traces, bool)

    names.write_text(f"{ADDRESSES[0]} gateway\n")
    installation.wait_for_whole(traces)


def test_the_edge_drops_and_aggregates_and_no_count_is_lost(installation):
    """What nobody reads does not arrive; two points that differ in the method are one, of both together."""
    metrics = [
        {"name": "process.memory.virtual", "gauge": {"dataPoints": [{"asInt": 1}]}},
        {"name": "http.client.request.duration", "histogram": by_method({"GET": 3, "POST": 4})},
        {"name": "orders", "sum": {**CUMULATIVE, "isMonotonic": True, "dataPoints": [{"asInt": 3}]}},
    ]
    scope = {"resource": of("orders"), "scopeMetrics": [{"metrics": metrics}]}
    installation.post("metrics", {"resourceMetrics": [scope]})

    def arrived():
        series = [
            point for each in installation.gateways for point in list(each.rest.received.series.values())
        ]
        return sorted((point.name, point.attributes, point.count) for point in series)

    eventually(
        arrived, [("http.client.request.duration", {"server.address": "bank"}, 7), ("orders", {}, 1)].__eq__
    )


CUMULATIVE = {"aggregationTemporality": 2}


def by_method(counts):
    """Write a histogram of requests to one host, by method."""
    now = str(time.time_ns())
    points = [
        {
            "attributes": [
                {"key": "server.address", "value": {"stringValue": "bank"}},
                {"key": "http.request.method", "value": {"stringValue": method}},
            ],
            "timeUnixNano": now,
            "count": count,
            "sum": count / 10,
            "bucketCounts": [count, 0],
            "explicitBounds": [1],
        }
        for method, count in counts.items()
    ]
    return {**CUMULATIVE, "dataPoints": points}
