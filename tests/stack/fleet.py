"""The demo's five services as tests run them, each a process that can be stopped, and their customers."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from emitter import Emitter
from service import LOOPBACK, PATIENCE, Service, free_port, started

from tercet.demo.catalog import GATEWAY, PORTS

#: Starts a script of apps/ that does what it is told.
Start = Callable[[str, dict[str, str]], Emitter]

APPS = Path(__file__).parent / "apps"
DEMO = (sys.executable, "-m", "tercet.demo")
_OURS = ("OTEL_", "TERCET_")
# How often a service sends while a test looks on.
_HASTE = {
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_BLRP_SCHEDULE_DELAY": "50",
    "OTEL_METRIC_EXPORT_INTERVAL": "250",
}


def environment(**settings: str) -> dict[str, str]:
    """Make the environment of a process: this one's, without settings of ours, and those given."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_OURS)} | settings


def service_environment(name: str, otlp: str, **settings: str) -> dict[str, str]:
    """Make the environment of a service that sends in haste."""
    named = {"OTEL_SERVICE_NAME": name, "OTEL_EXPORTER_OTLP_ENDPOINT": otlp}
    return environment(**_HASTE, **named, **settings)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a customer is told of an order."""

    status: int
    trace_id: str
    correlation_id: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """The running services by name."""

    services: Mapping[str, Service]

    def order(self, client: httpx.Client) -> Receipt:
        """Place an order, and wait for what comes of it."""
        answer = client.post(
            self.services[GATEWAY].url + "/orders", json={"user_id": "usr_123", "amount": 150.0}
        )
        return Receipt(answer.status_code, answer.headers["X-Trace-ID"], answer.headers["X-Correlation-ID"])

    def orders(self, count: int) -> list[Receipt]:
        """Place orders one after the other, as one customer does."""
        # A connection is not kept: after an error, the server ends it.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(timeout=PATIENCE, trust_env=False, limits=limits) as client:
            return [self.order(client) for _ in range(count)]


@contextmanager
def running_fleet(otlp: str, folder: Path, **settings: str) -> Iterator[Fleet]:
    """Start the services, and hand them over when all of them accept connections."""
    ports = {name: free_port() for name in PORTS}
    peers = [f"--peer={name}=http://{LOOPBACK}:{port}" for name, port in ports.items()]
    options = ["--port={port}", f"--otlp={otlp}", f"--database={folder / 'orders.db'}", *peers]
    with ExitStack() as running:
        services = {
            name: running.enter_context(
                started([*DEMO, name, *options], environment(**settings), folder, port)
            )
            for name, port in ports.items()
        }
        for service in services.values():
            service.wait_until_it_accepts()
        yield Fleet(services)
