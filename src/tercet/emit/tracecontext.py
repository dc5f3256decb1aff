"""W3C Trace Context level 2 on the wire: `traceparent` and `tracestate`, read and written to the letter.

https://www.w3.org/TR/trace-context-2/ is the source of every rule here. OpenTelemetry's own propagator
continues a trace whose `traceparent` came twice, drops a `tracestate` that repeats a key, and knows only the
keys of level 1.
"""

import re
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
)

from tercet.emit.correlation import with_span
from tercet.emit.headers import HeaderGetter
from tercet.fast.stand_in import has_twin

_TRACEPARENT = re.compile(
    r"""
    [ \t]*+ (?P<version> (?!ff) [0-9a-f]{2} )
    - (?P<trace_id> (?!0{32}) [0-9a-f]{32} )
    - (?P<span_id> (?!0{16}) [0-9a-f]{16} )
    - (?P<flags> [0-9a-f]{2} )
    (?: [ \t]*+ | (?P<later_fields> -.* ) )
    """,
    re.VERBOSE | re.DOTALL,
).fullmatch
#: Level 2 says that every other flag must be sent as zero.
_KNOWN_FLAGS = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
_FLAGS = tuple(TraceFlags(flags) for flags in range(_KNOWN_FLAGS + 1))

_MEMBER = re.compile(r"([a-z0-9][a-z0-9_\-*/@]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
_OPTIONAL_WHITESPACE = " \t"
_MOST_MEMBERS = 32
#: What 32 members of the longest key and value take; a longer header is padding or breaks a rule.
_LONGEST_LIST = _MOST_MEMBERS * len(f"{'k' * 256}={'v' * 256},") - 1
#: Servers commonly refuse a longer header line, and a caller must not be able to break our own calls.
_MOST_CHARACTERS = 8192
#: The members that level 2 asks to remove first from a list that has to be cut.
_LARGE_MEMBER = 128


class LevelTwoTraceState(TraceState):
    """Carry every `tracestate` member that level 2 allows.

    The API's own class refuses keys such as `1st` and `a@b@c`, and logs what it refuses; this one drops in
    silence, because what it refuses was written by a stranger.
    """

    def __init__(self, entries: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__()
        for key, value in entries or ():
            if len(self._dict) < _MOST_MEMBERS and _is_member(key, value):
                self._dict.setdefault(key, value)

    @classmethod
    def from_header(cls, header_list: Sequence[str]) -> "LevelTwoTraceState":
        """Combine the `tracestate` headers of one request, in their order.

        Args:
            header_list: The values as they arrived.

        Returns:
            The members, the first of each key; empty when one breaks the rules or there are more than 32.
            Above 8192 characters, members longer than 128 are left out from the right until the rest fits.
        """
        state = cls()
        # Assigned rather than passed to __init__, which would match each member a second time.
        state._dict = _parse_members(",".join(header_list))
        return state

    def add(self, key: str, value: str) -> TraceState:
        """Put a member with a new key first; a 33rd pushes the last one out. Invalid pairs change nothing."""
        return self if key in self else self.update(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """Put a member first, new or not; a 33rd pushes the last one out. Invalid pairs change nothing."""
        if not _is_member(key, value):
            return self
        return LevelTwoTraceState([(key, value), *self.delete(key).items()])

    def delete(self, key: str) -> TraceState:
        """Leave one member out."""
        return LevelTwoTraceState([member for member in self.items() if member[0] != key])


class TraceContextPropagator(TextMapPropagator):
    """Continue the caller's trace from `traceparent` and `tracestate`, and hand ours to whom we call.

    Headers that break the rules are ignored in silence: they never raise, and their text is never logged.
    """

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Read the caller's span.

        Args:
            carrier: The incoming headers.
            context: What to add the span to; empty by default.
            getter: How to read the carrier.

        Returns:
            The context with the caller's span; `context` itself when `traceparent` is absent, repeated
            or invalid.
        """
        if context is None:
            context = Context()
        # As they came, they are read in half the time.
        raw: Any = carrier if type(getter) is HeaderGetter else None
        header = getter.get(carrier, "traceparent") if raw is None else raw.get(b"traceparent")
        parent = parse_traceparent(header) if header else None
        if parent is None:
            return context
        trace_id, span_id, flags = parent
        members = getter.get(carrier, "tracestate") if raw is None or b"tracestate" in raw else None
        state = _parse_tracestate(members) if members else DEFAULT_TRACE_STATE
        known_flags = _FLAGS[flags & _KNOWN_FLAGS]
        # They are valid, and the class would look at them once more.
        caller = tuple.__new__(SpanContext, (trace_id, span_id, True, known_flags, state, True))
        return with_span(NonRecordingSpan(caller), context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the current span, if it is a valid one.

        Args:
            carrier: The outgoing headers.
            context: Where the span is; the current context by default.
            setter: How to write to the carrier.
        """
        span = get_current_span(context).get_span_context()
        if not span.is_valid:
            return
        flags = span.trace_flags & _KNOWN_FLAGS
        setter.set(carrier, "traceparent", f"00-{span.trace_id:032x}-{span.span_id:016x}-{flags:02x}")
        if span.trace_state:
            setter.set(carrier, "tracestate", span.trace_state.to_header())

    @property
    def fields(self) -> set[str]:
        """Name the headers that `inject` writes."""
        return {"traceparent", "tracestate"}


@has_twin()
def parse_traceparent(header: bytes | list[str] | list[bytes]) -> tuple[int, int, int] | None:
    """Read trace id, span id and flags of the one `traceparent` there may be.

    Two of them say nothing about which to believe.

    Args:
        header: As it came on the wire, or the values that somebody has read.
    """
    if isinstance(header, bytes):
        header = [header.decode("latin-1")]
    if len(header) > 1 or not isinstance(header[0], str):
        return None
    match = _TRACEPARENT(header[0])
    if match is None:
        return None
    version, trace_id, span_id, flags, later_fields = match.groups()
    if later_fields and version == "00":
        return None
    return int(trace_id, 16), int(span_id, 16), int(flags, 16)


def _parse_tracestate(headers: list[str]) -> TraceState:
    if not all(isinstance(header, str) for header in headers):
        return DEFAULT_TRACE_STATE
    return LevelTwoTraceState.from_header(headers)


def _parse_members(header: str) -> dict[str, str]:
    if len(header) > _LONGEST_LIST:
        return {}
    texts = [text for part in header.split(",") if (text := part.strip(_OPTIONAL_WHITESPACE))]
    if len(texts) > _MOST_MEMBERS:
        return {}
    members: dict[str, str] = {}
    for text in texts:
        match = _MEMBER.fullmatch(text)
        if match is None:
            return {}
        members.setdefault(match[1], match[2])
    return members if len(header) <= _MOST_CHARACTERS else _without_large_members(members)


def _without_large_members(members: dict[str, str]) -> dict[str, str]:
    """Drop large members from the right until the rest fits, which 32 small ones always do."""
    sizes = {key: len(f"{key}={value}") for key, value in members.items()}
    excess = sum(sizes.values()) + len(sizes) - 1 - _MOST_CHARACTERS
    dropped = set()
    for key in reversed(members):
        if excess > 0 and sizes[key] > _LARGE_MEMBER:
            dropped.add(key)
            excess -= sizes[key] + 1
    return {key: value for key, value in members.items() if key not in dropped}


def _is_member(key: str, value: str) -> bool:
    texts = isinstance(key, str) and isinstance(value, str)
    return texts and _MEMBER.fullmatch(f"{key}={value}") is not None
