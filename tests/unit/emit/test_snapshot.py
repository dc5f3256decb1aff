"""Many instruments, one reading."""

import os

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet.declare.metric import Metric
from tercet.declare.pace import Pace
from tercet.emit.snapshot import Snapshot, Sums

ONE = Metric("one", "counter", "s", "One.", ("key",))
TWO = Metric("two", "gauge", "1", "Two.")
THREE = Metric("three", "up_down_counter", "By", "Three.")


class Readings:
    """Count how often they are taken."""

    taken = 0

    def __call__(self):
        self.taken += 1
        yield ONE, ("a",), self.taken
        yield ONE, (None,), 2.5
        yield TWO, (), self.taken


@pytest.fixture
def read():
    return Readings()


@pytest.fixture
def readers(read):
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    Snapshot(MeterProvider(readers).get_meter("test"), (ONE, TWO, THREE), read)
    return readers


def collected(reader):
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    return {
        metric.name: {tuple(point.attributes.items()): point.value for point in metric.data.data_points}
        for metric in metrics
    }


def test_nothing_is_read_before_it_is_asked_for(readers, read):
    """A process that starts has other things to do."""
    assert read.taken == 0


def test_a_collection_is_one_reading(readers, read):
    """Of each reader."""
    assert collected(readers[0]) == {"one": {(("key", "a"),): 1, (): 2.5}, "two": {(): 1}}
    assert collected(readers[1])["two"] == {(): 2}
    assert collected(readers[0])["two"] == {(): 3}
    assert read.taken == 3


def test_instruments_are_what_was_declared(readers):
    """Name, unit, help and kind."""
    metrics = readers[0].get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    assert [(metric.name, metric.unit, metric.description) for metric in metrics] == [
        ("one", "s", "One."),
        ("two", "1", "Two."),
    ]
    assert metrics[0].data.is_monotonic


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reads_for_itself(read):
    """Also when its parent was reading just then."""
    snapshot = Snapshot(MeterProvider().get_meter("test"), (ONE, TWO), read)
    snapshot._observe("one", None)
    with snapshot._lock:
        child = os.fork()
        if child == 0:
            snapshot._observe("two", None)
            os._exit(0 if read.taken == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_has_the_same_attributes_is_one_series():
    """With the sum for its value."""
    sums = Sums()
    for number in (1, 2):
        sums.add(ONE, ("a",), number)
    assert list(sums.readings()) == [(ONE, ("a",), 3)]


def test_what_cannot_be_read_is_said_once_and_the_rest_is_told(caplog, monkeypatch):
    """Not once for each instrument."""
    monkeypatch.setattr("tercet.emit.snapshot._minutely", Pace())
    reader = InMemoryMetricReader()

    def read():
        yield ONE, ("a",), 1
        raise TypeError("a kernel of another kind")

    Snapshot(MeterProvider([reader]).get_meter("test"), (ONE, TWO, THREE), read)
    assert [collected(reader), collected(reader)] == [{"one": {(("key", "a"),): 1}}] * 2
    assert [record.getMessage() for record in caplog.records] == [
        "What this process uses could not all be measured: TypeError('a kernel of another kind')"
    ]
