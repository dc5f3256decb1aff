"""Answers from rows: trees, RED and logs."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValueList
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint
from otlp_messages import TRACE, attributes, durations, logs, point, span, traces, value

from tercet.console import query
from tercet.console.answers import Node
from tercet.console.rows import PointRow, log_rows, point_rows, span_rows

_LIST = AnyValue(array_value=ArrayValue(values=[value(1), value("a")]))


def _trace(**by_service):
    return query.trace(list(span_rows(traces(**by_service))))


def _picture(nodes: list[Node], indent: str = "") -> str:
    return "".join(
        f"{indent}{node['service']}: {node['name']}\n{_picture(node['children'], indent + '  ')}"
        for node in nodes
    )


def test_a_trace_is_a_tree_of_who_did_the_work():
    """A client span gives way to the far side that reported, and stays where none did."""
    trace = _trace(
        gateway=[span(1, name="POST /orders"), span(2, 1, kind="CLIENT"), span(6, 1, kind="CLIENT", start=9)],
        order_service=[span(3, 2, name="POST /orders"), span(4, 3, kind="CLIENT", name="database", start=1)],
        notification=[span(7, 6, name="POST /notify", start=9)],
    )

    assert _picture(trace["roots"]) == (
        "gateway: POST /orders\n"
        "  order-service: POST /orders\n"
        "    order-service: database\n"
        "  notification: POST /notify\n"
    )


def test_a_span_says_when_from_the_start_of_its_trace():
    """Times are in milliseconds, ids in hex, kinds and states in words."""
    trace = _trace(
        orders=[span(1, start=5, lasts=100), span(2, 1, kind="CLIENT", start=25, lasts=30, user_id="usr_1")]
    )

    assert (trace["duration_ms"], trace["start"]) == (100.0, "2023-11-14T22:13:20.005000Z")
    assert trace["spans"][1] == {
        "trace_id": TRACE.hex(),
        "span_id": "0000000000000002",
        "parent_span_id": "0000000000000001",
        "service": "orders",
        "name": "span 2",
        "kind": "client",
        "start_ms": 20.0,
        "duration_ms": 30.0,
        "status": "unset",
        "attributes": {"user_id": "usr_1"},
    }


def test_a_span_that_arrived_twice_is_there_once():
    """A retried export repeats spans; a trace does not."""
    assert len(_trace(orders=[span(1), span(1)])["spans"]) == 1


def test_a_span_whose_parent_is_absent_is_a_root():
    """Parts of a trace are shown, not hidden."""
    assert _picture(_trace(orders=[span(1), span(3, parent=2, start=1)])["roots"]) == (
        "orders: span 1\norders: span 3\n"
    )


def test_spans_that_are_each_others_parents_end_nothing():
    """A hostile circle is no tree, and no endless loop either."""
    trace = _trace(orders=[span(1, parent=2), span(2, parent=1), span(3, parent=3)])

    assert (trace["roots"], len(trace["spans"])) == ([], 3)


def test_a_tree_has_a_greatest_depth():
    """A chain of thousands is cut in the tree, whole in the list, and can be written as JSON."""
    trace = _trace(orders=[span(number, number - 1) for number in range(1, 3000)])

    assert _picture(trace["roots"]).count("\n") == query.MAX_TREE_DEPTH
    assert len(json.loads(json.dumps(trace))["spans"]) == 2999


def test_no_rows_are_no_trace():
    """An unknown trace is None, not an empty one."""
    assert (query.trace([]), query.summary([])) == (None, None)


def test_the_correlation_id_of_a_trace_is_that_of_its_spans():
    """The first span that carries text as its correlation id speaks for the trace."""
    trace = _trace(orders=[span(1, correlation_id=7), span(2, 1, start=1, correlation_id="order-42")])

    assert trace["correlation_id"] == "order-42"


def test_a_summary_is_one_line_of_a_trace():
    """Who was asked first, for how long, with how many errors."""
    failed = span(2, 1, start=1)
    failed.status.code = 2

    assert query.summary(
        list(span_rows(traces(gateway=[span(1, name="POST /orders")], orders=[failed])))
    ) == {
        "trace_id": TRACE.hex(),
        "correlation_id": None,
        "start": "2023-11-14T22:13:20.000000Z",
        "service": "gateway",
        "name": "POST /orders",
        "duration_ms": 11.0,
        "spans": 2,
        "errors": 1,
    }


def test_attributes_keep_their_types():
    """Lists, maps, bytes, absent values and numbers that JSON lacks all come through."""
    odd = span(1)
    odd.attributes.extend(attributes(n=1, f=0.5, yes=True, nan=math.nan))
    odd.attributes.add(key="list").value.CopyFrom(
        AnyValue(array_value=ArrayValue(values=[value(1), value("a")]))
    )
    odd.attributes.add(key="map").value.CopyFrom(
        AnyValue(kvlist_value=KeyValueList(values=attributes(k="v")))
    )
    odd.attributes.add(key="bytes").value.CopyFrom(AnyValue(bytes_value=b"\xff"))
    odd.attributes.add(key="none")

    assert _trace(orders=[odd])["spans"][0]["attributes"] == {
        "n": 1,
        "f": 0.5,
        "yes": True,
        "nan": "nan",
        "list": [1, "a"],
        "map": {"k": "v"},
        "bytes": "ff",
        "none": None,
    }


def test_an_unknown_kind_is_shown_by_its_number():
    """A kind of a later version of OTLP is no reason to fail."""
    later = span(1)
    later.kind = 99

    assert _trace(orders=[later])["spans"][0]["kind"] == "99"


def test_red_counts_rate_errors_and_durations_by_service():
    """All series of a service are one row: instances, routes and outcomes together."""
    rows = [
        *point_rows(durations("orders", 60, 30, 8, 0, http__route="/orders")),
        *point_rows(durations("orders", 0, 0, 2, 0, error__type="500")),
        *point_rows(durations("auth", 1, 0, 0, 0)),
        *point_rows(durations("auth", 9, 9, 9, 9, metric="http.client.request.duration")),
    ]

    auth, orders = query.red(rows)

    assert auth["requests"] == 1
    assert orders == {
        "service": "orders",
        "requests": 100,
        "errors": 2,
        "rate": 10.0,
        "error_ratio": 0.02,
        "p50_ms": pytest.approx(50 / 60 * 100, abs=0.001),
        "p95_ms": 300.0,
        "p99_ms": 380.0,
    }


@pytest.mark.parametrize(
    ("points", "share", "expected"),
    [
        ([point(10, 0, 0, 0)], 0.5, 0.05),
        ([point(0, 10, 0, 0)], 0.5, 0.15),
        ([point(5, 5, 0, 0)], 0.5, 0.1),
        ([point(5, 5, 0, 0)], 0.9, 0.18),
        ([point(5, 0, 5, 0)], 0.75, 0.3),
        ([point(0, 0, 0, 4)], 0.5, 0.4),
        ([point(0, 0, 0, 4, least=0.5, greatest=1.5)], 0.5, 1.0),
        ([point(0, 4, 0, 0, least=0.12, greatest=0.14)], 1.0, 0.14),
        ([point(0, 4, 0, 0, least=0.12, greatest=0.14)], 0.5, 0.13),
        ([point(5, 0, 0, 0), point(0, 5, 0, 0)], 0.9, 0.18),
        ([point(0, 0, 0, 0)], 0.5, None),
        ([], 0.5, None),
    ],
)
def test_percentiles_are_interpolated_within_their_bucket(points, share, expected):
    """The exact value for measurements spread evenly over each bucket, within what was measured."""
    found = query.percentile(points, share)

    assert found == (None if expected is None else pytest.approx(expected))


def test_a_histogram_without_bounds_answers_with_its_mean():
    """Sum and count are all that such a histogram knows."""
    bare = point(4)
    bare.ClearField("explicit_bounds")
    bare.sum = 2.0

    assert query.percentile([bare], 1.0) == 0.5


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4))
def test_percentiles_grow_with_their_share(counts):
    """p50 ≤ p95 ≤ p99, whatever was counted."""
    found = [query.percentile([point(*counts)], share) for share in (0.5, 0.95, 0.99)]

    assert found == [None] * 3 or found == sorted(found)


def test_a_rate_needs_time():
    """No rate is claimed from a single instant."""
    (row,) = query.red(point_rows(durations("orders", 1, 0, 0, 0, seconds=0)))

    assert row["rate"] is None


def test_logs_are_chosen_by_trace_or_correlation_id():
    """Each id given must fit; the lines come by time."""
    rows = [
        *log_rows(logs("orders", "order_created", "order_paid", correlation_id="c1", amount=150.0)),
        *log_rows(logs("auth", "user_verified", correlation_id="c2", trace_id=bytes(16))),
    ]

    def messages(**ids):
        return [line["message"] for line in query.logs(rows, **ids)]

    assert messages(trace_id=TRACE) == ["order_created", "order_paid"]
    assert messages(correlation_id="c2") == ["user_verified"]
    assert messages(trace_id=TRACE, correlation_id="c2") == []


def test_a_log_line_keeps_its_own_fields_and_its_names():
    """The caller's fields stand beside the line's own, and cannot replace them."""
    rows = log_rows(logs("orders", "order_created", correlation_id="c1", amount=150.0, service="forged"))

    assert query.logs(rows, correlation_id="c1") == [
        {
            "timestamp": "2023-11-14T22:13:20.000000Z",
            "level": "INFO",
            "logger": "orders",
            "message": "order_created",
            "service": "orders",
            "trace_id": TRACE.hex(),
            "span_id": None,
            "correlation_id": "c1",
            "amount": 150.0,
        }
    ]


def test_a_body_that_is_no_text_is_shown_as_json():
    """A structured body is still a message."""
    request = logs("orders", "x", correlation_id="c")
    body = request.resource_logs[0].scope_logs[0].log_records[0].body
    body.CopyFrom(AnyValue(kvlist_value=KeyValueList(values=attributes(k=1))))

    assert [line["message"] for line in query.logs(log_rows(request), correlation_id="c")] == ['{"k": 1}']


def test_a_service_uses_what_all_its_processes_use():
    """Sums over processes; a service that has not said is there without a number."""
    rows = [
        _memory("orders", 1, 70),
        _memory("orders", 2, 30),
        *point_rows(durations("gateway", 1, 0, 0, 0)),
    ]

    assert query.use(rows) == [
        {"service": "gateway", "memory_bytes": None},
        {"service": "orders", "memory_bytes": 100},
    ]


def _memory(service: str, process: int, used: int) -> PointRow:
    wire = NumberDataPoint(as_int=used).SerializeToString()
    return PointRow(service, "process.memory.usage", "sum", bytes([process]), 0, True, wire)
