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
    """Again and again, until it ends."""
    acted, by, twice = [], Standby(), threading.Event()

    def act():
        acted.append(by.is_needed())
        if len(acted) == 2:
            twice.set()

    thread = threading.Thread(target=by.run, args=(act,))
    thread.start()
    assert not acted
    with by:
        assert twice.wait(TIME)
    by.end()
    thread.join(TIME)
    assert not thread.is_alive()
    assert not by.is_needed()
    assert acted[:2] == [True, True]


def test_it_is_not_needed_by_who_has_just_begun(monkeypatch):
    """An answer may take its time."""
    monkeypatch.setattr(standby, "PATIENCE", TIME)
    by = Standby()
    with by:
        assert not by.is_needed()
