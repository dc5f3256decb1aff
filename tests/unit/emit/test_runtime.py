"""Pauses of the garbage collector, and event loops that are kept."""

import asyncio
import gc
import os
import threading
import time

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet import watch_event_loop
from tercet.emit.runtime import GarbageCollection, LoopWatch, Pauses


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    return MeterProvider([reader]).get_meter("test")


@pytest.fixture
def collection(meter):
    found = GarbageCollection(meter)
    yield found
    found.stop()


def points(reader, name):
    data = reader.get_metrics_data()
    for scope in data.resource_metrics[0].scope_metrics if data is not None else ():
        for metric in scope.metrics:
            if metric.name == name:
                yield from metric.data.data_points


def test_every_run_is_a_pause(reader, collection):
    """No more and no less, of each generation."""
    gc.disable()
    try:
        for generation, times in ((0, 3), (1, 2), (2, 1)):
            for _ in range(times):
                gc.collect(generation)
        pauses = {
            point.attributes["cpython.gc.generation"]: point.count
            for point in points(reader, "tercet.gc.pause")
        }
    finally:
        gc.enable()
    assert (pauses[0], pauses[1], pauses[2]) >= (3, 2, 1)
    assert pauses[2] == 1


def test_what_python_counts_is_told(reader, collection):
    """Runs and freed objects, by generation."""
    gc.collect()
    runs = {
        point.attributes["cpython.gc.generation"]: point.value
        for point in points(reader, "cpython.gc.collections")
    }
    assert runs[2] == gc.get_stats()[2]["collections"]


def pause(pauses, generation, seconds):
    pauses("start", {"generation": generation})
    pauses._started -= seconds
    pauses("stop", {"generation": generation})


def test_pauses_keep_their_number_bucket_and_sum():
    """However many there are, memory stays the same."""
    pauses = Pauses()
    for _ in range(1000):
        pause(pauses, 0, 0.002)
    pause(pauses, 2, 0.3)
    short, long = pauses.take()
    assert short[:2] == (0, 1000)
    assert short[2] == pytest.approx(0.002, rel=0.5)
    assert long == (2, 1, pytest.approx(0.3, abs=0.1))
    assert list(pauses.take()) == []


def test_a_pause_whose_start_nobody_saw_is_none():
    """The collector may be running when the process begins to listen."""
    pauses = Pauses()
    pauses("stop", {"generation": 0})
    assert list(pauses.take()) == []


def test_a_pause_within_a_measurement_holds_nothing_up(reader, collection):
    """The collector may run in whoever holds the lock of the very histogram."""
    recorder = collection._pause
    lock = threading.Lock()

    class Locked:
        def record(self, *what):
            assert lock.acquire(timeout=10)
            with lock_released(lock):
                gc.collect()
                recorder.record(*what)

    collection._pause = Locked()
    gc.collect()
    assert sum(point.count for point in points(reader, "tercet.gc.pause")) >= 1


class lock_released:  # noqa: N801 - a context manager like others
    def __init__(self, lock):
        self.lock = lock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_paused_for_nothing_yet(reader, collection):
    """Neither runs nor pauses of its parent are its own."""
    gc.collect()
    gc.disable()
    child = os.fork()
    if child == 0:
        noted = list(collection._pauses.take())
        runs = [number for metric, values, number in collection._readings() if values == (2,)]
        os._exit(0 if noted == [] and runs[0] == 0 else 1)
    gc.enable()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Lags(list):
    """Take the place of a recorder, and let a loop be told when there is something."""

    def record(self, seconds, values, ids):
        self.append(seconds)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nobody tells when a timer has run
            await asyncio.sleep(0.005)


def test_a_blocked_loop_lags():
    """By as long as it was blocked after it was due."""
    lags = Lags()

    async def serve():
        watch = LoopWatch(asyncio.get_running_loop(), lags, interval=0.01)
        await until(lambda: lags)
        time.sleep(0.2)  # noqa: ASYNC251 - that is what a loop lags from
        await until(lambda: max(lags) > 0.1)
        watch.close()

    asyncio.run(serve())
    assert 0.1 < max(lags) < 30


def test_a_closed_watch_measures_no_more():
    """Nor does it leave a timer behind."""
    lags = Lags()

    async def serve():
        watch = LoopWatch(asyncio.get_running_loop(), lags, interval=0.01)
        await until(lambda: lags)
        watch.close()
        so_far = len(lags)
        await asyncio.sleep(0.05)
        return len(lags) - so_far

    assert asyncio.run(serve()) == 0


@pytest.mark.filterwarnings("error")
def test_a_loop_ends_as_if_nobody_watched(capfd):
    """Nothing keeps it running, and nothing is said."""
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    LoopWatch(loop, Lags(), interval=0.01)
    loop.run_until_complete(asyncio.sleep(0.03))
    loop.close()
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_a_recorder_that_fails_ends_no_watch():
    """The loop hears nothing of it."""
    tried = []

    class Broken:
        def record(self, *_):
            tried.append(1)
            raise RuntimeError

    async def serve():
        asyncio.get_running_loop().set_exception_handler(lambda *_: tried.clear())
        LoopWatch(asyncio.get_running_loop(), Broken(), interval=0.005)
        await until(lambda: len(tried) > 2)

    asyncio.run(serve())


def test_any_loop_can_be_watched_by_hand(seen):
    """The running one, unless another is named."""

    async def serve():
        watch = watch_event_loop()
        await until(lambda: seen.measured("tercet.event_loop.lag"))
        watch.close()

    asyncio.run(serve())
    assert metrics.get_meter_provider() is not None
    with pytest.raises(RuntimeError):
        watch_event_loop()
