"""One id: what is taken from a caller, what is replaced, and where it can be read."""

import asyncio
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, metrics, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagate import get_global_textmap

from tercet.emit import threads
from tercet.emit.correlation import (
    LONGEST,
    CorrelationPropagator,
    attribute,
    correlation_id,
    flaw,
    shown_ids,
    with_correlation_id,
)
from tercet.emit.exchange import id_headers

GOOD = [
    "a",
    "7f3a-b2",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "Root=1-67891233-abcdef012345678912345678",
    "a" * LONGEST,
]
BAD = {
    "": "length",
    "a" * (LONGEST + 1): "length",
    "a" * 10_240: "length",
    "x\r\nSet-Cookie: a=b": "characters",
    "x\n": "characters",
    "x\x00y": "characters",
    "x\x1b[31m": "characters",
    "naïve": "characters",
    "日本": "characters",
    "\ud800": "characters",
    "a b": "characters",
    "a,b": "characters",
    '"a"': "characters",
    "<script>": "characters",
    "${jndi:ldap://x}": "characters",
    "-a": "characters",
    "a.": "characters",
}


def taken(*headers):
    """Read the id from headers, as (the id, reasons counted)."""
    counted, carrier = [], {}
    for name, value in headers:
        carrier.setdefault(name, []).append(value)
    context = CorrelationPropagator(counted.append).extract(carrier, Context())
    return correlation_id(context), counted


@pytest.fixture
def carried():
    """Work on behalf of a caller who sent an id."""
    token = attach(with_correlation_id("from-caller", Context()))
    yield
    detach(token)


@pytest.mark.parametrize("value", GOOD)
def test_a_usable_id_is_taken_as_it_is(value):
    """The ids that services and clouds make pass unchanged."""
    assert taken(("x-correlation-id", value)) == (value, [])


@pytest.mark.parametrize(
    ("value", "expected"), [("abc  ", ("abc", [])), ("\t abc", ("abc", [])), (" \t", ("", []))]
)
def test_white_space_around_an_id_is_no_part_of_it(value, expected):
    """Some servers hand it on, and a header of nothing else is as good as none."""
    assert taken(("x-correlation-id", value)) == expected


@pytest.mark.parametrize("value", BAD, ids=ascii)
def test_a_hostile_id_is_replaced_and_counted_by_its_flaw(value):
    """Nothing that could end a header, a line or a query is ever carried."""
    assert taken(("x-correlation-id", value)) == ("", [BAD[value]] if value else [])
    assert flaw(value) == BAD[value]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("X-Correlation-ID", "a")], ("a", [])),
        ([("X-Request-ID", "b")], ("b", [])),
        ([("x-request-id", "b"), ("x-correlation-id", "a")], ("a", [])),
        ([("X-Correlation-ID", "a"), ("X-Correlation-ID", "a")], ("a", [])),
        ([("X-Correlation-ID", "a"), ("X-Correlation-ID", "b")], ("", ["ambiguous"])),
        ([("X-Correlation-ID", "a b"), ("X-Request-ID", "c")], ("", ["characters"])),
        ([("X-Correlation-ID", ""), ("X-Request-ID", "c")], ("c", [])),
        ([], ("", [])),
    ],
)
def test_the_header_goes_before_its_alias_and_two_that_differ_are_none(headers, expected):
    """Who reads the headers never has to guess."""
    assert taken(*headers) == expected


@pytest.mark.parametrize("value", [b"bytes", 5, [5], [["a"], ["b"]], None, ["a", 5], {}])
def test_a_carrier_that_is_no_http_message_is_survived(value):
    """Headers of a queue hold anything."""
    counted = []
    context = CorrelationPropagator(counted.append).extract({"X-Correlation-ID": value}, Context())
    assert correlation_id(context) == ""


@given(
    value=st.text(st.characters(), max_size=200), header=st.sampled_from(["X-Correlation-ID", "x-request-id"])
)
def test_whatever_is_accepted_is_safe_everywhere(value, header):
    """What passes can stand in a header, in a line of a log and in JSON without an escape."""
    identifier, counted = taken((header, value))
    sent = value.strip(" \t")
    assert identifier in ("", sent)
    assert bool(identifier) != bool(counted) or not sent
    if identifier:
        identifier.encode("ascii")
        assert identifier.isprintable()
        assert identifier == identifier.strip()
        assert json.dumps(identifier) == f'"{identifier}"'


def test_replacing_is_counted_as_a_metric_and_never_logged(seen):
    """The metric says why; no line says what."""
    carrier = {"X-Correlation-ID": "evil\r\nvalue"}
    with trace.get_tracer("t").start_as_current_span("serve"):
        CorrelationPropagator().extract(carrier)
        logging.getLogger("orders").info("served")
    (series,) = seen.measured("tercet.correlation.replaced")
    assert (series.attributes, series.value) == ({"reason": "characters"}, 1)
    assert "evil" not in repr([record.log_record for record in seen.logs])


def test_hostile_ids_make_no_instruments_before_the_setup():
    """Without a provider the API keeps each instrument, so there is one for all."""
    provider = metrics._internal._PROXY_METER_PROVIDER
    before = len(provider._meters)
    for _ in range(3):
        CorrelationPropagator().extract({"X-Correlation-ID": "a b"})
    assert len(provider._meters) == before


def test_the_id_is_sent_on(carried):
    """A call carries the id of its caller."""
    outgoing = {}
    CorrelationPropagator().inject(outgoing)
    assert outgoing == {"X-Correlation-ID": "from-caller"}
    assert CorrelationPropagator().fields == {"X-Correlation-ID"}


def test_without_an_id_nothing_is_sent():
    """No work, no header."""
    outgoing = {}
    CorrelationPropagator().inject(outgoing, Context())
    assert outgoing == {}


def test_without_a_callers_id_the_trace_id_is_the_id(seen):
    """One search finds the trace and its logs."""
    with trace.get_tracer("t").start_as_current_span("serve") as span:
        expected = f"{span.get_span_context().trace_id:032x}"
        outgoing = {}
        CorrelationPropagator().inject(outgoing)
        assert (correlation_id(), outgoing) == (expected, {"X-Correlation-ID": expected})
    assert correlation_id() == ""


class Refusing:
    """Something that is neither true nor false."""

    def __bool__(self):
        raise ValueError


@pytest.mark.parametrize("foreign", [Refusing(), b"mine", 7, ""])
def test_what_is_no_id_is_none(seen, foreign):
    """The trace id stands in for it, whatever somebody has put there."""
    context = with_correlation_id(foreign, Context())
    with trace.get_tracer("t").start_as_current_span("serve", context) as span:
        ids = span.get_span_context()
        trace_id = f"{ids.trace_id:032x}"
        assert shown_ids(ids, foreign)[2] == correlation_id() == trace_id
        assert id_headers([], ids, foreign)[0] == (b"x-correlation-id", trace_id.encode())
        assert seen.spans == []
    assert seen.spans[0].attributes["correlation_id"] == trace_id


def test_the_id_stands_on_every_span(seen, carried):
    """Whoever starts a span, the id is on it; without a caller's, its trace id is."""
    with trace.get_tracer("t").start_as_current_span("with"):
        pass
    with trace.get_tracer("t").start_as_current_span("without", context=Context()) as span:
        own = f"{span.get_span_context().trace_id:032x}"
    assert [span.attributes["correlation_id"] for span in seen.spans] == ["from-caller", own]
    assert attribute(None, 1) == {"correlation_id": "from-caller"}


def test_the_global_propagator_round_trips_all_three(seen):
    """Trace context, baggage and the id cross together."""
    outgoing = {}
    with trace.get_tracer("t").start_as_current_span("call") as span:
        context = with_correlation_id("abc", baggage.set_baggage("team", "checkout"))
        get_global_textmap().inject(outgoing, context)
    incoming = get_global_textmap().extract(outgoing, Context())
    assert correlation_id(incoming) == "abc"
    assert baggage.get_baggage("team", incoming) == "checkout"
    assert trace.get_current_span(incoming).get_span_context().trace_id == span.get_span_context().trace_id


def in_a_thread(read):
    found = []
    thread = threading.Thread(target=lambda: found.append(read()))
    thread.start()
    thread.join()
    return found[0]


def in_a_pool(read):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read).result()


def in_a_mapped_pool(read):
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(lambda _: read(), [1]))


def in_a_timer(read):
    found = []
    timer = threading.Timer(0, lambda: found.append(read()))
    timer.start()
    timer.join()
    return found[0]


def in_a_task(read):
    async def work():
        return read()

    async def main():
        return await asyncio.create_task(work())

    return asyncio.run(main())


def in_an_executor(read):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(None, read)

    return asyncio.run(main())


def in_to_thread(read):
    async def main():
        return await asyncio.to_thread(read)

    return asyncio.run(main())


@pytest.mark.parametrize(
    "elsewhere",
    [in_a_thread, in_a_pool, in_a_mapped_pool, in_a_timer, in_a_task, in_an_executor, in_to_thread],
)
def test_the_id_is_read_wherever_work_is_handed_to(elsewhere, carried):
    """Background work belongs to the request that started it."""
    threads.install()
    assert elsewhere(correlation_id) == "from-caller"
