"""Where work waits for a thread."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest
from measured import collected
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet.emit import threads
from tercet.emit.threadpools import ThreadPools


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def pools(reader, monkeypatch):
    threads.install()
    found = ThreadPools(MeterProvider([reader]).get_meter("test"))
    monkeypatch.setattr(threads, "_timed", found.timed)
    return found


class Busy:
    """Keep threads at work until the block ends, and know that they are."""

    def __init__(self, pool, count):
        self.leave = threading.Event()
        self.begun = [threading.Event() for _ in range(count)]
        self.futures = [pool.submit(self.work, begun) for begun in self.begun]

    def work(self, begun):
        begun.set()
        self.leave.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave.set()
        for future in self.futures:
            future.result(30)


def test_a_full_pool_shows_who_works_and_who_waits(reader, pools):
    """Three tasks for two threads."""
    with ThreadPoolExecutor(2, thread_name_prefix="mail") as pool, Busy(pool, 3) as busy:
        for begun in busy.begun[:2]:
            begun.wait(30)
        found = collected(reader)
    assert (
        found["tercet.thread_pool.limit"],
        found["tercet.thread_pool.used"],
        found["tercet.thread_pool.waiting"],
    ) == ({("mail",): 2}, {("mail",): 2}, {("mail",): 1})


def test_each_task_has_waited_once(reader, pools):
    """Whatever it returns, and whatever it raises."""
    with ThreadPoolExecutor(1, thread_name_prefix="mail") as pool:
        futures = [pool.submit(int, text) for text in ("1", "2", "x")]
    assert [future.exception() is None for future in futures] == [True, True, False]
    assert collected(reader)["tercet.thread_pool.wait_time"] == {("mail",): 3}


def test_an_idle_pool_has_threads_that_do_nothing(reader, pools):
    """They are not used."""
    with ThreadPoolExecutor(2, thread_name_prefix="mail") as pool:
        pool.submit(int).result(30)
        while pool._idle_semaphore._value == 0:
            pass
        assert collected(reader)["tercet.thread_pool.used"] == {("mail",): 0}


def test_pools_that_python_numbers_are_one(reader, pools):
    """A pool for each request would be a series for each request."""
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(3) as second:
        first.submit(int).result(30)
        second.submit(int).result(30)
        assert collected(reader)["tercet.thread_pool.limit"] == {("ThreadPoolExecutor",): 4}
    assert "tercet.thread_pool.limit" not in collected(reader)


def test_asyncios_own_pool_is_one_of_them(reader, pools):
    """Nobody can get at it in other ways."""

    async def serve():
        await asyncio.to_thread(int)
        return collected(reader)

    found = asyncio.run(serve())
    assert found["tercet.thread_pool.wait_time"] == {("asyncio",): 1}
    assert ("asyncio",) in found["tercet.thread_pool.limit"]


def test_anyios_threads_are_told_by_its_limiter(reader, pools):
    """One task of two has the only token."""

    async def serve():
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        pools.limiter = limiter
        leave, begun = threading.Event(), threading.Event()

        def work():
            begun.set()
            leave.wait(30)

        tasks = [asyncio.create_task(anyio.to_thread.run_sync(work)) for _ in range(2)]
        while not begun.is_set() or not limiter.statistics().tasks_waiting:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
        found = collected(reader)
        leave.set()
        await asyncio.gather(*tasks)
        return found

    found = asyncio.run(serve())
    assert [found[f"tercet.thread_pool.{name}"] for name in ("limit", "used", "waiting")] == [
        {("anyio",): 1}
    ] * 3


def test_an_unlimited_limiter_has_no_limit(reader, pools):
    """Infinity is no number of threads."""
    pools.limiter = anyio.CapacityLimiter(float("inf"))
    assert "tercet.thread_pool.limit" not in collected(reader)


def test_a_recorder_that_fails_stops_no_work(pools):
    """The work is done all the same."""

    class Broken:
        def record(self, *_):
            raise RuntimeError

    pools._wait = Broken()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(int, "7").result(30) == 7


def test_a_pool_that_nobody_can_remember_does_its_work(pools):
    """It is told of nowhere."""

    class Unhashable(ThreadPoolExecutor):
        __hash__ = None

    with Unhashable(1) as pool:
        assert pool.submit(int, "7").result(30) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_no_threads(pools):
    """Those that its parent told of are not there."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result(30)
        child = os.fork()
        if child == 0:
            os._exit(len(list(pools._readings())))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
