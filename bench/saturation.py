"""Fill one exporter, as fast as possible or at a pace, and print what became of every item as JSON.

Who offers runs in the same process as who exports, as in a service, so that both share one interpreter.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from opentelemetry import trace

from bench.emission import Emit, emit_record, emit_span
from bench.worker import answer, forget, take_stdout

# Between two looks at the clock: few enough for an even pace, many enough to cost nothing.
_BURST = 10


@dataclass(frozen=True)
class Fill:
    """What one process is to do.

    Attributes:
        who: tercet, or upstream: the SDK's own batch processor and exporter.
        signal: traces or logs.
        seconds: For how long.
        rate: Items a second; as many as possible when 0.
    """

    who: str
    signal: str
    seconds: float
    rate: float = 0.0

    def text(self) -> str:
        """Write it as an argument of a command."""
        return json.dumps(asdict(self))


def offer(emit: Emit, fill: Fill) -> int:
    """Emit items until the time is up, and return how many."""
    number, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < fill.seconds:
        ahead = number / fill.rate - spent if fill.rate else 0.0
        if ahead > 0:
            time.sleep(ahead)
        for _ in range(_BURST):
            number += 1
            emit(number)
    return number


def by_tercet(signal: str) -> tuple[Emit, Callable[[], dict[str, Any]]]:
    """Set up tercet as a user would, and return what emits and what ends and counts."""
    from tercet import setup_observability

    handle = setup_observability("orders", log_format="json")
    outbox = handle.exporters()[signal]
    handle.force_flush()
    before = outbox.delivered  # what tercet itself says while it starts

    def end() -> dict[str, Any]:
        handle.shutdown(60.0)
        return {"delivered": outbox.delivered - before, "dropped": dict(outbox.dropped)}

    return _emitter(signal), end


def by_upstream(signal: str) -> tuple[Emit, Callable[[], dict[str, Any]]]:
    """Set up the SDK's batch processor with its defaults; it counts nothing itself."""
    provider: Any
    if signal == "traces":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        from bench.service import setup_lines

        provider = LoggerProvider()
        provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        setup_lines()
        logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))

    def end() -> dict[str, Any]:
        provider.force_flush()
        provider.shutdown()
        return {}

    return _emitter(signal), end


def _emitter(signal: str) -> Emit:
    if signal == "traces":
        tracer = trace.get_tracer("bench")
        return lambda number: emit_span(tracer, number)
    log = logging.getLogger("orders")
    log.setLevel(logging.INFO)
    return lambda number: emit_record(log, number)


def main(fill: Fill) -> None:
    """Fill, and print."""
    out = take_stdout()
    os.dup2(sys.stdout.fileno(), sys.stderr.fileno())  # the SDK says so for each span that it drops
    emit, end = {"tercet": by_tercet, "upstream": by_upstream}[fill.who](fill.signal)
    forget()
    began = time.perf_counter()
    offered = offer(emit, fill)
    emitted = time.perf_counter() - began
    outcome = end()
    spent = time.perf_counter() - began
    answer(out, {"offered": offered, "seconds": emitted, "until_empty": spent, **outcome})


if __name__ == "__main__":
    main(Fill(**json.loads(sys.argv[1])))
