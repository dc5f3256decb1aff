"""Which program this process runs: some of them only look after others that do the work."""

import hashlib
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from tercet.export.workers import began_at

# Whoever starts one of these may start a process that serves nothing itself, and only watches its workers.
_SERVERS = frozenset({"uvicorn", "gunicorn", "hypercorn", "granian"})
_STARTERS = ("multiprocessing.spawn", "multiprocessing.forkserver")
# Python starts these beside a process that uses multiprocessing; no code of the user's runs there.
_TRACKERS = ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker")


def is_server_program(command: list[str] | None = None) -> bool:
    """Say whether this process was started as a web server, by its script or with `python -m`.

    >>> is_server_program(["python", "-m", "uvicorn", "app:app"]), is_server_program(["python", "job.py"])
    (True, False)
    """
    words = (sys.orig_argv if command is None else command)[:4]
    return any(Path(word).name in _SERVERS for word in words)


def is_child(module: str = "multiprocessing.process") -> bool:
    """Say whether another process has started this one, by multiprocessing or what is like it."""
    process = sys.modules.get(module)
    return process is not None and getattr(process.current_process(), "_parent_pid", None) is not None


def is_started_by_another(command: list[str] | None = None) -> bool:
    """Say so also of a process that multiprocessing has started and not yet told.

    >>> is_started_by_another(["python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(7)"])
    True
    """
    words = sys.orig_argv if command is None else command
    return is_child() or any(starter in word for word in words for starter in _STARTERS)


def is_worker() -> bool:
    """Say whether this process, which serves, is one of those that a supervisor starts and replaces."""
    return "gunicorn.arbiter" in sys.modules or is_started_by_another()


def workers_directory(base: str, service_name: str) -> Path:
    """Name the directory of all workers that have the supervisor and the service of this one.

    Args:
        base: Where it is; "auto" for a place in memory, or else among temporary files.
        service_name: Of the service.
    """
    supervisor = os.getppid()
    namespace = ""
    with suppress(OSError):  # Process ids are those of a container, which may share the place with others.
        namespace = os.readlink("/proc/self/ns/pid")
    digest = hashlib.sha256(f"{namespace} {service_name}".encode()).hexdigest()[:12]
    return _place(base) / f"{supervisor}-{began_at(supervisor) or 0}-{digest}"


def _place(base: str) -> Path:
    if base != "auto":
        return Path(base)
    memory = Path("/dev/shm")  # noqa: S108 - made private, and refused where it is not
    is_usable = memory.is_dir() and os.access(memory, os.W_OK | os.X_OK)
    return (memory if is_usable else Path(tempfile.gettempdir())) / f"tercet-{os.geteuid()}"


def is_tracker(command: list[str] | None = None) -> bool:
    """Say whether this process only tracks the resources of another one.

    >>> is_tracker(["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"])
    True
    """
    words = sys.orig_argv if command is None else command
    return any(tracker in word for word in words for tracker in _TRACKERS)
