"""OTLP over gRPC, to gRPC's own server: what HTTP promises, it promises, too."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from emitter import Emitter, names, once, span_names
from service import PATIENCE, free_port, started

grpc = pytest.importorskip("grpc", reason="gRPC's own server is not installed")
from grpc_receiver import GrpcReceiver  # noqa: E402 - it needs it

Environment = Callable[..., dict[str, str]]
GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
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


@pytest.mark.parametrize("compression", ["auto", "gzip"])
def test_all_three_signals_arrive_over_grpc(
    compression: str, environment: Environment, tmp_path: Path
) -> None:
    """With their header, under one trace, and with what they tell of themselves."""
    with GrpcReceiver() as collector:
        settings = environment(
            collector.endpoint.removeprefix("http://"),
            OTEL_EXPORTER_OTLP_INSECURE="true",
            OTEL_EXPORTER_OTLP_COMPRESSION=compression,
            OTEL_EXPORTER_OTLP_HEADERS="X-Token=abc",
            **GRPC,
        )
        with started([sys.executable, "-c", _SCRIPT], settings, tmp_path) as script:
            assert script.process.wait(PATIENCE) == 0, script.said()
        received = collector.received
    (span,) = received.spans
    (record,) = (each for each in received.records if each.logger == "batch")
    assert (span.name, record.body) == ("report", "reported")
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert [point.value for point in received.points("reports")] == [1]
    created = {point.attributes["signal"] for point in received.points("tercet.export.created")}
    assert created == {"traces", "metrics", "logs"}
    assert {metadata["x-token"] for metadata in collector.metadata} == {"abc"}
    assert script.stderr.so_far() == []


def test_a_spool_is_the_same_for_both_protocols(
    emitter: Callable[..., Emitter],
    tmp_path: Path,
) -> None:
    """What one process packs for HTTP, with deflate, and leaves behind, another one delivers over gRPC."""
    port, spool = free_port(), {"TERCET_SPOOL_DIRECTORY": str(tmp_path)}
    endpoint = f"http://127.0.0.1:{port}"
    for_http = emitter(endpoint, OTEL_EXPORTER_OTLP_COMPRESSION="deflate", **spool)
    for_http.tell(*span_names(30, "http"), "flush")
    for_http.process.kill()
    for_grpc = emitter(endpoint, **spool, **GRPC)
    for_grpc.tell(*span_names(30, "grpc"), "flush")
    wanted = sorted([*span_names(30, "http"), *span_names(30, "grpc")])
    with GrpcReceiver(port) as collector:
        collector.wait_for(once(wanted))
        for_grpc.end()
        assert names(collector.received) == wanted
    away, back = for_grpc.stderr.so_far()
    assert away == (
        f"Cannot deliver traces to 127.0.0.1:{port}: Connection refused. "
        "It waits, and is sent when the collector is back."
    )
    assert back.startswith(f"Delivering traces to 127.0.0.1:{port} again, after ")
    assert list((tmp_path / "traces").iterdir()) == []


def test_what_is_not_taken_now_is_taken_later_over_grpc(
    emitter: Callable[..., Emitter],
) -> None:
    """Each once."""
    left = iter([(grpc.StatusCode.UNAVAILABLE, "not now")] * 2)
    with GrpcReceiver(answer=lambda: next(left, None)) as collector:
        process = emitter(collector.endpoint, **GRPC)
        process.tell(*span_names(30))
        collector.wait_for(once(span_names(30)))
        process.end()
        assert names(collector.received) == span_names(30)


def test_a_request_that_is_too_large_for_grpc_is_halved(
    emitter: Callable[..., Emitter],
) -> None:
    """Until gRPC's own server takes it."""
    with GrpcReceiver(max_receive_message_length=1_000) as collector:
        process = emitter(collector.endpoint, **GRPC)
        process.tell(*span_names(30), "flush")
        process.end()
        assert names(collector.received) == span_names(30)
    assert process.stderr.so_far() == []


def test_a_wrong_token_is_said(emitter: Callable[..., Emitter]) -> None:
    """In the collector's own words, and with the setting that holds it."""
    with GrpcReceiver(answer=lambda: (grpc.StatusCode.UNAUTHENTICATED, "who are you?")) as collector:
        process = emitter(collector.endpoint, **GRPC)
        process.tell("span 0", "flush")
        process.end()
    host = collector.endpoint.removeprefix("http://")
    told = f"traces to {host}: refused by the collector: gRPC UNAUTHENTICATED (who are you?)."
    mend = "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts."
    assert process.stderr.so_far() == [f"{told} {mend}"]
