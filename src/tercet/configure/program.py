"""Which program this process runs: some of them only look after others that do the work."""

import sys
from pathlib import Path

# Whoever starts one of these may start a process that serves nothing itself, and only watches its workers.
_SERVERS = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian"})
# Python starts these beside a process that uses multiprocessing; no code of the user's runs there.
_TRACKERS = ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker")


def is_server_program(command: list[str] | None = None) -> bool:
    """Say whether this process was started as a web server, by its script or with `python -m`.

    >>> is_server_program(["python", "-m", "uvicorn", "app:app"]), is_server_program(["python", "job.py"])
    (True, False)
    """
    words = (sys.orig_argv if command is None else command)[:4]
    return any(Path(word).name in _SERVERS for word in words)


def is_tracker(command: list[str] | None = None) -> bool:
    """Say whether this process only tracks the resources of another one.

    >>> is_tracker(["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"])
    True
    """
    words = sys.orig_argv if command is None else command
    return any(tracker in word for word in words for tracker in _TRACKERS)
