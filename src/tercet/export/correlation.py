"""The correlation id on every span, whoever starts it."""

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor

Attribute = Callable[[Context | None, int], Mapping[str, Any]]


class Correlated(SpanProcessor):
    """Write an attribute on each span when it starts.

    Args:
        attribute: From the context a span starts in, and its own trace id, to the attribute to write.
    """

    def __init__(self, attribute: Attribute) -> None:
        self.attribute = attribute

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write the attribute on a span that has just started."""
        span.set_attributes(self.attribute(parent_context, span.get_span_context().trace_id))
