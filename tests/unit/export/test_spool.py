"""The spool: what waits on disk survives its process, is sent once, and stays within its limits."""

import os
import shutil
import subprocess
import sys
import time
from itertools import islice

import pytest

from tercet.export import spool as spools
from tercet.export.spool import Limits, Parcel, Spool

PLENTY = Limits(10**9, 10**6, 10**6)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


def filled(folder, count, limits=PLENTY, clock=time.time):
    spool = Spool(folder, limits, clock)
    for number in range(count):
        spool.add(Parcel(b"%d" % number, number + 1))
    return spool


def sent(spool):
    """Send everything."""
    parcels = []
    for claim in spool.take():
        parcels.append(claim.parcel)
        claim.done()
    return [parcel.packed.decode() for parcel in parcels]


def dropped(spool):
    counts = []
    spool.tell_dropped = lambda reason, count: counts.append((reason, count))
    return counts


def test_what_is_added_is_taken_oldest_first(folder):
    """With its count, by any process."""
    filled(folder, 3)
    claims = list(Spool(folder, PLENTY).take())
    taken = [(claim.parcel.packed, claim.parcel.count) for claim in claims]
    assert taken == [(b"0", 1), (b"1", 2), (b"2", 3)]
    for claim in claims:
        claim.done()
    assert list(folder.iterdir()) == []


def test_only_its_owner_can_read_it(folder):
    """Telemetry may hold what users typed."""
    filled(folder, 1)
    modes = [path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())]
    assert modes == [0o700, 0o600]


def test_two_take_each_request_once(folder):
    """What one holds is not there for the other, until it is given back."""
    one, other = filled(folder, 2), Spool(folder, PLENTY)
    claim = next(one.take())
    assert sent(other) == ["1"]
    claim.back()
    assert sent(other) == ["0"]
    assert sent(one) == []


def test_what_a_killed_process_was_sending_is_there_again(folder):
    """Its lock goes with it."""
    filled(folder, 1)
    code = (
        "import sys; from pathlib import Path; from tercet.export.spool import *\n"
        "claim = next(Spool(Path(sys.argv[1]), Limits(9**9, 9, 9**9)).take())\n"
        "print('has it', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"has it\n"
        assert sent(Spool(folder, PLENTY)) == []
        process.kill()
    assert sent(Spool(folder, PLENTY)) == ["0"]


def test_a_child_holds_no_lock_of_its_parent(folder):
    """Whether it lives on after the parent gives back or dies."""
    spool = filled(folder, 1)
    claim = next(spool.take())
    hold, release = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(release)
        claim.back()  # A child may try; it has nothing.
        os.read(hold, 1)
        os._exit(0)
    os.close(hold)
    os.close(claim._descriptor)  # as the kernel does it when the parent dies
    spool._open.clear()
    try:
        deadline = time.monotonic() + 10
        while not (found := sent(Spool(folder, PLENTY))):
            assert time.monotonic() < deadline
        assert found == ["0"]
    finally:
        os.close(release)
        os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda data: b"", 1),
        (lambda data: data[:5], 1),
        (lambda data: data[:-1], 2),
        (lambda data: data[:-1] + b"x", 2),
        (lambda data: b"trc9" + data[4:], 1),
        (lambda data: data[:8] + b"\xff" + data[9:], 1),
        (lambda data: data + b"more", 2),
    ],
)
def test_a_torn_file_costs_only_itself(damage, lost, folder):
    """It is counted, by its items where its beginning still says how many, and removed."""
    spool = filled(folder, 3)
    counts = dropped(spool)
    path = sorted(folder.iterdir())[1]
    path.write_bytes(damage(path.read_bytes()))
    assert sent(spool) == ["0", "2"]
    assert counts == [("spool_torn", lost)]
    assert list(folder.iterdir()) == []


def test_what_is_not_ours_is_left_alone(folder):
    """Other names, folders, links, and what we may not read."""
    spool = filled(folder, 1, Limits(1, 1, 1))
    (folder / "notes.txt").write_text("mine")
    (folder / "mine.otlp").write_text("mine")
    (folder / f"{1:020d}-1-1.otlp").mkdir()
    (folder / f"{2:020d}-1-1.otlp").symlink_to(folder / "notes.txt")
    spool.add(Parcel(b"", 1))
    spool.add(Parcel(b"", 1))
    sent(spool)
    assert len(list(folder.iterdir())) == 4
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(10**6, 3, 10**6), ["7", "8", "9"]),
        (Limits(13 * 4, 100, 10**6), ["6", "7", "8", "9"]),
        (Limits(1, 100, 10**6), []),
    ],
)
def test_the_oldest_go_where_there_are_too_many(limits, kept, folder):
    """Each is counted with its items."""
    spool = Spool(folder, limits)
    counts = dropped(spool)
    for number in range(10):
        spool.add(Parcel(b"%d" % number, number + 1))
    assert spool.bytes() <= limits.bytes
    assert counts == [("spool_full", number + 1) for number in range(10 - len(kept))]
    assert sent(spool) == kept


@pytest.mark.parametrize("look", ["add", "take"])
def test_what_is_too_old_goes(look, folder):
    """Nobody wants it any more, neither here nor after a long stop."""
    clock = Clock()
    spool = filled(folder, 2, Limits(10**6, 100, 60), clock)
    counts = dropped(spool)
    clock.now += 61
    if look == "add":
        spool.add(Parcel(b"new", 1))
    assert sent(spool) == (["new"] if look == "add" else [])
    assert counts == [("spool_age", 1), ("spool_age", 2)]


def test_a_clock_that_is_set_back_loses_nothing(folder):
    """The order is another, nothing else."""
    clock = Clock()
    spool = filled(folder, 2, Limits(10**6, 100, 60), clock)
    clock.now -= 100_000
    spool.add(Parcel(b"new", 1))
    assert sent(spool) == ["new", "0", "1"]


def test_all_processes_together_keep_the_limits(folder):
    """Each looks at what the others wrote."""
    clock = Clock()
    spools = [Spool(folder, Limits(10**6, 5, 10**6), clock) for _ in range(3)]
    for number in range(30):
        clock.now += 2
        spools[number % 3].add(Parcel(b"%d" % number, 1))
    assert len(list(folder.iterdir())) == 5


def test_what_was_never_finished_is_swept_away(folder):
    """After a minute: before, somebody may be writing it. What is not ours is left alone."""
    clock = Clock()
    spool = Spool(folder, PLENTY, clock)
    abandoned, foreign = folder / f"{1:020}-2-3.part", folder / "backup.part"
    for path in (abandoned, foreign):
        path.touch()
        os.utime(path, (clock.now, clock.now))
    clock.now += 59
    assert sent(spool) == []
    assert abandoned.exists()
    clock.now += 2
    assert sent(spool) == []
    assert list(folder.iterdir()) == [foreign]


def test_a_directory_that_is_removed_is_made_again(folder):
    """Somebody tidied up while the service ran."""
    spool = filled(folder, 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert sent(spool) == []
    spool.add(Parcel(b"new", 1))
    assert sent(spool) == ["new"]


@pytest.mark.parametrize("look", [sent, lambda spool: spool.add(Parcel(b"new", 1))], ids=["take", "add"])
def test_what_is_removed_with_the_directory_is_counted(look, folder):
    """Once, and only what this process had there and nobody has sent."""
    spool, other = filled(folder, 4), filled(folder, 2)
    counts = dropped(spool)
    for claim in islice(spool.take(), 2):
        claim.done()
    next(other.take()).done()
    next(spool.take()).back()
    shutil.rmtree(folder)
    look(spool)
    look(spool)
    assert counts == [("spool_removed", 4)]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk")
def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    """The caller hears of it, and keeps the request."""
    spool = Spool(folder, PLENTY)
    full = os.open("/dev/full", os.O_WRONLY)
    write = vars(spools)["_write"]
    monkeypatch.setattr(spools, "_write", lambda descriptor, parcel: write(full, parcel))
    with pytest.raises(OSError, match="No space left on device"):
        spool.add(Parcel(b"x" * 10**6, 1))
    os.close(full)
    assert list(folder.iterdir()) == []


def test_what_cannot_be_removed_is_not_taken(folder, monkeypatch):
    """It would be sent again and again."""
    spool = filled(folder, 1)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert sent(spool) == []
    with pytest.raises(PermissionError):
        Spool(folder, PLENTY)


def test_each_of_many_adds_is_cheap(folder, monkeypatch):
    """The directory is not read for each."""
    spool = filled(folder, 1)
    looks = []
    monkeypatch.setattr(spool, "_files", lambda: looks.append(1) or [])
    spool._clock = Clock()
    for _ in range(100):
        spool.add(Parcel(b"x", 1))
    assert len(looks) == 1
