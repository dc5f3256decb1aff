"""One process among many, whatever happens to it."""

import logging
import os
import signal
import subprocess
import sys

import pytest

from tercet.emit.election import Election

pytest.importorskip("fcntl")

CANDIDATE = """\
import sys
from tercet.emit.election import Election
election = Election(sys.argv[1:-1], sys.argv[-1])
for _ in sys.stdin:
    print(election.is_won(), flush=True)
"""


class Candidate:
    """A process of its own, that says whether it has won whenever it is asked."""

    def __init__(self, directory, key="orders"):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CANDIDATE, str(directory), key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def is_won(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip() == "True"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "tercet"


@pytest.fixture
def candidates(directory):
    found = [Candidate(directory) for _ in range(3)]
    yield found
    for candidate in found:
        candidate.kill()


def test_one_of_many_is_elected_and_the_next_takes_over_when_it_is_killed(candidates):
    """At its next collection."""
    pictures = []
    for _ in range(3):
        pictures.append([candidate.is_won() for candidate in candidates])
        candidates.pop(0).kill()
    assert pictures == [[True, False, False], [True, False], [True]]


def test_it_stays_elected(candidates):
    """As long as it lives."""
    assert [candidates[1].is_won(), candidates[0].is_won(), candidates[1].is_won()] == [True, False, True]


def test_there_is_one_of_each_key(candidates, directory):
    """Services do not compete."""
    other = Candidate(directory, "payments")
    assert candidates[0].is_won()
    assert other.is_won()
    other.kill()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_lost_until_its_parent_goes(directory):
    """It inherits the open file, and not the lock."""
    election = Election([str(directory)], "orders")
    assert election.is_won()
    child = os.fork()
    if child == 0:
        os._exit(1 if election.is_won() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert election.is_won()


def test_only_its_user_can_look_inside(directory):
    """Neither at the directory nor at the file."""
    assert Election([str(directory)], "orders").is_won()
    assert [oct(os.stat(path).st_mode & 0o777) for path in (directory, directory / "host.lock")] == [
        "0o700",
        "0o600",
    ]


def test_nobody_is_elected_where_others_may_write(directory):
    """Another user could hold the lock for ever, or hand one to each process."""
    directory.mkdir()
    directory.chmod(0o777)
    assert not Election([str(directory)], "orders").is_won()


def test_nobody_is_elected_through_a_link(directory, tmp_path):
    """Of a directory, or of the file in it."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "elsewhere")
    assert not Election([str(directory)], "orders").is_won()
    (tmp_path / "elsewhere" / "host.lock").symlink_to(tmp_path / "victim")
    assert not Election([str(tmp_path / "elsewhere")], "orders").is_won()
    assert not (tmp_path / "victim").exists()


def test_where_nobody_can_meet_it_is_said_once(tmp_path, caplog):
    """A disk that cannot be written is no reason to fail."""
    (tmp_path / "file").write_text("")
    election = Election([str(tmp_path / "file" / "tercet")], "orders")
    with caplog.at_level(logging.WARNING, "tercet"):
        assert [election.is_won(), election.is_won()] == [False, False]
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "Nobody speaks for this host: its processes cannot meet. [Errno 20] "
    )


def test_the_next_place_will_do(tmp_path, directory):
    """In a container whose files are read only, memory can be written."""
    (tmp_path / "file").write_text("")
    assert Election([str(tmp_path / "file" / "tercet"), str(directory)], "orders").is_won()


def test_a_file_that_was_tidied_up_is_locked_anew(directory, candidates):
    """Else there were two: who has the old file, and who has the new one."""
    assert candidates[0].is_won()
    (directory / "host.lock").unlink()
    assert [candidates[1].is_won(), candidates[0].is_won()] == [True, False]


def test_a_file_that_somebody_closed_is_opened_again(directory, tmp_path):
    """Daemons close all files that they find open; the number may be another file's by then."""
    election = Election([str(directory)], "orders")
    assert election.is_won()
    number = election._file
    os.close(number)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)
    assert election.is_won()
    os.fstat(other)  # It is open still.
    os.close(other)
    assert number == other


def test_nobody_is_elected_without_locks(directory, monkeypatch):
    """Windows has none, and no files that tell of a host either."""
    monkeypatch.setattr("tercet.emit.election.fcntl", None)
    assert not Election([str(directory)], "orders").is_won()
