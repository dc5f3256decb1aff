"""A forked child: free locks, no sums of its parent's, and an id of its own."""

import json
import os
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, InMemoryMetricReader, MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from tercet.export.forked import PeriodicReader, renew_in_children

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")


def in_child(act):
    """Fork, and return what `act` returns in the child; one that hangs is killed by its alarm."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            import signal

            signal.alarm(20)
            os.write(write, json.dumps(act()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


def provided(resource=None):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], resource=resource or Resource({}), shutdown_on_exit=False)
    return provider, reader


def sums(reader):
    data = reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data else []
    return {metric.name: [point.value for point in metric.data.data_points] for metric in metrics}


def test_a_child_counts_from_zero():
    """And its parent goes on."""
    provider, reader = provided()
    counter = provider.get_meter("test").create_counter("work")
    counter.add(100)
    renew_in_children([provider], [reader])

    def work():
        before = sums(reader)
        counter.add(1)
        return [before, sums(reader)]

    assert in_child(work) == [{}, {"work": [1]}]
    assert sums(reader) == {"work": [100]}


def test_a_child_waits_for_no_lock_of_its_parent():
    """Not for those of a collection, of a measurement, nor of a new instrument."""
    provider, reader = provided()
    meter = provider.get_meter("test")
    counter = meter.create_counter("work")
    counter.add(1)
    renew_in_children([provider], [reader])
    consumer = provider._measurement_consumer
    (storage,) = consumer._reader_storages.values()
    ((match,),) = storage._instrument_view_instrument_matches.values()
    locks = [consumer._lock, storage._lock, match._lock, meter._instrument_registration_lock]
    held, enough = threading.Event(), threading.Event()

    def hold():
        for lock in locks:
            lock.acquire()
        held.set()
        enough.wait(20)
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)

    def work():
        meter.create_counter("other").add(2)
        counter.add(1)
        return sums(reader)

    assert in_child(work) == {"other": [2], "work": [1]}
    enough.set()
    thread.join()


def test_a_given_instance_id_stays_to_be_seen():
    """With the process beside it, in each generation."""
    resource = Resource({"service.instance.id": "blue"})
    tracers, (meters, reader) = TracerProvider(resource=resource, shutdown_on_exit=False), provided(resource)
    renew_in_children([tracers, meters], [reader])

    def ids():
        own = [tracers.resource, meters._sdk_config.resource]
        return [each.attributes["service.instance.id"] == f"blue-{os.getpid()}" for each in own]

    assert in_child(lambda: ids() + in_child(ids)) == [True] * 4
    assert tracers.resource.attributes["service.instance.id"] == "blue"


def test_an_sdk_that_is_made_otherwise_is_left_alone():
    """A child has then what upstream gives it."""
    renew_in_children([object()], [object()])
    assert in_child(lambda: "alive") == "alive"


class Exporter(ConsoleMetricExporter):
    def __init__(self):
        MetricExporter.__init__(self)
        self.exported = threading.Event()

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.exported.set()


def test_a_child_collects_by_itself():
    """Also where its parent was exporting; and both end when they are told to."""
    exporter = Exporter()
    reader = PeriodicReader(exporter, interval=0.01, timeout=1)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("work").add(1)
    renew_in_children([provider], [reader])
    assert exporter.exported.wait(20)
    reader._export_lock.acquire()

    def collect():
        exporter.exported = threading.Event()
        provider.get_meter("test").create_counter("other").add(1)
        collected = exporter.exported.wait(15)
        reader.shutdown()
        return collected

    assert in_child(collect)
    reader._export_lock.release()
    reader.shutdown()


@pytest.mark.parametrize("is_delivered", [True, False])
def test_whether_the_last_collection_was_delivered_is_told(is_delivered):
    """Upstream's says nothing, which would pass for yes."""
    exporter = Exporter()
    exporter.is_delivered = is_delivered
    reader = PeriodicReader(exporter, interval=1_000, timeout=1)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("work").add(1)
    assert reader.force_flush() is is_delivered
    assert reader.shutdown() is is_delivered


def test_a_collection_that_does_not_end_in_time_was_not_delivered():
    """Whatever becomes of it later."""
    exporter, let_go = Exporter(), threading.Event()
    exporter.export = lambda *_args, **_kwargs: let_go.wait(20)
    reader = PeriodicReader(exporter, interval=1_000, timeout=1)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("work").add(1)
    assert reader.shutdown(timeout_millis=10) is False
    let_go.set()


def test_a_collection_that_fails_is_not_the_last(caplog):
    """It is said, and the next one comes."""
    exporter = Exporter()
    reader = PeriodicReader(exporter, interval=0.01, timeout=1)
    failed = threading.Event()

    def collect(*_args, **_kwargs):
        failed.set()
        raise RuntimeError("no")

    reader._set_collect_callback(collect)
    assert failed.wait(20)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    provider.get_meter("test").create_counter("work").add(1)
    assert exporter.exported.wait(20)
    reader.shutdown()
    assert "Metrics could not be collected: RuntimeError('no')" in caplog.text
