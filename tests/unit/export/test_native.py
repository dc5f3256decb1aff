"""Threads and locks of the operating system: what they promise, with and without gevent."""

import subprocess
import sys
import threading

import pytest

from tercet.export import native


def test_a_condition_wakes_whoever_waits():
    """All of them."""
    condition, so_far, threads = native.Condition(), [], []

    def wait():
        with condition:
            assert condition.wait_for(lambda: len(so_far) == 1, 10)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    with condition:
        so_far.append(1)
        condition.notify_all()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def test_a_condition_does_not_wait_for_ever():
    """It says that nothing has come."""
    condition = native.Condition()
    with condition:
        assert not condition.wait_for(lambda: False, 0.01)


def test_a_condition_may_be_held_twice():
    """As in a signal's handler; then another thread can still wake whoever waits."""
    condition, so_far = native.Condition(), []

    def wake():
        with condition:
            so_far.append(1)
            condition.notify_all()

    with condition, condition:
        threading.Thread(target=wake).start()
        assert condition.wait_for(lambda: so_far, 10)


def test_an_event_happens_once():
    """Whoever comes later does not wait."""
    event = native.Event()
    assert not event.wait(0)
    event.set()
    assert event.wait(10)
    assert event.is_set()


PATCHED = """
{imports}
import threading, time
seen = []
thread = native.start_thread(lambda: seen.append(threading.active_count()))
thread.join(10)
event = native.Event()
waiting = native.start_thread(lambda: event.wait(10))
event.set()
waiting.join()
assert seen, seen
assert type(native.Lock()).__module__ == "_thread", type(native.Lock())
print(type(thread).__name__)
"""
FIRST = "from gevent import monkey; monkey.patch_all(); from tercet.export import native"
LATER = "from tercet.export import native; from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize("imports", [FIRST, LATER], ids=["patched before", "patched later"])
def test_gevent_changes_nothing(imports):
    """Threads stay threads, and locks stay locks."""
    pytest.importorskip("gevent")
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PATCHED.format(imports=imports)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (process.stdout, process.stderr) == ("_Thread\n", "")


def test_a_thread_that_gevent_has_renamed_ends_in_peace():
    """Its entry is under the name that it had."""
    thread, own = native._Unpatched(target=lambda: None), threading._active[threading.get_ident()]
    thread._delete()
    thread._delete()  # nothing is there any more
    threading._active[threading.get_ident()] = own
