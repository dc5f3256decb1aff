"""Upstream's `propagate`, imported whatever OTEL_PROPAGATORS says.

Upstream reads the variable while it is imported, and fails there on a name that it does not know: before
anybody can say in one sentence which name that is, and how to mend it, as `configure` does.
"""

import os

try:
    from opentelemetry import propagate
except ValueError:
    _wrong = os.environ.pop("OTEL_PROPAGATORS", "")
    try:
        from opentelemetry import propagate
    finally:
        os.environ["OTEL_PROPAGATORS"] = _wrong

__all__ = ["propagate"]
