"""Which program a process runs, and with whom it belongs together."""

import os
import sys
import tempfile
from pathlib import Path

from tercet.configure import program


def test_workers_of_one_supervisor_and_service_share_a_directory(tmp_path):
    """Named by the supervisor, when that began, and the service; private to the user where it is chosen."""
    mine = program.workers_directory(str(tmp_path), "shop")
    assert mine == program.workers_directory(str(tmp_path), "shop")
    assert mine != program.workers_directory(str(tmp_path), "orders")
    pid, began, _digest = mine.name.split("-")
    assert (mine.parent, pid, int(began) >= 0) == (tmp_path, str(os.getppid()), True)


def test_the_place_is_in_memory_if_there_is_such_a_place(monkeypatch):
    """Or else among temporary files."""
    own = f"tercet-{os.geteuid()}"
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert program.workers_directory("auto", "shop").parent == Path("/dev/shm") / own
    monkeypatch.setattr(Path, "is_dir", lambda _: False)
    assert program.workers_directory("auto", "shop").parent == Path(tempfile.gettempdir()) / own


def test_a_worker_is_what_somebody_starts_and_replaces(monkeypatch):
    """A service that serves by itself is none."""
    monkeypatch.delitem(sys.modules, "gunicorn.arbiter", raising=False)
    assert not program.is_worker()
    monkeypatch.setitem(sys.modules, "gunicorn.arbiter", sys)
    assert program.is_worker()
