"""A WSGI application that counts its requests, says who answers, and is scraped at /metrics."""

import os
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet import metrics_app
from tercet.declare.metric import Metric
from tercet.emit.metrics import build_recorder

ASKED = Metric("asked", "histogram", "s", "How long it took.", attributes=("path",), buckets=(1.0,))
asked = build_recorder(metrics.get_meter("wsgi"), ASKED)
scraped = metrics_app()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    if environ["PATH_INFO"] == "/metrics":
        return scraped.wsgi(environ, start_response)
    asked.record(0.5, (environ["PATH_INFO"],), INVALID_SPAN_CONTEXT)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
