"""What a running service uses: each process for itself, and one of them for the host."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from receiver import Received, Receiver
from service import PATIENCE, serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="The kernel's files are Linux's.")

Environment = Callable[..., dict[str, str]]
GUNICORN = ("-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "-w", "2")
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable)


def speakers(received: Received, name: str) -> set[str]:
    """Say which processes have told of a metric."""
    return {str(point.resource["service.instance.id"]) for point in received.points(name)}


def elected(folder: Path) -> list[int]:
    """Say which process holds the lock, as the kernel has it."""
    (lock,) = folder.glob("tercet-*/host.lock")
    fields = [line.split() for line in Path("/proc/locks").read_text("ascii").splitlines()]
    return [int(each[4]) for each in fields if each[1] != "->" and each[5].endswith(f":{lock.stat().st_ino}")]


def test_one_worker_speaks_for_the_host_and_the_next_when_it_is_killed(
    receiver: Receiver, environment: Environment, apps: Path, tmp_path: Path
) -> None:
    """Each speaks for itself all the time."""
    settings = environment(receiver.endpoint, TMPDIR=str(tmp_path))
    with serve([sys.executable, *GUNICORN, "shop_in_code:app"], settings, apps) as service:
        receiver.wait_for(lambda received: len(speakers(received, "process.cpu.time")) == 2)
        (first,) = receiver.wait_for(lambda received: speakers(received, "system.memory.limit"))
        (worker,) = elected(tmp_path)
        os.kill(worker, signal.SIGKILL)
        receiver.wait_for(lambda received: speakers(received, "system.memory.limit") - {first})
        assert elected(tmp_path) not in ([], [worker])
        service.stop()
    assert len(speakers(receiver.received, "system.memory.limit")) == 2


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["each set up", "forked"])
def test_a_supervisor_and_its_workers_are_one_service(
    preload: tuple[str, ...], receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """It is set up as they are, and its host is theirs."""
    with serve([*RUN, *GUNICORN, *preload, "shop:app"], environment(receiver.endpoint), apps) as service:
        receiver.wait_for(lambda received: len(speakers(received, "process.cpu.time")) == 3)
        receiver.wait_for(lambda received: speakers(received, "system.memory.limit"))
        during = speakers(receiver.received, "system.memory.limit")
        service.stop()
    assert len(during) == 1


def test_the_loop_and_the_threads_of_a_server_are_watched(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """From the moment in which it begins to serve."""
    command = [*RUN, "-m", "uvicorn", "shop:app", "--port", "{port}"]
    with serve(command, environment(receiver.endpoint), apps) as service:
        assert httpx.post(f"{service.url}/orders/7/pay", timeout=PATIENCE).status_code == 200
        receiver.wait_for(
            lambda received: any(point.count for point in received.points("tercet.event_loop.lag"))
        )
        (limit,) = receiver.wait_for(lambda received: received.points("tercet.thread_pool.limit"))
        service.stop()
    assert (limit.value, limit.attributes) == (40, {"tercet.thread_pool.name": "anyio"})


def test_nothing_is_measured_where_it_is_not_wanted(
    receiver: Receiver, environment: Environment, apps: Path
) -> None:
    """Two settings turn it off."""
    off = {"TERCET_USAGE": "off", "TERCET_RUNTIME_METRICS": "false"}
    command = [*RUN, "-m", "uvicorn", "shop:app", "--port", "{port}"]
    with serve(command, environment(receiver.endpoint, **off), apps) as service:
        assert service.get("/orders/7").status_code == 200
        receiver.wait_for(lambda received: received.points("http.server.request.duration"))
        service.stop()
    names = {point.name for point in receiver.received.series.values()}
    assert {name for name in names if not name.startswith(("http.", "tercet.export."))} == set()
