"""Objectives beside the code: counted where they happen, in buckets that end where they must."""

import asyncio
import inspect
import itertools
import logging
import os
import re
import sys
from dataclasses import replace

import pytest
from asgi_driver import GONE, http_scope, play, play_failing
from measured import collected
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from tercet import Histogram, Objective, observed
from tercet.declare.metric import DURATION_BUCKETS, OPERATION_DURATION
from tercet.declare.objective import Indicator
from tercet.emit import asgi, starlette
from tercet.emit.asgi import AsgiEdge
from tercet.emit.contrib import ContribEdge
from tercet.emit.exchange import OWNER
from tercet.emit.registry import REGISTRY, Registry
from tercet.errors import MetricError, ObjectivesError
from tercet.export.metered import LeanMeterProvider
from tercet.generate import rules

EVENTS, DURATION = "slo.events", "http.server.request.duration"
DELTA = {SdkCounter: AggregationTemporality.DELTA}
ORDERS = {"http.route": "/orders"}


@pytest.fixture
def registry():
    return Registry()


def provided(*readers):
    return LeanMeterProvider(readers, Resource({}), TraceBasedExemplarFilter(), [])


@pytest.fixture
def reader(registry):
    """What collects all that is declared, as in a process that is set up."""
    reader = InMemoryMetricReader()
    reader.provider = provided(reader)
    registry.bind(reader.provider.get_meter("t"), raises=False)
    return reader


@pytest.fixture
def edge(registry, reader):
    """An edge that was there before any objective was declared, as under `tercet run`."""
    return AsgiEdge(excluded_paths=("/health",), meter_provider=reader.provider, registry=registry)


@pytest.fixture
def promise(registry):
    """Declare an objective on requests for `/orders`."""

    def declare(name="checkout", kind="availability", **given):
        return Objective(
            name, **{"kind": kind, "target": 0.99, "where": ORDERS, "registry": registry} | given
        )

    return declare


def events(reader, name="checkout"):
    """How many were good and how many bad."""
    found = collected(reader).get(EVENTS, {})
    return found.get((name, "good")), found.get((name, "bad"))


def serve(edge, status=200, *, route="/orders", fails=None, leaves=False, path="/orders"):
    """Let an application answer one request."""

    async def app(scope, receive, send):
        if OWNER in scope and scope[OWNER] is not None:
            scope[OWNER].route = route
        if fails is not None:
            raise fails
        if leaves:
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    (play if fails is None else play_failing)(
        lambda *arguments: edge.observe(app, *arguments), http_scope(path), [GONE] if leaves else ()
    )


def test_each_request_is_counted_by_the_rule_of_its_indicator(edge, reader, promise):
    """Failures of the service are bad, mistakes of its clients are not; other routes are not looked at."""
    promise()
    assert events(reader) == (0, 0)
    for status in (200, 201, 302, 404, 422):
        serve(edge, status)
    for status in (500, 503):
        serve(edge, status)
    serve(edge, fails=KeyError("lost"))
    serve(edge, fails=asyncio.CancelledError())
    serve(edge, leaves=True)
    assert events(reader) == (5, 5)
    serve(edge, 500, route="/other")
    serve(edge, 500, route=None)
    serve(edge, 500, path="/health")
    assert events(reader) == (5, 5)


def test_what_is_forgiven_is_good(edge, reader, promise):
    """By its `error.type`, as in the rules."""
    promise(forgive=["client_disconnected", "503"])
    serve(edge, leaves=True)
    serve(edge, 503)
    serve(edge, 500)
    assert events(reader) == (2, 1)


def test_what_is_bad_can_be_said(edge, reader, promise):
    """By any attribute that the metric has; `where` as well."""
    promise(where=ORDERS | {"http.request.method": ["GET", "POST"]}, bad={"http.response.status_code": "404"})
    promise("posts", where=ORDERS | {"http.request.method": "POST"})
    for status in (200, 404, 500):
        serve(edge, status)
    assert (events(reader), events(reader, "posts")) == ((2, 1), (0, 0))


def test_a_stream_is_bad_when_it_breaks(registry, reader, promise):
    """After its status has gone out; and the route is that of its application, mounts included."""

    async def parts():
        yield "one"
        raise RuntimeError("the shelf fell down")

    async def endpoint(request):
        return StreamingResponse(parts()) if "breaks" in request.url.query else PlainTextResponse("ok")

    app = Starlette(routes=[Mount("/api", routes=[Route("/orders", endpoint)])])
    promise(where={"http.route": "/api/orders"})
    before = asgi.installed
    asgi.install(AsgiEdge(meter_provider=reader.provider, registry=registry))
    starlette.install()
    try:
        play(app, http_scope("/api/orders"))
        play_failing(app, http_scope("/api/orders", query_string=b"breaks"))
    finally:
        asgi.install(before)
    assert events(reader) == (1, 1)


def record(edge, seconds, route="/orders", failure=None):
    edge.duration.record(seconds, ("GET", "http", route, 200, failure), INVALID_SPAN_CONTEXT)


def test_a_threshold_is_exact(edge, reader, promise):
    """Wherever it is: what takes just as long is fast enough, as in a bucket that ends there."""
    promise(kind="latency", below="123ms")
    for seconds in (0.01, 0.123, 0.12300001, 9):
        record(edge, seconds)
    assert events(reader) == (2, 2)


def test_one_request_may_be_an_event_of_several_objectives(edge, reader, promise):
    """Each has its own rule."""
    promise(), promise("all", where={}), promise("fast", kind="latency", below=0.5, where={})
    record(edge, 1.0, failure="500"), record(edge, 0.1), record(edge, 0.1, route=None)
    assert [events(reader, name) for name in ("checkout", "all", "fast")] == [(1, 1), (2, 1), (2, 1)]


def test_every_measurement_that_the_rules_call_bad_is_counted_as_bad(registry):
    """Whatever the attributes: the matchers of the rules and the running code say the same."""

    def matches(match, labels):
        value = labels.get(match.label, "")
        same = re.fullmatch(match.value, value) is not None if "~" in match.operator else value == match.value
        return same is (match.operator[0] != "!")

    plain = Indicator(kind="availability", where=(("http.route", ("/a", "/b.c")),))
    indicators = [
        plain,
        replace(plain, forgiven=("client_disconnected", "a.b")),
        replace(plain, where=(), bad=(("http.response.status_code", ("500", "404")), ("error.type", ("",)))),
        replace(plain, where=(("error.type", ("", "500")),)),
    ]
    routes, statuses, failures = ("/a", "/b.c", "/bxc", ""), ("200", "404", "500"), ("", "500", "a.b", "axb")
    for indicator in indicators:
        selection = rules._filter(indicator.where)
        for route, status, failure in itertools.product(routes, statuses, failures):
            attributes = {"http.route": route, "http.response.status_code": status, "error.type": failure}
            attributes = {key: value for key, value in attributes.items() if value}
            labels = {key.replace(".", "_"): value for key, value in attributes.items()}
            assert indicator.takes(attributes) is all(matches(each, labels) for each in selection)
            is_bad = all(matches(each, labels) for each in rules.bad_selection(indicator))
            assert (indicator.slowest(attributes) < 0) is is_bad


def steps(function):
    """Count the instructions of Python that a call takes."""
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_a_request_that_is_no_event_takes_not_one_step_more(edge, promise):
    """Before and after an objective is declared; one that is an event takes some."""

    def taken(route):
        record(edge, 0.1, route)
        return steps(lambda: record(edge, 0.1, route))

    without = taken("/other")
    promise()
    assert without == taken("/other") < taken("/orders")


def test_objectives_come_in_any_order(edge, reader, promise):
    """Also while requests are served already, whose series are known by then."""
    record(edge, 0.1)
    promise()
    record(edge, 0.1)
    promise("again")
    record(edge, 0.1)
    assert (events(reader), events(reader, "again")) == ((2, 0), (1, 0))


def test_the_two_series_are_all_there_is(edge, reader, registry, promise):
    """However many routes and errors there are; beyond the limit of the histogram, too."""
    promise(where={})
    edge.duration.most_series = 10
    for number in range(100):
        record(edge, 0.1, f"/{number}", failure="500" if number % 2 else None)
    record(edge, 0.1, "x" * 500)
    assert set(collected(reader)[EVENTS]) == {("checkout", "good"), ("checkout", "bad")}
    assert events(reader) == (51, 50)
    assert len(edge.duration._uncounted) + len(edge.duration._counts) <= 10


def test_an_objective_works_before_the_process_is_set_up(registry, promise):
    """And its zeros are there from the first export on."""
    stock = promise("stock", counted="calls", where=None)
    stock.good(3)
    reader = InMemoryMetricReader()
    registry.bind(provided(reader).get_meter("t"), raises=False)
    assert events(reader, "stock") == (3, 0)


def test_calls_count_what_only_the_code_knows(registry, reader, promise):
    """Misuse raises in development and is counted elsewhere."""
    stock, checkout = promise("stock", counted="calls", where=None), promise()
    stock.good(), stock.bad(2)
    assert (repr(stock), events(reader, "stock")) == ("<Objective stock>", (1, 2))
    checkout.bad(), stock.good(-1), stock.good(0.5)
    assert (events(reader), events(reader, "stock")) == ((None, None), (1, 2))
    assert collected(reader)["tercet.metrics.misused"] == {(EVENTS, "not_by_calls"): 3}
    registry.raises = True
    with pytest.raises(MetricError, match=r"bad\(\) must be called .+ counted by source\. Write counted="):
        checkout.bad()


def test_what_is_observed_is_counted_too(seen, monkeypatch):
    """Where `@observed` measures it, in the registry of the process."""
    monkeypatch.setattr(REGISTRY.objectives, "_promises", {})
    Objective(
        "observed-jobs",
        kind="availability",
        target=0.99,
        metric=OPERATION_DURATION.name,
        where={"operation": "observed job"},
        forgive="KeyError",
    )

    @observed("observed job", kind="mail")
    def job(error=None):
        if error is not None:
            raise error

    job()
    for error in (KeyError(), ValueError()):
        with pytest.raises(type(error)):
            job(error)
    counted = {
        (each.attributes["slo"], each.attributes["outcome"]): each.value for each in seen.measured(EVENTS)
    }
    assert (counted["observed-jobs", "good"], counted["observed-jobs", "bad"]) == (2, 1)


def test_contribs_edge_counts_as_well(registry, reader, promise):
    """It measures in buckets of its own views, but each request is an event."""
    promise()
    edge = ContribEdge(registry=registry)
    serve_through(edge, 200), serve_through(edge, 500)
    assert events(reader) == (1, 1)


def serve_through(edge, status):
    async def app(scope, receive, send):
        scope[OWNER].route = "/orders"
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    play(lambda *arguments: edge.observe(app, *arguments), http_scope("/orders"))


def test_an_objective_of_another_service_is_not_counted_here(edge, reader, registry, promise):
    """A module may declare those of all services; which one this is, is known from the set-up on."""
    promise(service="shop")
    theirs = promise("theirs", service="bank", counted="calls", where=None)
    assert EVENTS not in collected(reader)
    registry.objectives.bind("shop")
    theirs.bad()
    record(edge, 0.1)
    assert collected(reader)[EVENTS] == {("checkout", "good"): 1, ("checkout", "bad"): 0}


def test_of_two_objectives_of_one_name_the_first_is_counted(edge, reader, registry, promise, caplog):
    """Where only one names the service, it shows when we know that this is us."""
    promise(), promise(service="shop", target=0.95)
    assert caplog.messages == []
    registry.objectives.bind("shop")
    (told,) = caplog.messages
    assert "Objective('checkout').name must be unique in shop" in told
    record(edge, 0.1)
    assert events(reader) == (1, 0)


def test_two_objectives_of_one_name_are_refused(registry, promise):
    """Both places are named; the same one twice is one."""

    def again():
        return promise("twice", below=2, kind="latency")

    again(), again()
    place = r"test_objective\.py:\d+"
    told = rf"{place}: Objective\('twice'\)\.name must be unique, and .+{place} has it, got 'twice'"
    with pytest.raises(ObjectivesError, match=told):
        Objective("twice", kind="availability", target=0.99, registry=registry)


def test_code_outside_the_working_directory_is_named_in_full(promise, tmp_path, monkeypatch):
    """Also where that directory is gone."""
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(
        ObjectivesError, match=rf"^{re.escape(__file__)}:\d+: Objective\('checkout'\)\.target"
    ):
        promise(target=99)


def test_where_nobody_measures_nothing_is_there(registry, promise):
    """Not even zeros, which would look like a promise that is kept: the alert on that can fire."""
    promise(), promise("stock", counted="calls", where=None)
    reader = InMemoryMetricReader()
    registry.bind(provided(reader).get_meter("t"), raises=False)
    assert set(collected(reader)[EVENTS]) == {("stock", "good"), ("stock", "bad")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_forked_child_begins_at_zero(edge, reader, promise):
    """With both series there, and nothing of its parent's."""
    promise()
    record(edge, 0.1)
    record(edge, 0.1, "/other")
    child = os.fork()
    if not child:
        before = events(reader)
        record(edge, 0.1, failure="500"), record(edge, 0.1, "/other")
        others = collected(reader)[DURATION]
        os._exit(0 if (before, events(reader), set(others.values())) == ((0, 0), (0, 1), {1}) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Buckets.


def bounds(reader, name=DURATION):
    data = reader.get_metrics_data()
    (found,) = [
        metric.data.data_points[0]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
    ]
    return found.explicit_bounds, found.bucket_counts


def test_buckets_end_at_the_threshold_and_at_what_symptoms_look_at(edge, reader, promise):
    """Declared after the edge, or before it."""
    promise(kind="latency", below="300ms", symptoms=[{"above": "2s", "severity": "SEV-2"}])
    record(edge, 0.3)
    ends, counts = bounds(reader)
    assert set(ends) == {*DURATION_BUCKETS, 0.3, 2.0}
    assert counts[ends.index(0.3)] == 1


def test_an_edge_takes_the_bounds_that_are_there(registry, reader, promise):
    """As where the application is imported before its telemetry."""
    promise(kind="latency", below="300ms")
    record(AsgiEdge(meter_provider=reader.provider, registry=registry), 0.1)
    assert 0.3 in bounds(reader)[0]


def test_two_edges_of_one_provider_count_each_request_once(registry, reader, promise):
    """They have one histogram."""
    edges = [AsgiEdge(meter_provider=reader.provider, registry=registry) for _ in range(2)]
    promise()
    for edge in edges:
        serve(edge)
    assert events(reader) == (2, 0)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_declared_histogram_has_them_too(registry, reader, promise, is_first):
    """Its own, and those of a bound child, which counts on."""
    waited = Histogram("waited", "Waited.", unit="s", buckets=(1, 5), registry=registry)
    bound = waited.bind()
    if not is_first:
        bounds(reader, "waited")
    promise("wait", kind="latency", below=2.5, metric=waited, where=None)
    bound.record(2)
    assert bounds(reader, "waited") == ((1, 2.5, 5), [0, 1, 0, 0])
    again = Histogram("waited", "Waited.", unit="s", buckets=(1, 5), registry=registry)
    again.record(4)
    assert bounds(reader, "waited")[1] == [0, 1, 1, 0]


def test_what_is_measured_already_stays_in_its_buckets(edge, reader, promise, caplog):
    """Nobody knows on which side it was; it is said once, and events are counted exactly all the same."""
    record(edge, 0.4)
    with caplog.at_level(logging.WARNING, "tercet"):
        promise(kind="latency", below="300ms"), promise("other")
    record(edge, 0.4), record(edge, 0.2)
    assert bounds(reader)[0] == DURATION_BUCKETS
    assert events(reader) == (1, 1)
    (told,) = caplog.messages
    assert re.search(r"Objective\('checkout'\) must be declared before http\.server\.request\.duration", told)


def test_a_reader_of_what_is_new_sees_the_same_buckets(registry, promise):
    """Its account has the new bounds as well."""
    reader = InMemoryMetricReader(preferred_temporality=DELTA)
    reader.provider = provided(reader)
    waited = Histogram("waited", "Waited.", unit="s", buckets=(1,), registry=registry)
    registry.bind(reader.provider.get_meter("t"), raises=False)
    waited.bind()
    promise("wait", kind="latency", below=2.5, metric=waited, where=None)
    waited.record(2)
    assert bounds(reader, "waited") == ((1, 2.5), [0, 1, 0])


def test_a_provider_of_somebody_else_is_no_trouble(registry, promise):
    """It takes no ledgers: its instruments have the buckets that they have, and requests are served."""
    promise(kind="latency", below="300ms")
    reader = InMemoryMetricReader()
    edge = AsgiEdge(meter_provider=MeterProvider([reader], shutdown_on_exit=False), registry=registry)
    serve(edge)
    assert collected(reader)[DURATION]


def test_code_can_say_what_a_document_can():
    """By the same names."""
    from tercet.declare.entry import KEYS

    given = set(inspect.signature(Objective).parameters) - {"registry"}
    assert given == set(KEYS)
