"""Metrics of one's own: what is counted, what is refused, and what is kept."""

import os
import signal
import threading
from decimal import Decimal
from enum import Enum, IntEnum

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import Counter as SdkCounter
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

import tercet
from tercet.declare.metric import LONGEST_VALUE
from tercet.emit.declared import Counter, Gauge, Histogram, Summary, UpDownCounter
from tercet.emit.registry import Registry
from tercet.errors import MetricError
from tercet.export.metered import LeanMeterProvider, adopt
from tercet.export.points import PostedPoints

DELTA = {SdkCounter: AggregationTemporality.DELTA}


class Reader(InMemoryMetricReader):
    """Takes everything."""

    takes_summaries = PostedPoints.takes_summaries


@pytest.fixture
def registry():
    return Registry()


def provided(*readers, most_series=2000):
    return LeanMeterProvider(readers, Resource({}), TraceBasedExemplarFilter(), [], most_series)


@pytest.fixture
def reader(registry):
    """What collects all that is declared; misuse is counted."""
    reader = Reader()
    registry.bind(provided(reader).get_meter("t"), raises=False)
    return reader


@pytest.fixture
def raising(registry, reader):
    """As in development."""
    registry.raises = True


def collected(reader):
    """All metrics, by name."""
    data = reader.get_metrics_data()
    resources = data.resource_metrics if data is not None else ()
    return {m.name: m for resource in resources for scope in resource.scope_metrics for m in scope.metrics}


def pictures(reader, *names):
    """The value, or the count, of each series by its attribute values, in one collection."""
    metrics = collected(reader)
    found = [metrics[name].data.data_points if name in metrics else () for name in names]
    return [
        {tuple(p.attributes.values()): p.value if hasattr(p, "value") else p.count for p in points}
        for points in found
    ]


def picture(reader, name):
    """The same of one metric; empty when it is not there."""
    return pictures(reader, name)[0]


def test_declaring_is_enough(registry, reader):
    """A counter counts by its attributes; those left out are not there."""
    orders = Counter("orders", "Orders.", attributes=("status", "payment_method"), registry=registry)
    orders.add(1, status="paid", payment_method="card")
    orders.add(2, payment_method="card", status="paid")
    orders.add(status="failed")
    assert picture(reader, "orders") == {("paid", "card"): 3, ("failed",): 1}
    assert repr(orders) == "<Counter orders>"


def test_what_is_counted_before_the_set_up_is_exported_after_it(registry):
    """To readers of both temporalities; what is declared later, too."""
    orders = Counter("orders", "Orders.", registry=registry)
    orders.add(3)
    whole, delta = Reader(), Reader(DELTA)
    registry.bind(provided(whole, delta).get_meter("t"), raises=False)
    late = Counter("late", "Late.", registry=registry)
    late.add(1)
    orders.add(1)
    found = [pictures(each, "orders", "late") for each in (whole, delta)]
    assert found == [[{(): 4}, {(): 1}]] * 2
    orders.add(1)
    assert [picture(each, "orders") for each in (whole, delta)] == [{(): 5}, {(): 1}]


def test_every_kind_measures(registry, reader):
    """Keys with dots are passed as a mapping."""
    jobs = UpDownCounter("jobs", "Jobs.", attributes=("queue",), registry=registry)
    jobs.add(2, queue="mail")
    jobs.add(-1, queue="mail")
    heat = Gauge("heat", "Heat.", unit="Cel", attributes=("oven.name",), registry=registry)
    heat.set(-3.5, **{"oven.name": "left"})
    wait = Histogram("wait", "Wait.", unit="s", attributes=("queue",), registry=registry)
    wait.record(0.3, queue="mail")
    size = Summary("size", "Size.", quantiles=(0.5, 1), registry=registry)
    for number in (1, 2, 3):
        size.record(number)
    metrics = collected(reader)
    (summed,) = metrics["size"].data.data_points
    assert [picture(reader, name) for name in ("jobs", "heat", "wait", "size")] == [
        {("mail",): 1},
        {("left",): -3.5},
        {("mail",): 1},
        {(): 3},
    ]
    assert (summed.sum, summed.attributes) == (6, {})
    assert [(q, round(value, 1)) for q, value in summed.quantiles] == [(0.5, 2.0), (1, 3.0)]
    assert metrics["jobs"].data.is_monotonic is False
    assert metrics["wait"].data.data_points[0].explicit_bounds[0] == 0.005
    assert jobs.metric.unit == ""


def test_buckets_fit_the_unit_or_are_given(registry):
    """Seconds get those of requests, others OpenTelemetry's."""
    buckets = [
        Histogram("a", "A.", unit="s", registry=registry).metric.buckets[-1],
        Histogram("b", "B.", registry=registry).metric.buckets[-1],
        Histogram("c", "C.", buckets=[1, 2], registry=registry).metric.buckets,
    ]
    assert buckets == [10.0, 10_000, (1, 2)]


def test_a_bound_child_measures_the_same_series(registry, reader):
    """And is there, at zero, before it has measured; a gauge is not, for zero would be untrue."""
    orders = Counter("orders", "Orders.", attributes=("status",), registry=registry)
    wait = Histogram("wait", "Wait.", unit="s", attributes=("queue",), registry=registry)
    size = Summary("size", "Size.", attributes=("queue",), registry=registry)
    heat = Gauge("heat", "Heat.", attributes=("oven",), registry=registry)
    paid, mail, small = orders.bind(status="paid"), wait.bind(queue="mail"), size.bind(queue="mail")
    left = heat.bind(oven="left")
    assert [picture(reader, name) for name in ("orders", "wait", "size", "heat")] == [
        {("paid",): 0},
        {("mail",): 0},
        {("mail",): 0},
        {},
    ]
    (empty,) = collected(reader)["wait"].data.data_points
    assert (empty.min, empty.max) == (0, 0)
    paid.add()
    orders.add(1, status="paid")
    mail.record(0.1)
    small.record(0.1)
    left.set(7)
    assert [picture(reader, name) for name in ("orders", "wait", "size", "heat")] == [
        {("paid",): 2},
        {("mail",): 1},
        {("mail",): 1},
        {("left",): 7},
    ]


def test_series_that_are_ready_are_there_at_zero(registry, reader):
    """All combinations of a mapping's values, or those of a list; the only one there can be, always."""
    keys = ("status", "method")
    whole = {"status": ["paid", "failed"], "method": ["card", None]}
    Counter("a", "A.", attributes=keys, ready=whole, registry=registry)
    Counter("b", "B.", attributes=keys, ready=[{"status": "paid"}], registry=registry)
    Counter("c", "C.", registry=registry)
    Counter("d", "D.", attributes=keys, registry=registry)
    assert [picture(reader, name) for name in "abcd"] == [
        {("paid", "card"): 0, ("paid",): 0, ("failed", "card"): 0, ("failed",): 0},
        {("paid",): 0},
        {(): 0},
        {},
    ]


def test_a_sampled_span_becomes_an_exemplar(seen, registry, reader):
    """Which leads from the number to the trace."""
    wait = Histogram("wait", "Wait.", unit="s", registry=registry)
    with trace.get_tracer("t").start_as_current_span("job") as span:
        wait.record(0.3)
    (point,) = collected(reader)["wait"].data.data_points
    assert [exemplar.trace_id for exemplar in point.exemplars] == [span.get_span_context().trace_id]


@pytest.mark.parametrize(
    "misuse",
    [
        (
            lambda m: m["orders"].add(1, status="paid", user="u1"),
            "unknown_attribute",
            r"orders: attributes must be among \('status',\), got 'user'\. Declare it, or leave it out\.",
        ),
        (
            lambda m: m["orders"].add(-1),
            "negative",
            r"orders: .* zero or more, got -1\. Use an UpDownCounter\.",
        ),
        (
            lambda m: m["orders"].bind(status="paid").add(-1),
            "negative",
            r"orders: .* zero or more, got -1\. .+",
        ),
        (
            lambda m: m["wait"].bind().record(-2),
            "negative",
            r"wait: .* zero or more, got -2\. Leave it out\.",
        ),
        (lambda m: m["wait"].record(-0.5), "negative", r"wait: .* zero or more, got -0.5\. Leave it out\."),
        (lambda m: m["wait"].record(float("nan")), "not_a_number", r"wait: .* finite number, got 'nan'\. .+"),
        (lambda m: m["heat"].set(float("-inf")), "not_a_number", r"heat: .* finite number, got '-inf'\. .+"),
        (lambda m: m["heat"].set("3"), "not_a_number", r"heat: .* finite number, got '3'\. .+"),
        (lambda m: m["orders"].add(None), "not_a_number", r"orders: .* finite number, got None\. .+"),
        (lambda m: m["orders"].add(10**400), "not_a_number", r"orders: .* finite number, got '1000*'\. .+"),
        (
            lambda m: Gauge("orders", "Other.", registry=m["registry"]).set(1),
            "name_clash",
            r"orders: name must be its own, but orders is declared already, as counter with .+",
        ),
        (
            lambda m: Counter("Orders", "Other.", registry=m["registry"]).add(1),
            "name_clash",
            r"Orders: name must be its own, but orders is declared .+",
        ),
        (
            lambda m: Counter("orders_total", "Other.", registry=m["registry"]).bind(),
            "name_clash",
            r"orders_total: name must be its own, but orders is declared .+",
        ),
        (
            lambda m: Counter("http.server.request.duration", "Mine.", registry=m["registry"]).add(1),
            "name_clash",
            r"http.server.request.duration: name must be its own, .+ as histogram .+",
        ),
    ],
)
def test_misuse_raises_in_development_and_is_counted_in_production(reader, caplog, registry, misuse):
    """It never does both; in production it is said once a minute, and nothing else is affected."""
    use, reason, message = misuse
    metrics = {
        "orders": Counter("orders", "Orders.", attributes=("status",), registry=registry),
        "wait": Histogram("wait", "Wait.", unit="s", registry=registry),
        "heat": Gauge("heat", "Heat.", registry=registry),
        "registry": registry,
    }
    use(metrics)
    use(metrics)
    counted = picture(reader, "tercet.metrics.misused")
    assert [(key[1], value >= 2) for key, value in counted.items()] == [(reason, True)]
    assert len(caplog.records) == 1
    registry.raises = True
    with pytest.raises(MetricError, match=f"^{message}$"):
        use(metrics)
    assert picture(reader, "tercet.metrics.misused") == counted


def test_an_unknown_attribute_stays_out_and_its_measurement_in(registry, reader):
    """The total is right whatever was written beside it."""
    orders = Counter("orders", "Orders.", attributes=("status",), registry=registry)
    orders.add(1, status="paid", user="u1")
    orders.add(1, user="u2")
    assert picture(reader, "orders") == {("paid",): 1, (): 1}


def test_before_any_set_up_misuse_is_counted(registry, caplog):
    """And not forgotten."""
    orders = Counter("orders", "Orders.", registry=registry)
    orders.add(-1)
    orders.add(-1)
    reader = Reader()
    registry.bind(provided(reader).get_meter("t"), raises=True)
    assert picture(reader, "tercet.metrics.misused") == {("orders", "negative"): 2}
    assert len(caplog.records) == 1


def test_the_same_declaration_is_the_same_metric(registry, reader):
    """However often it is made."""
    for _ in range(3):
        Counter("orders", "Orders.", attributes=["status"], registry=registry).add(1, status="paid")
    assert picture(reader, "orders") == {("paid",): 3}


def test_a_clash_costs_only_the_later_one(registry, reader):
    """The earlier goes on, and the later one is exported nowhere."""
    orders = Counter("orders", "Orders.", registry=registry)
    Counter("orders.total", "Other.", registry=registry).add(5)
    orders.add(1)
    assert picture(reader, "orders") == {(): 1}
    assert "orders.total" not in collected(reader)
    assert [metric.name for metric in registry.declared()] == ["orders"]


class Status(str, Enum):  # noqa: UP042 - as it was written before there was StrEnum
    """As applications have them."""

    PAID = "paid"


class Code(IntEnum):
    """Likewise."""

    OK = 200


class Unspeakable:
    """Cannot say what it is."""

    __hash__ = None

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("paid", "paid"),
        (Status.PAID, "paid"),
        (7, 7),
        (Code.OK, 200),
        (True, True),
        (0.5, "0.5"),
        (["a"], "['a']"),
        (2**80, str(2**80)),
        ("x" * 1_000_000, "x" * LONGEST_VALUE),
        ("\ud800", "?"),
        (Unspeakable(), "Unspeakable"),
    ],
)
def test_any_value_becomes_one_that_can_be_exported(registry, reader, value, kept):
    """Cut to what is worth keeping; what is cut to the same is counted together."""
    orders = Counter("orders", "Orders.", attributes=("status",), registry=registry)
    orders.add(1, status=value)
    orders.add(1, status=value)
    ((found,),) = picture(reader, "orders")
    assert (picture(reader, "orders"), type(found)) == ({(kept,): 2}, type(kept))


def test_any_number_can_be_added(registry, reader):
    """Decimals and what is larger than the wire's whole numbers become floats."""
    revenue = Counter("revenue", "Revenue.", registry=registry)
    revenue.add(Decimal("1.5"))
    revenue.add(2**63)
    assert picture(reader, "revenue") == {(): float(2**63)}
    many = UpDownCounter("many", "Many.", registry=registry)
    for _ in range(2**11):
        many.add(2**53)
    assert picture(reader, "many") == {(): float(2**64)}
    assert type(picture(reader, "many")[()]) is float


def test_series_are_bounded_and_said_once(registry, caplog):
    """The warning names the metric and the attribute to blame; the totals stay exact."""
    orders = Counter("orders", "Orders.", attributes=("status", "user"), registry=registry)
    few = Counter("few", "Few.", attributes=("user",), limit=2, registry=registry)
    reader = Reader()
    registry.bind(provided(reader, most_series=5).get_meter("t"), raises=True)
    for number in range(20):
        orders.add(1, status="paid", user=f"u{number}")
        few.add(1, user=f"u{number}")
    points = collected(reader)["orders"].data.data_points
    assert (len(points), sum(point.value for point in points)) == (6, 20)
    assert points[-1].attributes == {"otel.metric.overflow": True}
    assert len(picture(reader, "few")) == 3
    overflowed = picture(reader, "tercet.metrics.overflowed")
    assert (overflowed[("orders",)] >= 15, overflowed[("few",)] >= 18) == (True, True)
    assert [(record.getMessage()[:31], "'user' has" in record.getMessage()) for record in caplog.records] == [
        ("Metric few has 2 series, its li", True),
        ("Metric orders has 5 series, its", True),
    ]


def test_a_callback_is_asked_at_each_collection(registry):
    """A number, or pairs of attributes and a number; what it names no more is gone, unless it only grows."""
    reader, delta = Reader(), Reader(DELTA)
    registry.bind(provided(reader, delta).get_meter("t"), raises=True)
    size, open_in, sent = [5], {"main": 2, "spare": 1}, {"mail": 10}
    Gauge("size", "Size.", observe=lambda: size[0], registry=registry)
    UpDownCounter(
        "open",
        "Open.",
        attributes=("pool",),
        observe=lambda: [({"pool": pool}, count) for pool, count in open_in.items()],
        registry=registry,
    )
    Counter(
        "sent",
        "Sent.",
        attributes=("queue",),
        observe=lambda: [({"queue": queue}, count) for queue, count in sent.items()],
        registry=registry,
    )
    names = ("size", "open", "sent")
    first = [pictures(each, *names) for each in (reader, delta)]
    size[0], open_in, sent["mail"] = 7, {"main": 1}, 4  # It started anew.
    second = [pictures(each, *names) for each in (reader, delta)]
    sent.clear()
    assert first == [[{(): 5}, {("main",): 2, ("spare",): 1}, {("mail",): 10}]] * 2
    assert second == [[{(): 7}, {("main",): 1}, {("mail",): 4}]] * 2
    assert [pictures(each, "sent") for each in (reader, delta)] == [[{("mail",): 4}], [{}]]


@pytest.mark.parametrize("told", [lambda: 1 / 0, lambda: "many", lambda: None, lambda: [1], lambda: -1])
def test_a_callback_that_fails_fails_alone(registry, reader, caplog, told):
    """It is counted, even where misuse raises; whatever else there is, is collected."""
    registry.raises = True
    Counter("orders", "Orders.", observe=told, registry=registry)
    Counter("other", "Other.", registry=registry).add(1)
    assert picture(reader, "other") == {(): 1}
    assert next(iter(picture(reader, "tercet.metrics.misused"))) == ("orders", "callback_failed")
    assert len(caplog.records) == 1


def test_a_provider_of_somebody_else_is_extended():
    """One of the SDK collects what is declared; one of a class of its own is left alone, and that is said."""
    reader = Reader()
    earlier = MeterProvider([reader], shutdown_on_exit=False)
    adopt(earlier, 2000)
    registry = Registry()
    Counter("orders", "Orders.", registry=registry).add(2)
    registry.bind(earlier.get_meter("t"), raises=False)
    assert picture(reader, "orders") == {(): 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_finds_no_lock_held_even_of_an_extended_provider():
    """While another thread declares a metric."""
    earlier = MeterProvider([Reader()], shutdown_on_exit=False)
    adopt(earlier, 2000)
    registry, held, done = Registry(), threading.Event(), threading.Event()
    registry.bind(earlier.get_meter("t"), raises=False)

    def hold():
        with earlier._taking:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        Counter("orders", "Orders.", registry=registry).add(1)
        os._exit(0)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_provider_that_cannot_collect_them_is_named(caplog):
    """Measurements go on, to nowhere."""

    class Theirs(MeterProvider):
        pass

    theirs, registry = Theirs(shutdown_on_exit=False), Registry()
    adopt(theirs, 2000)
    registry.bind(theirs.get_meter("t"), raises=False)
    Counter("orders", "Orders.", registry=registry).add(2)
    assert [record.getMessage() for record in caplog.records] == [
        "The MeterProvider was made by somebody else and cannot collect metrics declared with tercet."
    ]


def test_a_summary_only_goes_to_those_that_know_it(registry):
    """Others would say at each collection that they do not."""
    reader = InMemoryMetricReader()
    registry.bind(provided(reader).get_meter("t"), raises=False)
    Summary("size", "Size.", registry=registry).record(1)
    assert "size" not in collected(reader)


def test_threads_lose_no_step(registry, reader):
    """In any kind."""
    orders = Counter("orders", "Orders.", attributes=("status",), registry=registry)
    size = Summary("size", "Size.", registry=registry)
    paid = orders.bind(status="paid")

    def work():
        for _ in range(2000):
            orders.add(1, status="paid")
            paid.add(1)
            size.record(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [picture(reader, name) for name in ("orders", "size")] == [{("paid",): 16_000}, {(): 8_000}]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_at_zero(registry, reader):
    """With what was ready or bound still there, and nothing of its parent."""
    orders = Counter(
        "orders", "Orders.", attributes=("status",), ready=[{"status": "failed"}], registry=registry
    )
    size = Summary("size", "Size.", registry=registry)
    paid = orders.bind(status="paid")
    paid.add(5)
    orders.add(5, status="odd")
    size.record(1)
    child = os.fork()
    if child == 0:
        paid.add(1)
        found = [picture(reader, name) for name in ("orders", "size")]
        os._exit(0 if found == [{("failed",): 0, ("paid",): 1}, {(): 0}] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_front_door_declares_for_the_process(seen):
    """What users write; in a capture, misuse raises."""
    visits = tercet.Counter("test.visits", "Visits.", attributes=("page",))
    visits.add(1, page="home")
    assert [(each.attributes, each.value) for each in seen.measured("test.visits")] == [({"page": "home"}, 1)]
    with pytest.raises(tercet.MetricError):
        visits.add(1, user="u1")
