"""What the store keeps, and what leaves when it is full."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

from otlp_messages import DELTA, TRACE, durations, logs, span, traces

from tercet.console.rows import LogRow, PointRow, SpanRow, log_rows, point_rows, span_rows
from tercet.console.store import Budget, Store

PLENTY = 2**30


def _row(trace: int, size: int = 10) -> SpanRow:
    return SpanRow("orders", trace.to_bytes(16, "big"), bytes(size))


def _kept(store: Store) -> list[tuple[int, int]]:
    return [(int.from_bytes(rows[0].trace_id, "big"), len(rows)) for rows in store.traces()]


def test_the_oldest_trace_leaves_whole_when_there_are_too_many_spans():
    """Half a trace is never shown as whole."""
    store = Store(traces=Budget(PLENTY, max_rows=4))

    store.add_spans([_row(1), _row(2), _row(1), _row(2), _row(3)])

    assert _kept(store) == [(2, 2), (3, 1)]
    assert store.stats()["traces"] | {"bytes": 0} == {
        "received": 5,
        "rejected": 0,
        "evicted": 2,
        "kept": 3,
        "bytes": 0,
    }


def test_the_oldest_trace_leaves_when_there_are_too_many_bytes():
    """A budget in bytes holds whatever the number of spans."""
    size = _row(1, size=1000).size
    store = Store(traces=Budget(max_bytes=2 * size, max_rows=100))

    store.add_spans(_row(trace, size=1000) for trace in range(1, 5))

    assert _kept(store) == [(3, 1), (4, 1)]
    assert store.stats()["traces"]["bytes"] == 2 * size


def test_a_row_larger_than_the_whole_budget_leaves_at_once():
    """One giant cannot break the budget."""
    store = Store(traces=Budget(max_bytes=1000, max_rows=100))

    store.add_spans([_row(1, size=5000)])

    assert (_kept(store), store.stats()["traces"]["bytes"], store.stats()["traces"]["evicted"]) == ([], 0, 1)


def test_the_oldest_log_record_leaves_first():
    """Log records leave one by one."""
    store = Store(logs=Budget(PLENTY, max_rows=2))

    store.add_logs(log_rows(logs("orders", "one", "two", "three", correlation_id="c")))

    assert [b"two" in row.wire for row in store.logs()] == [True, False]
    assert store.stats()["logs"]["evicted"] == 1


def test_only_the_latest_point_of_a_series_is_kept():
    """A cumulative point replaces the one before, also when exports overtake each other."""
    store = Store()

    for seconds, count in ((1, 5), (3, 9), (2, 7)):
        store.add_points(point_rows(durations("orders", count, 0, 0, 0, seconds=seconds)))

    assert [row.time_unix_nano // 10**9 % 10 for row in store.points()] == [3]
    assert store.stats()["metrics"]["kept"] == 1


def test_series_differ_by_resource_metric_and_attributes():
    """Two workers of one service, two metrics and two routes are four series."""
    store = Store()
    exports = [
        durations("orders", 1, 0, 0, 0),
        durations("orders", 1, 0, 0, 0, instance="2"),
        durations("orders", 1, 0, 0, 0, metric="other"),
        durations("orders", 1, 0, 0, 0, http__route="/orders"),
        durations("orders", 1, 0, 0, 0),
    ]

    for export in exports:
        store.add_points(point_rows(export))

    assert len(store.points()) == 4


def test_the_series_that_was_silent_longest_leaves_first():
    """A series that still reports is younger than one that does not."""
    store = Store(metrics=Budget(PLENTY, max_rows=2))

    for service in ("old", "silent", "old", "new"):
        store.add_points(point_rows(durations(service, 1, 0, 0, 0)))

    assert [row.service for row in store.points()] == ["old", "new"]


def test_what_cannot_be_kept_is_counted():
    """Spans without an id and deltas are rejected, and the sender is told how many."""
    store = Store()

    spans = store.add_spans(span_rows(traces(orders=[span(1, trace_id=b"short"), span(2)])))
    points = store.add_points(point_rows(durations("orders", 1, 0, 0, 0, temporality=DELTA)))

    assert (spans, points) == (1, 1)
    assert [store.stats()[signal]["rejected"] for signal in ("traces", "metrics")] == [1, 1]


def test_an_unknown_trace_is_empty():
    """Nobody can tell a trace that never was from one that left."""
    assert Store().trace(TRACE) == []


def test_long_names_are_clipped():
    """Identity is bounded too: a name that repeats in each row cannot be a megabyte."""
    giant = "x" * 10**6

    (row,) = log_rows(logs(giant, "m", logger=giant, correlation_id=giant))

    assert (len(row.service), len(row.logger), len(row.correlation_id)) == (256, 256, 256)


def test_a_row_without_a_service_says_so():
    """A resource without a name has the name that the specification gives it."""
    request = traces(orders=[span(1)])
    request.resource_spans[0].resource.Clear()

    assert [row.service for row in span_rows(request)] == ["unknown_service"]


def test_a_metric_without_data_is_no_row():
    """A metric that holds nothing leaves nothing behind."""
    request = durations("orders", 1, 0, 0, 0)
    request.resource_metrics[0].scope_metrics[0].metrics[0].ClearField("histogram")

    assert list(point_rows(request)) == []


def test_sizes_do_not_understate_memory():
    """The budget is about memory: what rows claim covers what they take."""
    numbers = range(2000)
    tracemalloc.start()
    store = Store()
    store.add_spans(SpanRow("orders", number.to_bytes(16, "big"), bytes(200)) for number in numbers)
    store.add_logs(
        LogRow("orders", "log", bytes([number % 256] * 16), str(number), bytes(200)) for number in numbers
    )
    store.add_points(
        PointRow("orders", "metric", "sum", number.to_bytes(16, "big"), 10**18 + number, True, bytes(200))
        for number in numbers
    )
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(signal["bytes"] for signal in store.stats().values()) > taken


def test_threads_lose_nothing():
    """Counts are exact under concurrent writers."""
    store = Store()

    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda trace: store.add_spans([_row(trace)] * 50), range(1, 41)):
            pass

    assert store.stats()["traces"]["kept"] == 2000
