"""The handle to what was set up, and the pipeline behind it."""

import atexit
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from tercet.declare.settings import Settings
from tercet.emit.logs import LogStream
from tercet.errors import SetupError
from tercet.export.prometheus import PrometheusApp, PrometheusReader, PrometheusServer, start_server

PROMETHEUS_PORT = 9464
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


class Observability:
    """The handle to what `setup_observability` set up; as a context manager, it shuts down in the end."""

    def __init__(self, settings: Settings, pipeline: Pipeline | None, *, by_agent: bool = False) -> None:
        self.settings = settings
        self.by_agent = by_agent
        self.is_shut_down = False
        self._pipeline = pipeline
        self._prometheus: PrometheusReader | None = None
        self._server: PrometheusServer | None = None
        port = _wanted_port(settings)
        if pipeline is not None and port is not None:
            self._serve_prometheus(port)

    def force_flush(self, timeout: float = 5.0) -> bool:
        """Send what is waiting, all signals at once.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether everything was sent in time.
        """
        if self._pipeline is None:
            return True
        millis = int(timeout * 1000)
        flushes = [functools.partial(part.force_flush, millis) for part in _parts(self._pipeline)]
        return _all_done(flushes, timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Send what is waiting and stop; safe to call twice.

        Args:
            timeout: Seconds to wait at most, over all signals; the setting `shutdown_timeout` when not given.

        Returns:
            Whether everything was sent in time; what was not is lost, and a line on stderr says so.
        """
        if self._pipeline is None or self.is_shut_down:
            return True
        self.is_shut_down = True
        atexit.unregister(self.shutdown)
        if self._server is not None:
            self._server.close()
        timeout = self.settings.shutdown_timeout if timeout is None else timeout
        done = _all_done([each.shutdown for each in _parts(self._pipeline)], timeout)
        if not done and sys.stderr is not None:
            sys.stderr.write(
                f"tercet: {timeout:g} s were too short to deliver all telemetry; the rest is lost.\n"
            )
        return done

    def metrics_app(self) -> PrometheusApp:
        """Return an ASGI application that answers Prometheus, to mount where you like.

        It shows what is measured from its first call on, so make it when the application starts.

        Raises:
            SetupError: Telemetry is disabled or shut down.
        """
        return PrometheusApp(self._prometheus_reader())

    def _prometheus_reader(self) -> PrometheusReader:
        if self._pipeline is None or self.is_shut_down:
            raise SetupError("metrics_app() must be called while telemetry is on. Check OTEL_SDK_DISABLED.")
        if self._prometheus is None:
            self._prometheus = PrometheusReader()
            self._pipeline.meter_provider.add_metric_reader(self._prometheus)
            self._pipeline.metric_readers.append(self._prometheus)
        return self._prometheus

    def _serve_prometheus(self, port: int) -> None:
        try:
            self._server = start_server(self._prometheus_reader(), self.settings.prometheus_host, port)
        except SetupError as error:
            # With several workers only the first gets the port; the service goes on.
            logger.warning("%s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"Observability({self.settings!r})"


def _wanted_port(settings: Settings) -> int | None:
    if settings.prometheus_port is None and "prometheus" in settings.metrics_exporter:
        return PROMETHEUS_PORT
    return settings.prometheus_port


def _parts(pipeline: Pipeline) -> list[Any]:
    """List what is flushed and shut down: our own parts, so that an adopted provider stays its owner's."""
    return [*pipeline.span_processors, *pipeline.log_processors, *pipeline.metric_readers]


def _all_done(actions: Sequence[Callable[[], Any]], timeout: float) -> bool:
    """Run the actions side by side, and wait until all are done or the time is up."""
    deadline = time.monotonic() + timeout
    results: list[bool] = []
    threads = [threading.Thread(target=_note, args=(action, results), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(results) == len(actions) and all(results)


def _note(action: Callable[[], Any], results: list[bool]) -> None:
    try:
        results.append(action() is not False)
    except Exception as error:
        logger.warning("Telemetry could not be sent: %r", error)
        results.append(False)
