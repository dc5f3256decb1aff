"""W3C Trace Context level 2: the validation suite's 41 cases in process, and hostile headers."""

import ast
import inspect
import logging
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from tercet.emit import tracecontext
from tercet.emit.tracecontext import LevelTwoTraceState, TraceContextPropagator

TRACE = "12345678901234567890123456789012"
SPAN = "1234567890123456"
PARENT = f"00-{TRACE}-{SPAN}-01"
VALUE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in ",=")
KEY = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"

Headers = Sequence[tuple[str, str]]


class RequestHeaders(Getter[Headers]):
    """Read headers as an HTTP server does: names in any case, repeated ones in their order."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return [value for name, value in carrier if name.lower() == key] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name for name, _ in carrier]


def call_made_by(headers: Headers, calls: int = 1) -> list[dict[str, str]]:
    """Serve one request that makes some calls, and return the headers of each call."""
    propagator, tracer = TraceContextPropagator(), TracerProvider().get_tracer("suite")
    incoming = propagator.extract(headers, getter=RequestHeaders())
    outgoing: list[dict[str, str]] = [{} for _ in range(calls)]
    with tracer.start_as_current_span("serve", context=incoming):
        for carrier in outgoing:
            with tracer.start_as_current_span("call"):
                propagator.inject(carrier)
    return outgoing


def picture(headers: Headers) -> str:
    """Draw what the request's one call carries: whose trace it is, then its tracestate."""
    (outgoing,) = call_made_by(headers)
    version, trace_id, span_id, _flags = outgoing["traceparent"].split("-")
    assert (version, span_id != SPAN) == ("00", True)
    return f"{'same' if trace_id == TRACE else 'new'} trace {outgoing.get('tracestate', '')}".rstrip()


def extracted(traceparent: object = PARENT, *tracestate: object) -> SpanContext:
    carrier = {"traceparent": traceparent, "tracestate": list(tracestate)}
    return get_current_span(TraceContextPropagator().extract(carrier)).get_span_context()


def injected(span_context: SpanContext) -> dict[str, str]:
    carrier: dict[str, str] = {}
    TraceContextPropagator().inject(carrier, set_span_in_context(NonRecordingSpan(span_context), Context()))
    return carrier


def members(first: int, last: int) -> str:
    return ",".join(f"bar{number:02}={number:02}" for number in range(first, last + 1))


TRACEPARENTS = [
    ("missing traceparent and tracestate start a trace", [], "new trace"),
    ("traceparent alone continues the trace", [PARENT], "same trace"),
    ("a duplicated traceparent restarts the trace", [PARENT.replace("9012-", "9011-"), PARENT], "new trace"),
    ("a traceparent repeated word for word restarts the trace", [PARENT, PARENT], "new trace"),
    ("version 00 with a trailing dot is invalid", [f"{PARENT}."], "new trace"),
    ("version 00 with later fields is invalid", [f"{PARENT}-what-the-future-will-be-like"], "new trace"),
    ("version 00 with a trailing dash is invalid", [f"{PARENT}-"], "new trace"),
    ("version cc continues the trace", [f"cc{PARENT[2:]}"], "same trace"),
    ("version cc with later fields continues the trace", [f"cc{PARENT[2:]}-what-will-be"], "same trace"),
    ("version cc with a dot behind the flags is invalid", [f"cc{PARENT[2:]}.what-will-be"], "new trace"),
    ("version cc that ends before the flags is invalid", [f"cc{PARENT[2:-3]}"], "new trace"),
    ("version ff is invalid", [f"ff{PARENT[2:]}"], "new trace"),
    ("version ff with later fields is invalid", [f"ff{PARENT[2:]}-x"], "new trace"),
    ("a version that starts with a dot is invalid", [f".0{PARENT[2:]}"], "new trace"),
    ("a version that ends with a dot is invalid", [f"0.{PARENT[2:]}"], "new trace"),
    ("a version in upper case is invalid", [f"CC{PARENT[2:]}"], "new trace"),
    ("a version of three digits is invalid", [f"0{PARENT}"], "new trace"),
    ("a version of four digits is invalid", [f"00{PARENT}"], "new trace"),
    ("a version of one digit is invalid", [PARENT[1:]], "new trace"),
    ("an all-zero trace id is invalid", [f"00-{'0' * 32}-{SPAN}-01"], "new trace"),
    ("a trace id that starts with a dot is invalid", [f"00-.{TRACE[1:]}-{SPAN}-01"], "new trace"),
    ("a trace id that ends with a dot is invalid", [f"00-{TRACE[:-1]}.-{SPAN}-01"], "new trace"),
    ("a trace id in upper case is invalid", [f"00-{'A' * 32}-{SPAN}-01"], "new trace"),
    ("a trace id in other scripts' digits is invalid", [f"00-{chr(0x661) * 32}-{SPAN}-01"], "new trace"),
    ("a trace id of 33 digits is invalid", [f"00-{TRACE}3-{SPAN}-01"], "new trace"),
    ("a trace id of 31 digits is invalid", [f"00-{TRACE[:-1]}-{SPAN}-01"], "new trace"),
    ("an all-zero parent id is invalid", [f"00-{TRACE}-{'0' * 16}-01"], "new trace"),
    ("a parent id that starts with a dot is invalid", [f"00-{TRACE}-.{SPAN[1:]}-01"], "new trace"),
    ("a parent id that ends with a dot is invalid", [f"00-{TRACE}-{SPAN[:-1]}.-01"], "new trace"),
    ("a parent id of 17 digits is invalid", [f"00-{TRACE}-{SPAN}7-01"], "new trace"),
    ("a parent id of 15 digits is invalid", [f"00-{TRACE}-{SPAN[:-1]}-01"], "new trace"),
    ("flags that start with a dot are invalid", [f"00-{TRACE}-{SPAN}-.0"], "new trace"),
    ("flags that end with a dot are invalid", [f"00-{TRACE}-{SPAN}-0."], "new trace"),
    ("flags of three digits are invalid", [f"00-{TRACE}-{SPAN}-001"], "new trace"),
    ("flags of one digit are invalid", [f"00-{TRACE}-{SPAN}-1"], "new trace"),
    ("a space before traceparent is ignored", [f" {PARENT}"], "same trace"),
    ("a tab before traceparent is ignored", [f"\t{PARENT}"], "same trace"),
    ("a space behind traceparent is ignored", [f"{PARENT} "], "same trace"),
    ("a tab behind traceparent is ignored", [f"{PARENT}\t"], "same trace"),
    ("blanks on both sides of traceparent are ignored", [f"\t {PARENT} \t"], "same trace"),
    ("a line break behind traceparent is invalid", [f"{PARENT}\n"], "new trace"),
    ("an illegal traceparent starts a trace", [f"00-{'0' * 32}-{SPAN}-01"], "new trace"),
]


@pytest.mark.parametrize(
    ("traceparents", "expected"), [pytest.param(row[1], row[2], id=row[0]) for row in TRACEPARENTS]
)
def test_traceparent(traceparents: list[str], expected: str) -> None:
    """A trace is continued from exactly one valid traceparent."""
    assert picture([("traceparent", value) for value in traceparents]) == expected


TRACESTATES = [
    ("both headers are inherited", ["foo=1,bar=2"], "foo=1,bar=2"),
    ("an empty tracestate is discarded", [""], ""),
    ("an empty header behind a full one adds nothing", ["foo=1", ""], "foo=1"),
    ("an empty header before a full one adds nothing", ["", "foo=1"], "foo=1"),
    ("empty members are skipped", ["foo=1, ,,bar=2,"], "foo=1,bar=2"),
    (
        "headers with different keys are combined in order",
        ["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
        "foo=1,bar=2,rojo=1,congo=2,baz=3",
    ),
    ("a member repeated in one header is kept once", ["foo=1,foo=1"], "foo=1"),
    ("the first of two values in one header is kept", ["foo=1,foo=2"], "foo=1"),
    ("a member repeated in two headers is kept once", ["foo=1", "foo=1"], "foo=1"),
    ("the first of two values in two headers is kept", ["foo=1", "foo=2"], "foo=1"),
    ("every legal character is inherited", [f"{KEY}={VALUE}"], f"{KEY}={VALUE}"),
    (
        "every legal character with a tenant is inherited",
        [f"{KEY}@a-z0-9_-*/={VALUE}"],
        f"{KEY}@a-z0-9_-*/={VALUE}",
    ),
    ("spaces around members are ignored", ["foo=1 \t , \t bar=2, \t baz=3"], "foo=1,bar=2,baz=3"),
    ("tabs around members are ignored", ["foo=1\t \t,\t \tbar=2,\t \tbaz=3"], "foo=1,bar=2,baz=3"),
    ("a leading space is ignored", [" foo=1"], "foo=1"),
    ("a leading tab is ignored", ["\tfoo=1"], "foo=1"),
    ("a trailing space is ignored", ["foo=1 "], "foo=1"),
    ("a trailing tab is ignored", ["foo=1\t"], "foo=1"),
    ("blanks on both sides are ignored", ["\t foo=1 \t"], "foo=1"),
    ("a value keeps its leading space", ["foo= 1"], "foo= 1"),
    ("a key with a space is illegal", ["foo =1"], ""),
    ("a key in upper case is illegal", ["FOO=1"], ""),
    ("a key with a dot is illegal", ["foo.bar=1"], ""),
    ("a key may start with a digit", ["1st=1"], "1st=1"),
    ("a key may end with an at sign", ["foo@=1,bar=2"], "foo@=1,bar=2"),
    ("a key that starts with an at sign is illegal", ["@foo=1,bar=2"], ""),
    ("a key may hold two at signs together", ["foo@@bar=1,bar=2"], "foo@@bar=1,bar=2"),
    ("a key may hold two at signs apart", ["foo@bar@baz=1,bar=2"], "foo@bar@baz=1,bar=2"),
    (
        "32 members are inherited",
        [members(1, 10), members(11, 20), members(21, 30), members(31, 32)],
        members(1, 32),
    ),
    ("33 members are discarded", [members(1, 10), members(11, 20), members(21, 30), members(31, 33)], ""),
    ("a key of 256 characters is inherited", ["foo=1", "z" * 256 + "=1"], "foo=1," + "z" * 256 + "=1"),
    ("a key of 257 characters is illegal", ["foo=1", "z" * 257 + "=1"], ""),
    (
        "a tenant of 241 characters is inherited",
        ["foo=1", "t" * 241 + "@" + "v" * 14 + "=1"],
        "foo=1," + "t" * 241 + "@" + "v" * 14 + "=1",
    ),
    (
        "a tenant of 242 characters is inherited",
        ["foo=1", "t" * 242 + "@v=1"],
        "foo=1," + "t" * 242 + "@v=1",
    ),
    (
        "a vendor of 15 characters is inherited",
        ["foo=1", "t@" + "v" * 15 + "=1"],
        "foo=1,t@" + "v" * 15 + "=1",
    ),
    ("a value of 256 characters is inherited", ["foo=" + "v" * 256], "foo=" + "v" * 256),
    ("a value of 257 characters is illegal", ["foo=" + "v" * 257], ""),
    ("a value with an equals sign is illegal", ["foo=bar=baz"], ""),
    ("an empty value is illegal", ["foo=,bar=3"], ""),
    ("a value of a control character is illegal", ["foo=a\x00b"], ""),
    ("a value beyond ASCII is illegal", ["foo=ü"], ""),
    ("a thousand members are discarded", [members(1, 1000)], ""),
]


@pytest.mark.parametrize(
    ("tracestates", "expected"), [pytest.param(row[1], row[2], id=row[0]) for row in TRACESTATES]
)
def test_tracestate(tracestates: list[str], expected: str, caplog: pytest.LogCaptureFixture) -> None:
    """A tracestate is handed on or discarded; it never costs the trace, and its text is never logged."""
    headers = [("traceparent", PARENT), *(("tracestate", value) for value in tracestates)]
    with caplog.at_level(logging.DEBUG):
        assert picture(headers) == f"same trace {expected}".rstrip()
    assert caplog.messages == []


HEADER_NAMES = [
    ("trace-parent is not traceparent", [("trace-parent", PARENT)], "new trace"),
    ("trace.parent is not traceparent", [("trace.parent", PARENT)], "new trace"),
    ("TraceParent is traceparent", [("TraceParent", PARENT)], "same trace"),
    ("TrAcEpArEnT is traceparent", [("TrAcEpArEnT", PARENT)], "same trace"),
    ("TRACEPARENT is traceparent", [("TRACEPARENT", PARENT)], "same trace"),
    ("trace-state is not tracestate", [("traceparent", PARENT), ("trace-state", "foo=1")], "same trace"),
    ("trace.state is not tracestate", [("traceparent", PARENT), ("trace.state", "foo=1")], "same trace"),
    ("TraceState is tracestate", [("traceparent", PARENT), ("TraceState", "foo=1")], "same trace foo=1"),
    ("TrAcEsTaTe is tracestate", [("traceparent", PARENT), ("TrAcEsTaTe", "foo=1")], "same trace foo=1"),
    ("TRACESTATE is tracestate", [("traceparent", PARENT), ("TRACESTATE", "foo=1")], "same trace foo=1"),
    ("tracestate without traceparent is discarded", [("tracestate", "foo=1,bar=2")], "new trace"),
]


@pytest.mark.parametrize(
    ("headers", "expected"), [pytest.param(row[1], row[2], id=row[0]) for row in HEADER_NAMES]
)
def test_header_names(headers: Headers, expected: str) -> None:
    """Two names are read, in any case, and the second only beside the first."""
    assert picture(headers) == expected


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        pytest.param([("traceparent", PARENT)], True, id="calls under a valid traceparent share its trace"),
        pytest.param([], False, id="calls without a traceparent have a new trace"),
        pytest.param(
            [("traceparent", f"00-{'0' * 32}-{SPAN}-01")],
            False,
            id="calls under an illegal traceparent have a new trace",
        ),
    ],
)
def test_several_calls(headers: Headers, same: bool) -> None:
    """The calls made for one request are in one trace, each with a parent id of its own."""
    calls = [carrier["traceparent"].split("-") for carrier in call_made_by(headers, calls=3)]
    trace_ids, span_ids = {call[1] for call in calls}, {call[2] for call in calls}
    assert (len(trace_ids), TRACE in trace_ids, len(span_ids)) == (1, same, 3)


@pytest.mark.parametrize(
    ("received", "sent"), [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("fc", "00")]
)
def test_flags(received: str, sent: str) -> None:
    """Sampled and random are handed on; flags that level 2 does not know are sent as zero."""
    assert injected(extracted(f"00-{TRACE}-{SPAN}-{received}")) == {
        "traceparent": f"00-{TRACE}-{SPAN}-{sent}"
    }


def test_unknown_flags_stay_outside() -> None:
    """Flags that level 2 does not know are dropped on the way in and, whoever set them, on the way out."""
    unmasked = SpanContext(int(TRACE, 16), int(SPAN, 16), True, TraceFlags(0xFF))
    assert extracted(f"00-{TRACE}-{SPAN}-ff").trace_flags == 3
    assert injected(unmasked) == {"traceparent": f"00-{TRACE}-{SPAN}-03"}


def test_random_flag_reaches_calls() -> None:
    """A random trace id is still called random two spans later."""
    (outgoing,) = call_made_by([("traceparent", f"00-{TRACE}-{SPAN}-02")])
    assert int(outgoing["traceparent"][-2:], 16) & TraceFlags.RANDOM_TRACE_ID == TraceFlags.RANDOM_TRACE_ID


def test_extracts_the_caller() -> None:
    """What is extracted is the caller's span, remote, with its flags and state."""
    caller = extracted(f"00-{TRACE}-{SPAN}-03", "foo=1")
    assert caller == SpanContext(
        int(TRACE, 16), int(SPAN, 16), True, TraceFlags(3), TraceState([("foo", "1")])
    )


@pytest.mark.parametrize(
    "traceparents",
    [
        [],
        [""],
        ["nonsense"],
        [PARENT, PARENT],
        [f"00-{'0' * 32}-{SPAN}-01"],
        [f"00-{TRACE}-{'0' * 16}-01"],
    ],
)
def test_returns_the_given_context(traceparents: list[str]) -> None:
    """Without a valid traceparent the given context comes back, and an empty one when none was given."""
    given_context, carrier = Context({"kept": "yes"}), {"traceparent": traceparents}
    assert TraceContextPropagator().extract(carrier, given_context) is given_context
    assert TraceContextPropagator().extract(carrier) == Context()


def test_keeps_the_rest_of_the_given_context() -> None:
    """The caller's span is added to what the given context holds."""
    context = TraceContextPropagator().extract({"traceparent": PARENT}, Context({"kept": "yes"}))
    assert (context["kept"], f"{get_current_span(context).get_span_context().trace_id:x}") == ("yes", TRACE)


@pytest.mark.parametrize("wrong", [PARENT.encode(), 7, [PARENT.encode()], [7], [None]])
def test_values_that_are_not_text(wrong: object) -> None:
    """A carrier with values that are not text is a carrier without them."""
    assert (extracted(wrong).is_valid, extracted(PARENT, wrong).trace_state.to_header()) == (False, "")


def test_injects_no_invalid_span() -> None:
    """Without a valid span nothing is written."""
    assert injected(SpanContext(0, int(SPAN, 16), is_remote=False)) == {}


def test_a_span_that_somebody_else_describes_is_handed_on() -> None:
    """By an object that merely has what a span context has."""
    ids = SimpleNamespace(is_valid=True, trace_id=1, span_id=2, trace_flags=1, trace_state=None)
    assert injected(ids) == {"traceparent": f"00-{1:032x}-{2:016x}-01"}  # type: ignore[arg-type] # as it says


def test_fields() -> None:
    """The propagator names what it writes."""
    assert TraceContextPropagator().fields == {"traceparent", "tracestate"}


def test_cuts_a_long_tracestate() -> None:
    """Above 8192 characters large members go from the right until it fits; small ones all stay."""
    large = [f"{'k' * 198}{number:02}={'v' * 256}" for number in range(28)]
    small = [f"s{number}={'v' * length}" for number, length in enumerate([98, 98, 98, 97])]
    kept = extracted(PARENT, ",".join(large + small)).trace_state.to_header()
    assert (kept, len(kept)) == (",".join(large[:17] + small), 8192)


@pytest.mark.parametrize(
    "tracestate", ["," * 100_000, "a" * 100_000, "a=" + " " * 100_000, " " * 20_000 + "a=1"]
)
def test_an_endless_tracestate_is_discarded(tracestate: str) -> None:
    """A header longer than any legal list is not even split."""
    assert extracted(PARENT, tracestate).trace_state.to_header() == ""


class TestLevelTwoTraceState:
    def test_samplers_keep_the_keys_of_others(self) -> None:
        """Adding, updating and deleting keep members that only level 2 allows."""
        state = LevelTwoTraceState.from_header(["1st=1,a@b@c=2"])
        assert state.add("ot", "th:8").to_header() == "ot=th:8,1st=1,a@b@c=2"
        assert state.update("a@b@c", "3").to_header() == "a@b@c=3,1st=1"
        assert state.delete("1st").to_header() == "a@b@c=2"

    @pytest.mark.parametrize(
        ("key", "value"), [("BAD", "1"), ("ok", ""), ("ok", "a,b"), ("a=b", "c"), (1, "1")]
    )
    def test_invalid_pairs_change_nothing(
        self, key: str, value: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What the rules forbid is dropped without a word."""
        state = LevelTwoTraceState([("foo", "1"), (key, value)])
        results = [state, state.add(key, value), state.update(key, value), state.delete("absent")]
        assert ([result.to_header() for result in results], caplog.messages) == (["foo=1"] * 4, [])

    def test_add_keeps_the_value_of_a_known_key(self) -> None:
        """Adding is not updating."""
        assert LevelTwoTraceState([("foo", "1")]).add("foo", "2").to_header() == "foo=1"

    def test_a_33rd_member_pushes_the_last_one_out(self) -> None:
        """Level 2 removes the right-most member for a new one, rather than refuse it."""
        full = LevelTwoTraceState.from_header([members(1, 32)])
        assert full.add("new", "1").to_header() == f"new=1,{members(1, 31)}"


hex_texts = st.text("0123456789abcdef", min_size=30, max_size=34)
parents_nearly = st.builds(
    "{}-{}-{}-{}{}".format, st.text(max_size=3), hex_texts, st.just(SPAN), st.just("01"), st.text()
)
keys = st.from_regex(r"[a-z0-9][a-z0-9_\-*/@]{0,30}", fullmatch=True)
values = st.from_regex(r"[ -+\--<>-~]{0,30}[!-+\--<>-~]", fullmatch=True)
span_contexts = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.just(True),
    trace_flags=st.integers(0, 3).map(TraceFlags),
    trace_state=st.dictionaries(keys, values, max_size=32).map(
        lambda state: LevelTwoTraceState(list(state.items()))
    ),
)


@given(
    traceparents=st.lists(st.text() | parents_nearly | st.just(PARENT), max_size=2),
    tracestates=st.lists(st.text() | st.text("ab=,@ \t\n1"), max_size=3),
)
def test_extract_never_raises(traceparents: list[str], tracestates: list[str]) -> None:
    """Whatever the headers say, extracting gives no span or a valid one, and it can be handed on."""
    carrier = {"traceparent": traceparents, "tracestate": tracestates}
    context = TraceContextPropagator().extract(carrier)
    caller = get_current_span(context).get_span_context()
    assert caller.is_valid == (context != {}) == bool(injected(caller))


@given(span_contexts)
def test_round_trip(span_context: SpanContext) -> None:
    """What is injected is extracted again, members in their order."""
    carrier = injected(span_context)
    arrived = get_current_span(TraceContextPropagator().extract(carrier)).get_span_context()
    assert (arrived, list(arrived.trace_state.items())) == (
        span_context,
        list(span_context.trace_state.items()),
    )


def test_imports_the_api_only() -> None:
    """The propagator works without an SDK installed."""
    tree = ast.parse(inspect.getsource(tracecontext))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [name for name in imported if name and name.startswith("opentelemetry.sdk")]
