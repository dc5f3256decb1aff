"""Haste: who starves has its turn, and nobody else pays for longer than that."""

import os
import sys
import time

import pytest

from tercet.export import haste


@pytest.fixture
def interval():
    """What `sys.getswitchinterval` says, which is 2 ms when nobody hurries."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.002)
    yield sys.getswitchinterval
    sys.setswitchinterval(before)


def test_whoever_hurries_has_the_interpreter_sooner(interval):
    """Until the last of them hurries no more."""
    hurry = haste.Haste()
    seen = []
    for step, who in [
        (hurry.begin, "logs"),
        (hurry.begin, "traces"),
        (hurry.end, "logs"),
        (hurry.end, "traces"),
    ]:
        step(who)
        seen.append(round(interval(), 6))
    assert seen == [0.00001, 0.00001, 0.00001, 0.002]


def test_haste_ends_whatever_has_come_in_between(interval):
    """As a signal's handler that raised: with the next one who ends it."""
    hurry = haste.Haste()
    hurry.begin("logs")
    hurry._hasty.clear()
    hurry.end("traces")
    assert interval() == 0.002


@pytest.mark.parametrize("seconds", [0.02, 0.000001])
def test_an_interval_that_the_application_sets_meanwhile_is_its_own(interval, seconds):
    """It is not taken back."""
    hurry = haste.Haste()
    hurry.begin("logs")
    sys.setswitchinterval(seconds)
    hurry.end("logs")
    assert interval() == pytest.approx(seconds)


def test_a_thread_knows_how_often_it_was_woken():
    """Each wait is one more, where the system tells."""
    before = haste.times_woken()
    for _ in range(5):
        time.sleep(0.001)
    assert haste.times_woken() - before >= 5 or haste.times_woken() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_hurry(interval):
    """The thread that would end it is its parent's."""
    hurry = haste.HASTE
    hurry.begin("logs")
    child = os.fork()
    if child == 0:
        os._exit(0 if interval() == 0.002 else 1)
    hurry.end("logs")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def hunger(monkeypatch):
    """Of a thread whose batches have 16 items; it hurries without changing the interval."""

    class Hasty(set):
        begin, end = set.add, set.discard

    monkeypatch.setattr(haste, "HASTE", Hasty())
    return haste.Hunger(16)


@pytest.mark.parametrize(("woken", "waiting", "hurries"), [(1000, 3, True), (1000, 2, False), (12, 3, False)])
def test_who_was_woken_in_vain_while_the_next_batch_filled_hurries(hunger, woken, waiting, hurries):
    """The next time, until that is over."""
    hunger.turn_is_over(woken, 0.01, waiting)
    assert hunger not in haste.HASTE
    hunger.batch_is_full(16, turn=2)
    assert (hunger in haste.HASTE) == hurries
    hunger.turn_is_over(0, 0.01, 0)
    assert hunger not in haste.HASTE


def test_who_leaves_whole_batches_hurries(hunger):
    """Where that does not help, it is the collector that is slow."""
    seen = []
    for waiting in (16, 32, 48, 64):
        hunger.batch_is_full(waiting, turn=1)
        seen.append(hunger in haste.HASTE)
    assert seen == [False, True, False, False]


def test_nobody_hurries_for_a_slow_collector(hunger):
    """Other threads would wear each other out in all that time."""
    hunger.turn_is_over(1000, 0.01, 16)
    hunger.turn_is_over(12, 2.0, 16)
    hunger.batch_is_full(16, turn=3)
    assert hunger not in haste.HASTE


def test_haste_is_looked_at_anew(hunger):
    """After some batches, for the load may be another one."""
    hunger.turn_is_over(1000, 0.01, 16)
    hurried = 0
    for turn in range(100):
        hunger.batch_is_full(16, turn)
        hurried += hunger in haste.HASTE
        hunger.turn_is_over(12, 0.01, 0)
    assert hurried == haste._BATCHES
