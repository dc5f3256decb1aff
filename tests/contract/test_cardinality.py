"""The cardinality attack: a hundred thousand values, and memory stays while totals are exact."""

import tracemalloc

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags

from tercet.configure.metrics import build_meter_provider
from tercet.declare.metric import HTTP_CLIENT_DURATION
from tercet.declare.settings import Settings
from tercet.emit.declared import Counter, Histogram, Summary
from tercet.emit.metrics import build_recorder
from tercet.emit.registry import Registry

ATTACKS = 100_000
MEGABYTE = 2**20
#: As long as header values are.
TAIL = "x" * 1_000
SAMPLED = SpanContext(2**127, 2**63, False, TraceFlags(1))


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    return build_meter_provider(Settings.load({}), Resource({}), [reader]).get_meter("t")


@pytest.fixture
def registry(meter):
    registry = Registry()
    registry.bind(meter, raises=False)
    return registry


def declared_counter(registry, meter):
    orders = Counter("attacked", "Orders.", attributes=("user",), registry=registry)
    return lambda number: orders.add(1, user=f"{number} {TAIL}")


def declared_histogram(registry, meter):
    waits = Histogram("attacked", "Waits.", unit="s", attributes=("header",), registry=registry)
    return lambda number: waits.record(0.1, header=f"{number} {TAIL}")


def undeclared_attribute(registry, meter):
    orders = Counter("attacked", "Orders.", attributes=("user",), registry=registry)
    return lambda number: orders.add(1, **{f"key {number}": 1})


def http_histogram(registry, meter):
    from dataclasses import replace

    recorder = build_recorder(meter, replace(HTTP_CLIENT_DURATION, name="attacked"))
    return lambda number: recorder.record(0.1, ("GET", f"host{number}.example", 80, 200, None), SAMPLED)


def contrib_path(registry, meter):
    sizes = meter.create_histogram("attacked")
    return lambda number: sizes.record(1, {"url.path": f"/{number}/{TAIL}", "http.route": "/"})


def contrib_user(registry, meter):
    logins = meter.create_counter("attacked")
    return lambda number: logins.add(1, {"user.id": f"u{number}"})


@pytest.mark.parametrize(
    "attack",
    [
        declared_counter,
        declared_histogram,
        undeclared_attribute,
        http_histogram,
        contrib_path,
        contrib_user,
    ],
)
def test_memory_stays_and_totals_are_exact(attack, reader, meter, registry):
    """At most 10 MB for 100,000 values that nobody has seen before."""
    measure = attack(registry, meter)
    measure(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1, ATTACKS):
            measure(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
    (metric,) = [metric for scope in scopes for metric in scope.metrics if metric.name == "attacked"]
    counted = sum(
        point.count if hasattr(point, "count") else point.value for point in metric.data.data_points
    )
    assert (counted, after - before < 10 * MEGABYTE) == (ATTACKS, True), f"{(after - before) / MEGABYTE} MB"


def test_summaries_are_bounded_as_well(registry):
    """Each of their series holds more, so there are fewer of them."""
    sizes = Summary("attacked", "Sizes.", attributes=("user",), registry=registry)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(ATTACKS):
            sizes.record(1.0001**number, user=str(number))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10 * MEGABYTE
