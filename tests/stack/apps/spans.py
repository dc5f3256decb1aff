"""Emit a span for each line of stdin."""

import os
import sys

from opentelemetry import trace

from tercet import setup_observability

setup_observability(
    os.environ["OTEL_SERVICE_NAME"], metrics_exporter="none", logs_exporter="none", log_format="off"
)
tracer = trace.get_tracer("spans")
for line in sys.stdin:
    with tracer.start_as_current_span(line.strip()):
        pass
    sys.stdout.write("done\n")
    sys.stdout.flush()
