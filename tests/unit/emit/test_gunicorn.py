"""The edge to gunicorn: its workers begin to serve, and its arbiter never does."""

import pytest
from gunicorn.workers.base import Worker

from tercet.emit import gunicorn


class Quiet(Worker):
    """A worker that needs no sockets and no settings."""

    def __init__(self):
        self.tmp = self
        self.notified = 0

    def notify(self):
        super().notify()


@pytest.fixture(autouse=True)
def _restored(monkeypatch):
    def count(self):
        self.notified += 1

    monkeypatch.setattr(Worker, "notify", count)


def test_a_worker_begins_once_before_it_serves():
    """At the first sign of life that it gives, whatever class it is of."""
    begun = []
    gunicorn.install(lambda: begun.append(True))
    assert begun == []
    worker = Quiet()
    worker.notify()
    worker.notify()
    assert (begun, worker.notified) == ([True], 2)


def test_a_worker_lives_when_telemetry_fails(caplog):
    """One that gives no sign of life would be ended by the arbiter."""

    def fail():
        raise RuntimeError("out of order")

    gunicorn.install(fail)
    worker = Quiet()
    worker.notify()
    assert worker.notified == 1
