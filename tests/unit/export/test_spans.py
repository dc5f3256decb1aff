"""Lean spans: whatever is done to one, it ends as the SDK's own would."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as upstream_encode
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import IdGenerator, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from tercet.export.correlation import Correlated
from tercet.export.encode import encode_request
from tercet.export.processors import BatchedSpans
from tercet.export.sampling import ParentDecides
from tercet.export.spans import LeanSpan, LeanTracer, LeanTracerProvider

RESOURCE = Resource({"service.name": "orders"})
REMOTE = SpanContext(0xA1, 0xB2, True, TraceFlags(1), TraceState([("vendor", "1")]))
LINK = Link(SpanContext(0xC3, 0xD4, False), {"why": "retry", "of": [1, 2]})
values = st.one_of(
    st.text(max_size=5),
    st.integers(-5, 5),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
)
keys = st.sampled_from(["a", "b", "c", "", "http.route", 7])
bags = st.dictionaries(keys, values, max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set_attribute"), keys, values),
        st.tuples(st.just("set_attributes"), bags),
        st.tuples(st.just("update_name"), st.sampled_from(["one", "two"])),
        st.tuples(st.just("add_event"), st.sampled_from(["e", "f"]), bags, st.just(5)),
        st.tuples(st.just("add_link"), st.just(LINK.context), bags),
        st.tuples(st.just("set_status"), st.sampled_from(StatusCode), st.sampled_from([None, "why"])),
        st.tuples(st.just("end"), st.just(9)),
    ),
    max_size=8,
)


class Counted(IdGenerator):
    """Ids that two providers agree on."""

    def __init__(self, random):
        self.random, self.spans, self.traces = random, 0, 0

    def generate_span_id(self):
        self.spans += 1
        return self.spans

    def generate_trace_id(self):
        self.traces += 1
        return self.traces << 60

    def is_trace_id_random(self):
        return self.random


class Shelf:
    """An outbox that keeps what it is given."""

    def __init__(self):
        self.items = []

    def put(self, item):
        self.items.append(item)


def provided(sampler=None, *, random=True, processor=None):
    """A provider of ours, and what its outlet takes."""
    provider = LeanTracerProvider(sampler or ParentDecides(ALWAYS_ON), RESOURCE)
    provider.id_generator = Counted(random)
    shelf = Shelf()
    provider.add_own(BatchedSpans(shelf))
    if processor is not None:
        provider.add_span_processor(processor)
    return provider, shelf


def upstream(sampler=ParentBased(ALWAYS_ON), *, random=True):  # noqa: B008 - samplers have no state
    """The SDK's provider, and what its exporter takes."""
    provider = TracerProvider(sampler, RESOURCE, shutdown_on_exit=False, id_generator=Counted(random))
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def lived(provider, given_steps, attributes, context=None, **options):
    """Let a span live through some steps, and end."""
    span = provider.get_tracer("t", "1").start_span(
        "start", context, SpanKind.SERVER, attributes, start_time=1, **options
    )
    for name, *arguments in given_steps:
        getattr(span, name)(*arguments)
    span.end(9)


@pytest.mark.filterwarnings("ignore")
@given(bags, steps, st.sampled_from([(), (LINK,)]), st.booleans())
def test_a_span_says_on_the_wire_what_the_sdks_own_would(attributes, taken, links, foreign):
    """Every kind of attribute, event, link, name and status, with a foreign processor beside or without."""
    ours, shelf = provided(processor=SpanProcessor() if foreign else None)
    theirs, exporter = upstream()
    for provider in (ours, theirs):
        lived(provider, taken, attributes, links=links)
    wanted = upstream_encode(exporter.get_finished_spans())
    assert type(wanted).FromString(encode_request(shelf.items)) == wanted


@pytest.mark.parametrize("length", [3, 200])
@pytest.mark.parametrize("first", [0, 127, 200])
def test_limits_are_the_sdks(length, first, monkeypatch):
    """In number and in length, and what they cost is counted."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", str(length))
    many = {f"key {number}": "x" * 10 for number in range(first)}
    more = [("set_attribute", "one", "y" * 10), ("set_attributes", {f"more {n}": n for n in range(10)})]
    ours, shelf = provided()
    theirs, exporter = upstream()
    for provider in (ours, theirs):
        lived(provider, more, many)
    wanted = upstream_encode(exporter.get_finished_spans())
    assert type(wanted).FromString(encode_request(shelf.items)) == wanted


class Odd(Sampler):
    """Records all, samples some, and says something of its own."""

    def should_sample(  # noqa: PLR0917 - the SDK has it so
        self, parent_context, trace_id, name, kind=None, attributes=None, links=None, trace_state=None
    ):
        decision = Decision.RECORD_AND_SAMPLE if name == "start" else Decision.RECORD_ONLY
        return SamplingResult(decision, {"sampled": "oddly"}, TraceState([("odd", "1")]))

    def get_description(self):
        return "Odd"


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(
    "parent", [None, REMOTE, SpanContext(0xA1, 0xB2, True), SpanContext(0xA1, 0xB2, False)]
)
@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (ParentDecides(ALWAYS_ON), ParentBased(ALWAYS_ON)),
        (ParentDecides(ALWAYS_OFF), ParentBased(ALWAYS_OFF)),
        (Odd(), Odd()),
        (ALWAYS_ON, ALWAYS_ON),
    ],
    ids=["on", "off", "odd", "always"],
)
def test_ids_flags_and_state_are_those_of_the_sdk(own, theirs, parent, random):
    """For each sampler and each parent."""
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent), Context()) if parent else Context()
    started = [
        provider.get_tracer("t").start_span("start", context)
        for provider, _ in (provided(own, random=random), upstream(theirs, random=random))
    ]
    one, other = (span.get_span_context() for span in started)
    assert (*one[:4], one.trace_state.to_header()) == (*other[:4], other.trace_state.to_header())
    assert started[0].is_recording() == started[1].is_recording()


def test_what_is_recorded_only_is_not_sent():
    """A processor sees it all the same."""
    seen = InMemorySpanExporter()
    provider, shelf = provided(Odd(), processor=_Seeing(seen))
    provider.get_tracer("t").start_span("other").end()
    assert (shelf.items, [span.name for span in seen.get_finished_spans()]) == ([], ["other"])


class _Seeing(SpanProcessor):
    def __init__(self, exporter):
        self.exporter, self.started, self.ending = exporter, [], []

    def on_start(self, span, parent_context=None):
        self.started.append(span.name)
        span.set_attribute("started", True)

    def _on_ending(self, span):
        self.ending.append(span.name)

    def on_end(self, span):
        self.exporter.export([span])
        span._attributes._dict["secret"] = "<hidden>"


def test_a_foreign_processor_sees_and_changes_what_leaves():
    """It gets the SDK's classes, before anything is encoded."""
    processor = _Seeing(InMemorySpanExporter())
    provider, shelf = provided(processor=processor)
    provider.get_tracer("t").start_span("work", attributes={"secret": "hunter2"}).end()
    (span,) = processor.exporter.get_finished_spans()
    assert type(span) is ReadableSpan
    assert (processor.started, processor.ending) == (["work"], ["work"])
    assert dict(span.attributes) == {"secret": "<hidden>", "started": True}
    assert b"hunter2" not in shelf.items[0][2]


def test_every_span_is_stamped():
    """By its context and its trace id, however it is sampled and whoever starts it."""
    provider, shelf = provided()
    provider.add_own(Correlated(lambda context, trace_id: {"correlation_id": f"{trace_id:x}"}))
    provider.get_tracer("t").start_span("work", attributes={"a": 1}).end()
    assert b"correlation_id\x12\x12\n\x101000000000000000" in shelf.items[0][2]


def test_a_span_can_be_read_while_it_is_written():
    """What was read stays as it was; an ended span takes nothing more."""
    provider, _ = provided()
    span = provider.get_tracer("t").start_span("work", attributes={"a": 1})
    before = span.attributes
    span.set_attribute("b", [2])
    assert (isinstance(span, LeanSpan), dict(before), dict(span.attributes)) == (
        True,
        {"a": 1},
        {"a": 1, "b": (2,)},
    )
    span.end()
    span.set_attribute("c", 3)
    span.set_attributes({"d": 4})
    span.update_name("late")
    span.end()
    assert (span.name, dict(span.attributes), span.dropped_attributes) == ("work", {"a": 1, "b": (2,)}, 0)


def test_threads_lose_no_event():
    """The first ones may come at once."""
    provider, _ = provided()
    span = provider.get_tracer("t").start_span("work")
    threads = [threading.Thread(target=span.add_event, args=(f"{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(event.name) for event in span.events) == list(range(20))


def test_a_with_block_records_as_it_is_told():
    """An exception by default, and none where the caller says so."""
    provider, _ = provided()
    tracer = provider.get_tracer("t")
    spans = [
        tracer.start_span("a"),
        tracer.start_span("b", record_exception=False, set_status_on_exception=False),
    ]
    for span in spans:
        with pytest.raises(KeyError), span:
            raise KeyError("k")
    assert [(len(span.events), span.status.status_code) for span in spans] == [
        (1, StatusCode.ERROR),
        (0, StatusCode.UNSET),
    ]


def test_the_tracer_of_a_scope_is_one(monkeypatch):
    """Ours, but where the SDK is to count its own spans."""
    provider, _ = provided()
    assert provider.get_tracer("t") is provider.get_tracer("t")
    assert type(provider.get_tracer("t")) is LeanTracer
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    counted, shelf = provided()
    counted.add_own(Correlated(lambda context, trace_id: {"correlation_id": "x"}))
    counted.get_tracer("t").start_span("work").end()
    assert type(counted.get_tracer("t")) is not LeanTracer
    assert b"correlation_id" in shelf.items[0][2]


def test_a_resource_that_changes_reaches_the_next_span():
    """As in a forked child."""
    provider, shelf = provided()
    tracer = provider.get_tracer("t")
    provider._update_resource(Resource({"service.instance.id": "child"}))
    tracer.start_span("work").end()
    assert shelf.items[0][0].attributes["service.instance.id"] == "child"


def test_a_tracer_that_is_switched_off_passes_the_parent_on():
    """As the SDK's does."""
    provider, _ = provided()
    tracer = provider.get_tracer("t")
    tracer._tracer_config.is_enabled = False
    parent = trace.set_span_in_context(trace.NonRecordingSpan(REMOTE), Context())
    assert tracer.start_span("work", parent).get_span_context() == REMOTE
