"""Work handed to a thread keeps the context of who handed it over, and no other."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.context import Context, attach, detach, get_value, set_value

from tercet.emit import threads


@pytest.fixture(autouse=True)
def _installed():
    threads.install()


def work():
    return get_value("who")


def handed_over(who, submit):
    token = attach(set_value("who", who, Context()) if who else Context())
    try:
        return submit()
    finally:
        detach(token)


def test_each_piece_of_work_has_the_context_of_who_handed_it_over():
    """One thread of a pool works for many."""
    with ThreadPoolExecutor(1) as pool:
        futures = [handed_over(who, lambda: pool.submit(work)) for who in ("ann", "bob", "ann")]
        assert [future.result() for future in futures] == ["ann", "bob", "ann"]


def test_work_of_nobody_belongs_to_nobody():
    """The request that made the pool start its thread does not own what comes later."""
    with ThreadPoolExecutor(1) as pool:
        first = handed_over("ann", lambda: pool.submit(work))
        later = handed_over(None, lambda: pool.submit(work))
        assert (first.result(), later.result()) == ("ann", None)


def test_what_the_work_returns_and_raises_arrives():
    """Arguments, results and errors are the caller's own."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(divmod, 7, 2).result() == (3, 1)
        assert pool.submit(sorted, [1, 2], reverse=True).result() == [2, 1]
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()


def test_a_thread_class_of_its_own_is_carried_too():
    """`run` may be a method of the application."""

    class Worker(threading.Thread):
        def run(self):
            self.found = work()

    worker = Worker()
    handed_over("ann", worker.start)
    worker.join()
    assert worker.found == "ann"


def test_a_thread_can_still_be_started_only_once():
    """The error is Python's own."""
    thread = threading.Thread(target=work)
    handed_over("ann", thread.start)
    thread.join()
    with pytest.raises(RuntimeError, match="only be started once"):
        handed_over("ann", thread.start)


def test_a_patch_made_before_the_setup_still_runs():
    """Other tools wrap threads too, also after tercet was imported."""
    program = """
import threading
from tercet.emit import threads
seen, original = [], threading.Thread.start
def theirs(thread):
    seen.append(thread)
    original(thread)
threading.Thread.start = theirs
threads.install(); threads.install()
thread = threading.Thread(target=print)
thread.start(); thread.join()
print(len(seen))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["1"]
