"""A WSGI application that takes its time, as gunicorn's gevent worker serves it."""

import logging
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    with trace.get_tracer("wsgi").start_as_current_span(environ["PATH_INFO"]):
        time.sleep(0.02)
        logging.getLogger("wsgi").warning(environ["PATH_INFO"])
        name = trace.get_current_span().name
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [name.encode()]
