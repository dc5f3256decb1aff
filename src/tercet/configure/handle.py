"""The handle to what was set up, and the pipeline behind it."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tercet.configure.delivery import Exporting
from tercet.configure.program import is_worker, workers_directory
from tercet.declare.settings import Settings
from tercet.emit.logs import LogStream
from tercet.errors import SetupError
from tercet.export import native
from tercet.export.correlation import Correlated
from tercet.export.forked import PeriodicReader
from tercet.export.guard import Guard
from tercet.export.metered import LeanMeterProvider, Memory
from tercet.export.points import PostedPoints
from tercet.export.processors import BatchedLogs, BatchedSpans
from tercet.export.prometheus import PrometheusReader
from tercet.export.records import LeanLoggerProvider
from tercet.export.scrape import PrometheusApp
from tercet.export.spans import LeanTracerProvider
from tercet.export.workers import Workers

if TYPE_CHECKING:  # Most processes can do without what it imports.
    from tercet.export.scrape_port import PrometheusServer

PROMETHEUS_PORT = 9464
# Seconds for what is sent at a signal that somebody else handles.
_ON_THE_WAY = 1.0
# Seconds after which a process that was about to end has gone on.
_FORGET = 60.0
_BATCHED = (BatchedSpans, BatchedLogs)
_LEAN = LeanTracerProvider | LeanMeterProvider | LeanLoggerProvider
logger = logging.getLogger("tercet")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What `build_pipeline` makes and `_install` puts in place.

    A provider that someone else set earlier is adopted: it keeps its resource, sampler and views, and gets
    our processors and readers beside its own.
    """

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    logger_provider: LoggerProvider
    span_processors: list[SpanProcessor]
    metric_readers: list[MetricReader]
    log_processors: list[LogRecordProcessor]
    propagator: TextMapPropagator
    log_stream: LogStream
    adopted: tuple[str, ...]

    def providers(self) -> tuple[TracerProvider, MeterProvider, LoggerProvider]:
        """Return the providers of all signals, ours and adopted ones."""
        return self.tracer_provider, self.meter_provider, self.logger_provider


class Observability:
    """The handle to what `setup_observability` set up; as a context manager, it shuts down in the end."""

    def __init__(self, settings: Settings, pipeline: Pipeline | None, *, by_agent: bool = False) -> None:
        self.settings = settings
        self.by_agent = by_agent
        self.is_shut_down = False
        self._pipeline = pipeline
        self._prometheus: PrometheusReader | None = None
        self._server: PrometheusServer | None = None
        self._workers: Workers | None = None
        self._serves = self._is_port_refused = self._is_port_told = False
        self._spent = self._spent_at = 0.0
        self._ending: _SideBySide | None = None
        self._telling = native.Lock()

    def force_flush(self, timeout: float = 5.0) -> bool:
        """Send what is waiting, all signals at once.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether everything was sent in time.
        """
        if self._pipeline is None:
            return True
        return _SideBySide([_flushing(part) for part in _parts(self._pipeline)], timeout).run()

    def flush_at_end(self) -> None:
        """Send what is waiting when an application ends; the time counts as part of the shutdown."""
        self._flush_and_count(self.settings.shutdown_timeout)

    def flush_on_the_way(self) -> None:
        """Send what is waiting when the process may be about to end, without holding up whoever decides."""
        self._flush_and_count(min(self.settings.shutdown_timeout, _ON_THE_WAY))

    def _flush_and_count(self, timeout: float) -> None:
        timeout, started = min(timeout, self._left()), time.monotonic()
        self.force_flush(timeout)
        self._spent_at = time.monotonic()
        self._spent += self._spent_at - started

    def _left(self) -> float:
        """Return how much of the time for the end is left; an end that has not come is forgotten."""
        if time.monotonic() - self._spent_at > _FORGET:
            self._spent = 0.0
        return max(0.0, self.settings.shutdown_timeout - self._spent)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Send what is waiting and stop; safe to call twice, also by a signal's handler while it goes on.

        Args:
            timeout: Seconds to wait at most, over all signals; the setting `shutdown_timeout` when not given.

        Returns:
            Whether everything was sent in time; what was not is lost, and a line on stderr says so.
        """
        if self._pipeline is None:
            return True
        if not self.is_shut_down:
            timeout = self._left() if timeout is None else timeout
            self._ending = _SideBySide([_closing(part) for part in _parts(self._pipeline)], timeout)
            self.is_shut_down = True
            if self._server is not None:
                self._server.close()
        try:
            done = self._ending is None or self._ending.run()
        except BaseException:  # Ctrl-C, once more: what waits is on disk all the same, or else counted.
            self._save()
            raise
        if not done:
            self._tell_of_losses()
        return done

    def _save(self) -> None:
        if self._pipeline is not None:
            kept = [part.outbox.save() for part in _parts(self._pipeline) if isinstance(part, _BATCHED)]
            if not all(kept):
                self._tell_of_losses()

    def _tell_of_losses(self) -> None:
        # Two threads may come to know of it at once.
        if self._telling.acquire(blocking=False) and sys.stderr is not None:
            sys.stderr.write("tercet: not all telemetry was delivered before the process ended.\n")

    def exporters(self) -> dict[str, Exporting]:
        """Return what delivers each signal and keeps account of it; foreign exporters are not among them."""
        parts = _parts(self._pipeline) if self._pipeline is not None else []
        signals = {BatchedSpans: "traces", BatchedLogs: "logs"}
        found: dict[str, Exporting] = {
            signals[type(part)]: part.outbox for part in parts if type(part) in signals
        }
        for part in parts:
            if isinstance(part, PeriodicReader) and isinstance(part._exporter, PostedPoints):
                found["metrics"] = part._exporter
        return found

    def metrics_app(self) -> PrometheusApp:
        """Return an ASGI application that answers Prometheus, to mount where you like.

        It shows what is measured from its first call on, so make it when the application starts.

        While telemetry is disabled it answers with nothing.

        Raises:
            SetupError: Telemetry is shut down.
        """
        return PrometheusApp(self._prometheus_reader() if self._pipeline is not None else _Nothing())

    def _prometheus_reader(self) -> PrometheusReader:
        if self._pipeline is None or self.is_shut_down:
            raise SetupError(
                "metrics_app() must be called before shutdown(). Call it when the service starts."
            )
        if self._prometheus is None:
            self._prometheus = PrometheusReader()
            self._pipeline.meter_provider.add_metric_reader(self._prometheus)
            self._pipeline.metric_readers.append(self._prometheus)
            self._share()
        return self._prometheus

    @property
    def prometheus_port(self) -> int | None:
        """The own port that the settings ask for; None when they ask for none."""
        if self.settings.prometheus_port is None and "prometheus" in self.settings.metrics_exporter:
            return PROMETHEUS_PORT
        return self.settings.prometheus_port

    def begin(self) -> None:
        """Take note that this process serves: so it is no supervisor of others that do."""
        if not self._serves and not self.is_shut_down and self._pipeline is not None:
            self._serves = True
            if self.prometheus_port is not None:
                self._prometheus_reader()
            self._share()
            self.serve_prometheus()
            if self._workers is not None:
                self._workers.at_each_look = self.serve_prometheus

    def _share(self) -> None:
        """Let each worker answer a scrape for all, where several serve and somebody scrapes."""
        reader, base = self._prometheus, self.settings.workers_directory
        if reader is None or reader.workers or not self._serves or base == "off" or not is_worker():
            return
        directory = workers_directory(base, self.settings.service_name)
        try:
            interval, move = self.settings.workers_interval, self._move_ledgers
            workers = Workers(directory, interval, reader.describe, reader.publish, move)
        except (OSError, RuntimeError) as error:
            logger.warning(
                "workers_directory (TERCET_WORKERS_DIRECTORY) must be a place for directories of this user, "
                "got %r: %s. Choose another; until then, a scrape shows one worker alone.",
                str(directory.parent),
                error,
            )
            return
        self._workers = reader.workers = workers

    def _move_ledgers(self, memory: Memory) -> None:
        if self._pipeline is not None and isinstance(self._pipeline.meter_provider, LeanMeterProvider):
            self._pipeline.meter_provider.move(memory)

    def serve_prometheus(self) -> None:
        """Answer Prometheus on an own port, if the settings ask for one; one that is taken is a warning."""
        port = self.prometheus_port
        if port is None or self._server is not None or self.is_shut_down:
            return
        # Before anything else, for a fork must not find it half imported.
        from tercet.export.scrape_port import start_server

        reader = self._prometheus_reader()
        if self._workers is not None and not self._workers.holds("port"):
            return  # Another worker answers for all; this one tries again, for it may end.
        try:
            self._server = start_server(reader, self.settings.prometheus_host, port)
        except SetupError as error:
            # A worker that is killed loses its lock an instant before its port: the next look will tell.
            is_certain = self._workers is None or self._is_port_refused
            self._is_port_refused = True
            if is_certain and not self._is_port_told:
                self._is_port_told = True
                logger.warning("%s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"Observability({self.settings!r})"


def _parts(pipeline: Pipeline) -> list[Any]:
    """List what is flushed and shut down: our own parts, and what others have added to our own providers.

    A provider that was adopted stays its owner's, who ends what is on it.
    """
    own = [*pipeline.span_processors, *pipeline.log_processors, *pipeline.metric_readers]
    return own + [part for part in _added(pipeline) if getattr(part, "processor", part) not in own]


def _added(pipeline: Pipeline) -> Iterator[Any]:
    kinds = TracerProvider, MeterProvider, LoggerProvider
    for kind, provider in zip(kinds, pipeline.providers(), strict=True):
        if kind.__name__ not in pipeline.adopted and isinstance(provider, _LEAN):
            yield from provider.added()


class _Nothing:
    """What Prometheus is told while telemetry is disabled."""

    def render(self, openmetrics: bool) -> bytes:
        return b"# EOF\n" if openmetrics else b""


Action = Callable[[float], Any]


def _flushing(part: Any) -> Action:
    return lambda seconds: part.force_flush(int(seconds * 1000))


def _closing(part: Any) -> Action:
    """Say how to shut a part down; upstream's batch processors take no time limit."""
    if isinstance(part, BatchSpanProcessor | BatchLogRecordProcessor | Correlated | Guard):
        return lambda _seconds: part.shutdown()
    return lambda seconds: part.shutdown(timeout_millis=int(seconds * 1000))


class _SideBySide:
    """Actions that run at the same time, for a limited one.

    A signal's handler may run them while its own thread is about to: each is done once, and both wait.
    """

    def __init__(self, actions: Sequence[Action], timeout: float) -> None:
        self._actions = deque(actions)
        self._count = len(actions)
        self._deadline = time.monotonic() + timeout
        self._results: list[bool] = []
        self._changed = native.Condition()

    def run(self) -> bool:
        """Start what nobody has begun, wait for all of it in time, and say whether it went well."""
        for _ in range(len(self._actions)):
            try:
                native.start_thread(self._act)
            except RuntimeError:  # Python 3.12.0 to 3.12.2 start no threads at exit.
                self._act()
        with self._changed:
            is_done = self._changed.wait_for(
                lambda: len(self._results) == self._count, max(0.0, self._deadline - time.monotonic())
            )
        return is_done and all(self._results)

    def _act(self) -> None:
        try:
            action = self._actions.popleft()
        except IndexError:
            return
        result = _result(action, max(0.0, self._deadline - time.monotonic()))
        with self._changed:
            self._results.append(result)
            self._changed.notify_all()


def _result(action: Action, seconds: float) -> bool:
    try:
        return action(seconds) is not False
    except Exception as error:
        logger.warning("Telemetry could not be sent: %r", error)
        return False
