"""Who stands by acts while another waits for long, and no longer."""

import threading

import pytest

from tercet.export import standby
from tercet.export.standby import Standby

TIME = 10


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(standby, "PATIENCE", 0.01)


def test_it_acts_while_somebody_waits():
    """Again and again, until it ends; then nothing is on the way any more."""
    acted, twice = [], threading.Event()

    def act():
        acted.append(by.is_needed())
        if len(acted) == 2:
            twice.set()

    by = Standby(act)
    by.start("by")
    with by:
        assert twice.wait(TIME)
        by.end()
        by.join(TIME)
        assert "by" not in [thread.name for thread in threading.enumerate()]
        assert not by.is_needed()
    assert acted[:2] == [True, True]


def test_it_is_not_needed_by_who_has_just_begun(monkeypatch):
    """An answer may take its time."""
    monkeypatch.setattr(standby, "PATIENCE", TIME)
    by = Standby(lambda: None)
    with by:
        assert not by.is_needed()


def test_where_there_are_too_many_threads_nobody_acts(monkeypatch):
    """Nor is anybody waited for."""

    def refuse(*_args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(standby.native, "start_thread", refuse)
    by = Standby(lambda: None)
    by.start("by")
    by.end()
    by.join(TIME)
