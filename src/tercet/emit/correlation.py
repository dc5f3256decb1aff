"""One id that a person can search by: read from the caller, or the trace id itself.

When no caller sends an id, the id *is* the trace id. So there is nothing to make, nothing to store, and one
search finds the traces and the logs of a request.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import metrics
from opentelemetry.context import Context, create_key, get_current, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Span,
    SpanContext,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from tercet.declare.metric import CORRELATION_REPLACED
from tercet.emit.headers import HeaderGetter
from tercet.fast.stand_in import has_twin

HEADER = "X-Correlation-ID"
ALIAS = "X-Request-ID"
LONGEST = 128

#: Where a context keeps the id that a caller sent, or that somebody set.
CARRIED = create_key("tercet-correlation-id")
#: Where the API keeps the span of a context.
(_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
# Letters, digits and the punctuation of UUIDs, ULIDs, AWS and Google request ids; nothing that could end a
# header, a log line or a query.
_USABLE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/+=@~-]*[A-Za-z0-9=])?").fullmatch
# Getters of plain dictionaries match letter for letter, those of HTTP servers in lower case only.
_SPELLINGS = (HEADER.lower(), HEADER, ALIAS.lower(), ALIAS)
_WIRE_SPELLINGS = (HEADER.lower(), ALIAS.lower())


def correlation_id(context: Context | None = None) -> str:
    """Read the id of the work at hand: a request, a job, or whatever the current span belongs to.

    It works in threads, tasks and background work, because it travels in the OpenTelemetry context.

    Args:
        context: Where to look; the current context when not given.

    Returns:
        The id that the caller sent, else the current trace id, else "" outside any traced work.
    """
    carried = carried_id(context)
    if carried:
        return carried
    span_context = get_current_span(context).get_span_context()
    return format_trace_id(span_context.trace_id) if span_context.is_valid else ""


def ids_of(context: Context) -> SpanContext:
    """Read the ids of a context's span, as `get_current_span` would in four times the time."""
    span = context.get(_SPAN)
    return INVALID_SPAN_CONTEXT if span is None else span.get_span_context()  # type: ignore[attr-defined] # a span


@has_twin()
def shown_ids(ids: SpanContext, carried: object) -> tuple[str, str, str]:
    """Write ids as everybody shows them: of trace, span and correlation, "" where there is none.

    >>> shown_ids(SpanContext(10, 11, is_remote=False), None)[1:]
    ('000000000000000b', '0000000000000000000000000000000a')

    Args:
        ids: Of the span.
        carried: What a context has under `CARRIED`; the trace id stands in for it where that is no id.
    """
    trace_id, span_id, _, _, _, is_valid = ids
    trace, span = (f"{trace_id:032x}", f"{span_id:016x}") if is_valid else ("", "")
    return trace, span, carried if isinstance(carried, str) and carried else trace


def with_span(span: Span, context: Context) -> Context:
    """Return a context whose span it is, as `set_span_in_context` would in twice the time."""
    return Context({**context, _SPAN: span})


def carried_id(context: Context | None = None) -> str:
    """Read the id that a caller sent, or that somebody set; "" where the trace id stands in for it."""
    carried = get_value(CARRIED) if context is None else context.get(CARRIED)
    return carried if isinstance(carried, str) else ""


def with_correlation_id(value: str, context: Context | None = None) -> Context:
    """Return a context that carries `value` as the id."""
    return set_value(CARRIED, value, context)


def flaw(value: str) -> str:
    r"""Name the rule that an id breaks; "" when it breaks none.

    >>> flaw("7f3a-b2"), flaw("a" * 200), flaw("x\r\nSet-Cookie: a=b")
    ('', 'length', 'characters')
    """
    if not 0 < len(value) <= LONGEST:
        return "length"
    return "" if _USABLE(value) else "characters"


# Made once: without a provider, the API keeps every instrument it is ever asked for.
_replaced = metrics.get_meter("tercet").create_counter(
    CORRELATION_REPLACED.name, CORRELATION_REPLACED.unit, CORRELATION_REPLACED.help
)


def _count_replaced(reason: str) -> None:
    _replaced.add(1, {"reason": reason})


def _unpadded(value: Any) -> Any:
    """Take off the white space around a header's value, which is no part of it; some servers hand it on.

    https://www.rfc-editor.org/rfc/rfc9110#section-5.5
    """
    return value.strip(" \t") if isinstance(value, str) else value


class CorrelationPropagator(TextMapPropagator):
    """Carry the correlation id across processes in `X-Correlation-ID`.

    An id that breaks the rules is never stored, sent on or logged: the trace id takes its place, and
    `tercet.correlation.replaced` counts it by reason.
    """

    def __init__(self, count_replaced: Callable[[str], None] = _count_replaced) -> None:
        self._count_replaced = count_replaced

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[Any] = default_getter,
    ) -> Context:
        """Read `X-Correlation-ID`, or else `X-Request-ID`, from the carrier."""
        context = Context() if context is None else context
        for spelling in _WIRE_SPELLINGS if isinstance(getter, HeaderGetter) else _SPELLINGS:
            found = getter.get(carrier, spelling)
            values = [_unpadded(value) for value in found] if found else ()
            if any(values):  # An empty header says nothing.
                return self._with_first(values, context)
        return context

    def _with_first(self, values: Sequence[str], context: Context) -> Context:
        value = values[0]
        ambiguous = any(other != value for other in values)
        # Carriers that are no HTTP headers hold anything: bytes and numbers too.
        reason = "ambiguous" if ambiguous else flaw(value) if isinstance(value, str) else "characters"
        if reason:
            self._count_replaced(reason)
            return context
        return with_correlation_id(value, context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the id of `context` into the carrier; nothing when there is none."""
        value = correlation_id(get_current() if context is None else context)
        if value:
            setter.set(carrier, HEADER, value)

    @property
    def fields(self) -> set[str]:
        """Name the header that `inject` writes."""
        return {HEADER}


def attribute(context: Context | None, own_trace_id: int) -> dict[str, Any]:
    """Make the attribute that says the id on a span starting in `context`, with that trace id of its own."""
    return {"correlation_id": carried_id(context) or f"{own_trace_id:032x}"}
