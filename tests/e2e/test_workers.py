"""Several workers, one answer: whichever is scraped tells of all, while they are killed and replaced."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from receiver import Receiver
from service import LOOPBACK, PATIENCE, Service, free_port, serve

Environment = Callable[..., dict[str, str]]
RUN = (sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable, "-m")
WORKERS = 4
GUNICORN = ("gunicorn", "-b", "127.0.0.1:{port}", "-w", str(WORKERS))
ASGI = (*GUNICORN, "shop_workers:app", "-k", "uvicorn_worker.UvicornWorker")
SERVERS: dict[str, tuple[str, ...]] = {
    "uvicorn": ("uvicorn", "shop_workers:app", "--port", "{port}", "--workers", str(WORKERS)),
    "gunicorn": ASGI,
    "gunicorn --preload": (*ASGI, "--preload"),
    "gunicorn sync": (*GUNICORN, "wsgi_scraped:app"),
    "gunicorn sync --preload": (*GUNICORN, "wsgi_scraped:app", "--preload"),
    "gunicorn gevent": (*GUNICORN, "wsgi_scraped:app", "-k", "gevent"),
    "gunicorn gthread": (*GUNICORN, "wsgi_scraped:app", "-k", "gthread", "--threads", "4"),
}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
COUNTS = ("http_server_request_duration_seconds_count", "asked_seconds_count")
_POLL = 0.05

Environs = Callable[[], dict[str, str]]


@pytest.fixture
def environ(environment: Environment, receiver: Receiver, tmp_path: Path) -> Environs:
    """Make the environment of workers that look after each other often."""

    def build(**settings: str) -> dict[str, str]:
        shared = {"TERCET_WORKERS_DIRECTORY": str(tmp_path / "workers"), "TERCET_WORKERS_INTERVAL": "0.2"}
        return environment(receiver.endpoint, **shared, **settings)

    return build


def scrape(url: str) -> list[Sample]:
    """Ask by a connection of its own, so that any worker may answer, and read it as Prometheus does."""
    response = httpx.get(url, headers=OPENMETRICS, follow_redirects=True, timeout=PATIENCE, verify=False)
    assert response.status_code == 200, response.text
    return [each for family in text_string_to_metric_families(response.text) for each in family.samples]


def total(samples: list[Sample]) -> float:
    """Say how many requests were served."""
    return sum(sample.value for sample in samples if sample.name in COUNTS)


def counters(samples: list[Sample]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Read everything that may only grow."""
    only_grow = ("_total", "_count", "_sum", "_bucket")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for sample in samples
        if sample.name.endswith(only_grow)
    }


def until(found: Callable[[], bool], said: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, said()
        time.sleep(_POLL)


class Load:
    """Requests from several threads, each by a connection of its own, and who has answered them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._counting = threading.Lock()
        self.answered: Counter[int] = Counter()
        self.unsure = 0

    def ask(self, times: int) -> None:
        """Ask so many times; what is not answered may or may not have been counted."""
        for _ in range(times):
            try:
                pid = int(self._service.get("/who").text)
            except (httpx.HTTPError, ValueError):
                with self._counting:
                    self.unsure += 1
            else:
                with self._counting:
                    self.answered[pid] += 1

    def ask_until(self, workers: int, but: set[int]) -> set[int]:
        """Ask until so many workers, none of them among these, have answered; return all of those."""
        before = self.answered.copy()

        def new() -> set[int]:
            return set((self.answered - before).keys()) - but

        def ask() -> bool:
            self.ask(5)
            return len(new()) >= workers

        until(ask, lambda: f"only {new()} answered: {self._service.said()}")
        return new()

    @contextmanager
    def going_on(self, threads: int) -> Iterator[None]:
        """Ask all the time."""
        stopped = threading.Event()

        def ask() -> None:
            while not stopped.is_set():
                self.ask(1)

        started = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in started:
            thread.start()
        try:
            yield
        finally:
            stopped.set()
            for thread in started:
                thread.join()


class Scrapes:
    """Scrapes of any worker, each of which shows no less than the one before."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._before: dict[object, float] = {}
        self.number = 0

    def again(self) -> list[Sample]:
        samples = scrape(self._url)
        now = counters(samples)
        fallen = {
            key: (value, now.get(key)) for key, value in self._before.items() if now.get(key, -1) < value
        }
        assert not fallen
        self._before = dict(now)
        self.number += 1
        return samples


@pytest.mark.parametrize("server", SERVERS)
def test_any_worker_tells_of_all_also_of_those_that_were_killed(
    server: str, environ: Environs, apps: Path, tmp_path: Path
) -> None:
    """Killed between requests, and replaced: the total is what was answered, and nothing goes backwards."""
    with serve([*RUN, *SERVERS[server]], environ(), apps) as service:
        load, scrapes = Load(service), Scrapes(f"{service.url}/metrics")
        killed: set[int] = set()
        for _ in range(3):
            workers = load.ask_until(WORKERS, but=killed)
            until(lambda: total(scrapes.again()) >= load.answered.total(), service.said)
            for _ in range(2 * WORKERS):
                assert total(scrapes.again()) == load.answered.total()
            victim = workers.pop()
            killed.add(victim)
            os.kill(victim, signal.SIGKILL)
        load.ask_until(WORKERS, but=killed)
        until(lambda: total(scrapes.again()) >= load.answered.total(), service.said)
        assert (total(scrapes.again()), load.unsure) == (load.answered.total(), 0)
        until(lambda: len(list(tmp_path.glob("workers/*/*.numbers"))) == WORKERS, service.said)
        assert total(scrapes.again()) == load.answered.total()
        service.stop()


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_the_total_stays_right_when_workers_are_killed_under_load(
    server: str, environ: Environs, apps: Path
) -> None:
    """Only requests that a killed worker had not finished are in doubt."""
    threads, kills = 4, 5
    with serve([*RUN, *SERVERS[server]], environ(), apps) as service:
        load, scrapes = Load(service), Scrapes(f"{service.url}/metrics")
        killed: set[int] = set()
        with load.going_on(threads):
            for _ in range(kills):
                victim = load.ask_until(2, but=killed).pop()
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
                for _ in range(5):
                    with suppress(httpx.TransportError):  # It was a victim's to answer.
                        scrapes.again()
        load.ask_until(WORKERS, but=killed)
        answered, in_doubt = load.answered.total(), kills * threads
        until(lambda: total(scrapes.again()) >= answered - in_doubt, service.said)
        assert answered - in_doubt <= total(scrapes.again()) <= answered + load.unsure
        assert scrapes.number > kills
        service.stop()


def test_workers_that_are_recycled_take_nothing_with_them(environ: Environs, apps: Path) -> None:
    """With gunicorn's `--max-requests`, each worker serves a few requests and is replaced."""
    command = [*RUN, *GUNICORN, "wsgi_scraped:app", "--max-requests", "5", "--graceful-timeout", "10"]
    with serve(command, environ(), apps) as service:
        load, scrapes = Load(service), Scrapes(f"{service.url}/metrics")
        for _ in range(12):
            load.ask(5)
            assert total(scrapes.again()) == load.answered.total()
        assert len(load.answered) > WORKERS
        service.stop()


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn", "gunicorn sync --preload"])
def test_one_port_serves_for_all_and_is_taken_over(server: str, environ: Environs, apps: Path) -> None:
    """One worker has the port; when it is killed another one takes it, and tells the same."""
    port = free_port()
    settings = environ(OTEL_EXPORTER_PROMETHEUS_PORT=str(port))
    with serve([*RUN, *SERVERS[server]], settings, apps) as service:
        load, scrapes = Load(service), Scrapes(f"http://{LOOPBACK}:{port}/metrics")
        workers = load.ask_until(WORKERS, but=set())

        def is_told() -> bool:
            with suppress(httpx.TransportError):
                return total(scrapes.again()) == load.answered.total()
            return False

        until(is_told, service.said)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
            until(is_told, service.said)
        assert not [line for line in service.stdout.so_far() if "PROMETHEUS_PORT" in line]
        service.stop()
