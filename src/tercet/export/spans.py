"""The SDK's provider, tracer and span with the common case spelled out: half their cost on the request path.

Everything that is rare is left to the classes that these derive from, and everybody who expects the SDK's own
classes gets what they expect. Where a span costs what it costs, measured: cleaning and copying each attribute
twice (7 µs of 22), the sampler's answer in three objects (2 µs), a second span to read from (2 µs).
"""

import functools
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from types import MappingProxyType
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace._tracer_metrics import NoOpTracerMetrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.types import AnyValue, Attributes

from tercet.export.attributes import SIMPLE, is_simple, own_copy
from tercet.export.correlation import Correlated
from tercet.export.encode import UNSET, encode_span, encode_span_fields
from tercet.export.guard import GuardedProcessors, GuardedSpans
from tercet.export.sampling import ParentDecides

S = TypeVar("S")
Stamp = Callable[[Context | None, int], Mapping[str, Any]]

logger = logging.getLogger("tercet.export")
_SAMPLED, _RANDOM = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.RANDOM_TRACE_ID)
_SAMPLED_RANDOM = TraceFlags(_SAMPLED | _RANDOM)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
#: Where the API keeps the span of a context; its own look-up takes four times the time.
(_SPAN,) = set_span_in_context(INVALID_SPAN, Context())
_new: Callable[[type[S]], S] = object.__new__
_new_lock = threading.Lock
_known_ids: Callable[[tuple[Any, ...]], SpanContext] = functools.partial(tuple.__new__, SpanContext)


def _checked_ids(ids: tuple[Any, ...]) -> SpanContext:
    return SpanContext(*ids[:-1])


class LeanSpan(Span):
    """A span of the SDK that keeps simple attributes in a plain dictionary.

    It becomes one that keeps them as the SDK does once an attribute needs cleaning, or a limit is reached.
    """

    # What is the same for nearly all spans stands on the class until one differs.
    _trace_config = None
    _record_end_metrics = None
    _end_time: int | None = None
    _status = UNSET
    _events: Any = ()
    _links: Any = ()
    _attributes: Any
    _chain: GuardedProcessors
    _room: int
    # Other than the SDK's own, it asks nothing: only a tracer makes spans.
    __new__ = object.__new__

    @property
    def dropped_attributes(self) -> int:
        """Count the attributes that a limit has cost."""
        return getattr(self._attributes, "dropped", 0)

    @property
    def attributes(self) -> Attributes:
        """Return the attributes, read only; a copy while they may still change."""
        own = self._attributes
        if self._end_time is None and type(own) is dict:
            own = own.copy()
        return MappingProxyType(own)

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one attribute."""
        if type(value) in SIMPLE and type(key) is str and key:
            with self._lock:
                own = self._attributes
                if type(own) is dict and self._end_time is None and len(own) < self._room:
                    own.pop(key, None)  # as the SDK has it: what is set again comes last
                    own[key] = value
                    return
        self._as_upstream()
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several attributes."""
        if type(attributes) is dict and is_simple(attributes):
            with self._lock:
                own = self._attributes
                if type(own) is dict and self._end_time is None and len(own) + len(attributes) <= self._room:
                    if not own.keys().isdisjoint(attributes):
                        for key in attributes:
                            own.pop(key, None)
                    own.update(attributes)
                    return
        self._as_upstream()
        super().set_attributes(attributes)

    def _as_upstream(self) -> None:
        """Keep the attributes as the SDK does from here on."""
        with self._lock:
            own = self._attributes
            if type(own) is dict:
                self._attributes = bounded = self._bounded()
                bounded._dict = own

    def _bounded(self, attributes: Attributes = None) -> BoundedAttributes:
        limits = self._limits
        return BoundedAttributes(
            limits.max_span_attributes, attributes, False, limits.max_span_attribute_length
        )

    def _clean(self) -> None:
        """Clean what the span starts with, as the SDK does."""
        self._attributes = self._bounded(self._attributes)

    def update_name(self, name: str) -> None:
        """Rename the span."""
        with self._lock:
            if self._end_time is None:
                self._name = name
                return
        super().update_name(name)  # it says what is wrong

    def _add_event(self, event: Any) -> None:
        with self._lock:
            self._events = self._events or BoundedList(self._limits.max_events)
        super()._add_event(event)

    def _add_link(self, link: Link) -> None:
        with self._lock:
            self._links = self._links or BoundedList(self._limits.max_links)
        super()._add_link(link)

    def end(self, end_time: int | None = None) -> None:
        """End the span: others see it first, then it is on its way out."""
        with self._lock:
            if self._end_time is not None:
                logger.warning("Calling end() on an ended span.")
                return
            self._end_time = time_ns() if end_time is None else end_time
        chain = self._chain
        is_sampled = self._context.trace_flags & _SAMPLED  # type: ignore[union-attr] # each of ours has one
        if chain.others:
            self._end_for_all(chain, is_sampled)
        elif is_sampled:
            for outlet in chain.outlets:
                outlet.take(self, LeanSpan._encoded)

    def _end_for_all(self, chain: GuardedProcessors, is_sampled: int) -> None:
        for processor in chain.others:
            processor._on_ending(self)
        readable = self._readable_span()
        for processor in chain.others:
            processor.on_end(readable)
        if is_sampled:
            for outlet in chain.outlets:
                outlet.take(readable)

    def _encoded(self) -> bytes:
        """Encode an ended span, past the properties that show it to others."""
        if type(self._attributes) is not dict or self._events or self._links:
            return encode_span(self)
        times = (self._start_time, self._end_time)
        return encode_span_fields(
            self._context, self._parent, self._name, self._kind, times, self._attributes, self._status
        )

    def _readable_span(self) -> ReadableSpan:
        self._as_upstream()
        self._attributes._immutable = True
        return super()._readable_span()


class LeanTracer(Tracer):
    """A tracer of the SDK that makes `LeanSpan`s."""

    def adopt(self, provider: "LeanTracerProvider", chain: GuardedProcessors) -> None:
        """Take over from the SDK's own tracer, which this object was made as."""
        self._provider = provider
        self._chain = chain
        self._room = _room(self._span_limits)
        # Those of the SDK's own generator are always in range.
        self._ids = _known_ids if type(self.id_generator) is RandomIdGenerator else _checked_ids
        self._samples_root = self.sampler.samples_root if isinstance(self.sampler, ParentDecides) else None
        self._set_resource(self.resource)

    def _set_resource(self, resource: Resource) -> None:
        super()._set_resource(resource)
        # What is the same for all spans of this tracer stands on a class of their own.
        given = {
            "_resource": resource,
            "_sampler": self.sampler,
            "_span_processor": self.span_processor,
            "_limits": self._span_limits,
            "_instrumentation_info": self.instrumentation_info,
            "_instrumentation_scope": self._instrumentation_scope,
            "_record_exception": True,
            "_set_status_on_exception": True,
            "_chain": self._chain,
            "_room": self._room,
            "__module__": LeanSpan.__module__,
        }
        self._kind_of_span: type[LeanSpan] = type(LeanSpan.__name__, (LeanSpan,), given)

    def start_span(  # noqa: PLR0917 - the API has it so
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span, or pass the context on where it is not recorded."""
        current: Any = get_current().get(_SPAN) if context is None else context.get(_SPAN)
        parent = INVALID_SPAN_CONTEXT if current is None else current.get_span_context()
        if not self._tracer_config.is_enabled or type(parent) is not SpanContext:
            return super().start_span(name, context, kind, attributes, links, start_time)
        ids = self.id_generator
        # At once: each field by its name is a call.
        trace_id, _, _, flags, state, is_valid = parent
        if is_valid:
            random = flags & _RANDOM
        else:
            parent, state = None, DEFAULT_TRACE_STATE
            trace_id, random = ids.generate_trace_id(), ids.is_trace_id_random()
        if self._samples_root is not None:
            sampled = recorded = bool(flags & _SAMPLED) if is_valid else self._samples_root(trace_id)
        else:
            result = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            recorded = result.decision is not Decision.DROP
            sampled = result.decision is Decision.RECORD_AND_SAMPLE
            attributes, state = result.attributes, result.trace_state or DEFAULT_TRACE_STATE
        flags = (_SAMPLED_RANDOM if random else _SAMPLED) if sampled else (_RANDOM if random else _UNSAMPLED)
        own = self._ids((trace_id, ids.generate_span_id(), False, flags, state, True))
        if not recorded:
            return NonRecordingSpan(own)
        stamp = self._provider.stamp
        given = own_copy(attributes)
        if stamp is not None:
            given.update(stamp(context, trace_id))
        span = _new(self._kind_of_span)
        span._name, span._context, span._parent, span._kind = name, own, parent, kind
        span._attributes, span._lock = given, _new_lock()
        span._start_time = time_ns() if start_time is None else start_time
        if len(given) > self._room or not is_simple(given):
            span._clean()
        if links:
            span._links = span._new_links(links)
        if not (record_exception and set_status_on_exception):
            span._record_exception = record_exception
            span._set_status_on_exception = set_status_on_exception
        for processor in self._chain.others:
            processor.on_start(span, parent_context=context)
        return span


class LeanTracerProvider(TracerProvider):
    """The SDK's provider, with tracers that cost less.

    Attributes:
        stamp: From the context a span starts in, and its trace id, to attributes that each span gets.
    """

    def __init__(self, sampler: Sampler, resource: Resource) -> None:
        self.stamp: Stamp | None = None
        self._chain = GuardedProcessors()
        super().__init__(sampler, resource, shutdown_on_exit=False, active_span_processor=self._chain)

    def add_own(self, processor: SpanProcessor) -> None:
        """Add one of tercet's own processors, which need no guard."""
        # With the SDK's internal metrics on, its own tracers stay, and they stamp nothing.
        if isinstance(processor, Correlated) and isinstance(self.get_tracer("tercet"), LeanTracer):
            self.stamp = processor.attribute
        else:
            self._chain.add_own(processor)

    def added(self) -> list[SpanProcessor]:
        """List the processors that others have added."""
        return [processor for processor in self._chain.others if isinstance(processor, GuardedSpans)]

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        """Return the tracer of a scope; the same one each time."""
        tracer = super().get_tracer(*args, **kwargs)
        if type(tracer) is Tracer and isinstance(tracer._tracer_metrics, NoOpTracerMetrics):
            tracer.__class__ = LeanTracer
            tracer.adopt(self, self._chain)  # type: ignore[attr-defined] # it has just become one
        return tracer


def _room(limits: SpanLimits) -> int:
    """Say how many attributes a span may keep without looking at each: none where their length is limited."""
    if limits.max_span_attribute_length is not None:
        return 0
    return sys.maxsize if limits.max_span_attributes is None else limits.max_span_attributes
