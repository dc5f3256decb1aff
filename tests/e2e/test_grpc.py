"""OTLP over gRPC, by upstream's exporters: all three signals arrive at a real gRPC collector."""

import queue
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from service import PATIENCE, started

grpc = pytest.importorskip("grpc", reason="the extra tercet[grpc] is not installed")

_METHODS = {
    "traces": ("opentelemetry.proto.collector.trace.v1.TraceService", trace.ExportTraceServiceRequest),
    "metrics": (
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        metrics.ExportMetricsServiceRequest,
    ),
    "logs": ("opentelemetry.proto.collector.logs.v1.LogsService", logs.ExportLogsServiceRequest),
}
_SCRIPT = """
import logging, tercet
from opentelemetry import metrics
with tercet.setup_observability("batch"):
    @tercet.traced("report")
    def report():
        logging.getLogger("batch").info("reported")
    report()
    metrics.get_meter("batch").create_counter("reports").add(1)
"""


class Collector:
    """A gRPC server that puts what it is sent into a queue: signal, request and metadata."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[str, object, dict[str, str]]] = queue.Queue()
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers(
            tuple(
                grpc.method_handlers_generic_handler(service, {"Export": self._handler(signal, request)})
                for signal, (service, request) in _METHODS.items()
            )
        )
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def _handler(self, signal, request):
        def export(message, context):
            self.received.put((signal, message, dict(context.invocation_metadata())))
            return b""

        return grpc.unary_unary_rpc_method_handler(export, request.FromString, lambda answer: answer)

    def wait_for_all(self) -> dict[str, tuple[object, dict[str, str]]]:
        """Wait until each signal has arrived once."""
        seen: dict[str, tuple[object, dict[str, str]]] = {}
        while len(seen) < len(_METHODS):
            signal, message, metadata = self.received.get(timeout=PATIENCE)
            seen[signal] = (message, metadata)
        return seen


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that speaks gRPC only."""
    listening = Collector()
    yield listening
    listening.server.stop(None)


def test_all_three_signals_arrive_over_grpc(
    collector: Collector, environment: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    """With their header, and under one trace."""
    settings = environment(
        f"http://127.0.0.1:{collector.port}",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_HEADERS="X-Token=abc",
    )
    with started([sys.executable, "-c", _SCRIPT], settings, tmp_path) as script:
        seen = collector.wait_for_all()
        script.process.wait(PATIENCE)
    span = seen["traces"][0].resource_spans[0].scope_spans[0].spans[0]
    record = seen["logs"][0].resource_logs[0].scope_logs[0].log_records[0]
    assert (span.name, record.body.string_value) == ("report", "reported")
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    counter = seen["metrics"][0].resource_metrics[0].scope_metrics[0].metrics[0]
    assert counter.name == "reports"
    assert {metadata["x-token"] for _, metadata in seen.values()} == {"abc"}
