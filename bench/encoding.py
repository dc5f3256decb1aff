"""What encoding spans and log records as OTLP costs, by tercet's encoder and by upstream's, as JSON.

Both encode the same batches, in turns. There are many batches of distinct values, so that what an encoder
remembers of values helps it no more than it does in a service.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as upstream_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as upstream_spans
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bench.emission import emit_record, emit_span
from tercet.export.encode import encode_logs, encode_spans

BATCH = 512
BATCHES = 16
TURNS = 7
_RESOURCE = Resource.create({"service.name": "orders", "service.version": "1.4.2"})

Encode = Callable[[Sequence[Any]], Any]


def spans() -> Sequence[Any]:
    """Make spans that have ended."""
    kept, provider = InMemorySpanExporter(), TracerProvider(resource=_RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for number in range(BATCH * BATCHES):
        emit_span(provider.get_tracer("bench", "1.0"), number)
    return kept.get_finished_spans()


def records() -> Sequence[Any]:
    """Make log records."""
    kept, provider = InMemoryLogRecordExporter(), LoggerProvider(resource=_RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    log = logging.getLogger("orders")
    log.setLevel(logging.INFO)
    log.addHandler(LoggingHandler(logger_provider=provider))
    for number in range(BATCH * BATCHES):
        emit_record(log, number)
    return kept.get_finished_logs()


def compare(items: Sequence[Any], ours: Encode, theirs: Encode) -> dict[str, Any]:
    """Encode items by both, batch by batch in turns, and return microseconds an item and their ratios."""
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    turns = [_turn(batches, ours, theirs) for _ in range(1 + TURNS)][1:]
    return {
        "ours": [mine / len(items) * 1e6 for mine, _ in turns],
        "theirs": [their / len(items) * 1e6 for _, their in turns],
        "ratio": [their / mine for mine, their in turns],
        "same": all(_same(batch, ours, theirs) for batch in batches),
    }


def _turn(batches: Sequence[Sequence[Any]], ours: Encode, theirs: Encode) -> tuple[float, float]:
    mine = their = 0.0
    for batch in batches:
        began = time.thread_time()
        theirs(batch).SerializeToString()
        between = time.thread_time()
        ours(batch)
        mine, their = mine + time.thread_time() - between, their + between - began
    return mine, their


def _same(batch: Sequence[Any], ours: Encode, theirs: Encode) -> bool:
    """Say whether both decode to the same message."""
    message = theirs(batch)
    return bool(type(message).FromString(ours(batch)) == message)


def main() -> None:
    """Compare, and print."""
    found = {
        "spans": compare(spans(), encode_spans, upstream_spans),
        "logs": compare(records(), encode_logs, upstream_logs),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
