"""Locks and queues, of which their author says that they are worth a look."""

import asyncio
import queue
import threading
import time
import weakref

import pytest
from measured import collected
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet import ObservedLock, observe_queue
from tercet.emit.waiting import Queues


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def queues(reader):
    return Queues(MeterProvider([reader]).get_meter("test"))


def waits(seen, name):
    found = seen.measured("tercet.lock.wait_time")
    return [each for each in found if each.attributes["tercet.lock.name"] == name]


def test_a_lock_that_is_free_is_not_waited_for(seen):
    """It costs next to nothing, and says nothing."""
    lock = ObservedLock("free")
    with lock:
        assert lock.locked()
    assert not lock.locked()
    assert waits(seen, "free") == []


def test_a_lock_that_is_held_is_waited_for_as_long(seen):
    """Until whoever has it gives it back."""
    lock = ObservedLock("held")
    waiting = threading.Event()

    def wait():
        waiting.set()
        with lock:
            pass

    thread = threading.Thread(target=wait)
    with lock:
        thread.start()
        waiting.wait(30)
        time.sleep(0.1)
    thread.join(30)
    (wait_time,) = waits(seen, "held")
    assert wait_time.count == 1
    assert wait_time.value > 0.05


def test_waiting_in_vain_is_waiting_too(seen):
    """Whoever asks without waiting has not waited."""
    lock = ObservedLock("vain")
    with lock:
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=0.01)
    assert [each.count for each in waits(seen, "vain")] == [1]


def test_a_lock_may_be_made_of_another():
    """Which its owner may take twice."""
    with (lock := ObservedLock("again", threading.RLock())), lock:
        pass


@pytest.mark.parametrize("kind", [queue.Queue, asyncio.Queue])
def test_a_queue_tells_length_and_age(kind, reader, queues):
    """And how many items it may hold."""
    waiting = kind(5)
    waiting.put_nowait("before")
    queues.add("mail", waiting)
    time.sleep(0.05)
    waiting.put_nowait("after")
    found = collected(reader)
    assert (found["tercet.queue.length"], found["tercet.queue.limit"]) == ({("mail",): 2}, {("mail",): 5})
    assert found["tercet.queue.age"]["mail",] >= 0.05
    assert waiting.get_nowait() == "before"
    assert waiting.get_nowait() == "after"
    found = collected(reader)
    assert found["tercet.queue.length"] == {("mail",): 0}
    assert found["tercet.queue.age"] == {("mail",): 0}


@pytest.mark.parametrize("kind", [queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue])
def test_the_age_is_not_guessed(kind, reader, queues):
    """What comes last may go first."""
    waiting = kind()
    queues.add("mail", waiting)
    waiting.put(1)
    found = collected(reader)
    assert found["tercet.queue.length"] == {("mail",): 1}
    assert "tercet.queue.age" not in found
    assert waiting.get() == 1


def test_queues_of_one_name_are_one(reader, queues):
    """With the age of the oldest item of them all; to name one twice changes nothing."""
    old, new = queue.Queue(), queue.Queue()
    for each in (old, new, old):
        queues.add("mail", each)
    old.put(1)
    time.sleep(0.05)
    new.put(2)
    found = collected(reader)
    assert found["tercet.queue.length"] == {("mail",): 2}
    assert found["tercet.queue.age"]["mail",] >= 0.05


def test_a_queue_that_is_gone_is_told_no_longer(reader, queues):
    """Whoever observes it does not keep it."""
    waiting = queue.SimpleQueue()
    queues.add("mail", waiting)
    gone = weakref.ref(waiting)
    del waiting
    assert gone() is None
    assert "tercet.queue.length" not in collected(reader)


def test_any_queue_can_be_observed(seen):
    """By its name."""
    waiting = queue.Queue()
    observe_queue("letters", waiting)
    waiting.put("a")
    (length,) = [
        each
        for each in seen.measured("tercet.queue.length")
        if each.attributes == {"tercet.queue.name": "letters"}
    ]
    assert length.value == 1


def test_a_queue_that_cannot_be_counted_hides_no_other(reader, queues):
    """Such as those between processes on macOS."""

    class Uncountable(queue.SimpleQueue):
        def qsize(self):
            raise NotImplementedError

    first, second = Uncountable(), queue.SimpleQueue()
    queues.add("between", first)
    queues.add("mail", second)
    assert collected(reader)["tercet.queue.length"] == {("mail",): 0}
