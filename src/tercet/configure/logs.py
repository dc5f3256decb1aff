"""From settings to the pipeline of logs."""

import logging
from collections.abc import Mapping

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from tercet.configure.delivery import build_outbox
from tercet.declare.settings import Settings
from tercet.emit.logs import LogStream
from tercet.export.exporters import OTLP, build_exporter, exporter_names
from tercet.export.processors import BatchedLogs
from tercet.export.records import LeanLoggerProvider
from tercet.export.text import line_renderer

# They write a line for each request, which the client span says better, or for each number of a header.
_CHATTY = ("httpx", "httpx2", "hpack")


def build_logger_provider(resource: Resource) -> LoggerProvider:
    """Make the provider, still without processors."""
    return LeanLoggerProvider(resource)


def build_log_processors(settings: Settings) -> list[LogRecordProcessor]:
    """Make what sends log records away."""
    return [_build_batch(name, settings) for name in exporter_names("logs", settings)]


def _build_batch(name: str, settings: Settings) -> LogRecordProcessor:
    if name == OTLP:
        return BatchedLogs(build_outbox("logs", settings))
    return BatchLogRecordProcessor(
        build_exporter(name, "logs"),
        max_queue_size=settings.log_queue_size,
        schedule_delay_millis=settings.log_export_delay * 1000,
        max_export_batch_size=min(settings.log_batch_size, settings.log_queue_size),
    )


def build_log_stream(
    settings: Settings, service: str, provider: LoggerProvider | None, environ: Mapping[str, str]
) -> LogStream:
    """Make what takes every record of the process."""
    refuses_debug = settings.production and not settings.debug_in_production
    return LogStream(
        service=service,
        render=line_renderer(settings.log_format, environ),
        provider=provider,
        floor=logging.INFO if refuses_debug else logging.NOTSET,
    )


def setup_levels(settings: Settings) -> None:
    """Set the levels that the settings name, and INFO where neither they nor the application chose one."""
    root = logging.getLogger()
    if settings.log_level is not None:
        root.setLevel(settings.log_level)
    elif root.level == logging.WARNING:  # Python's own default: most likely nobody chose it.
        root.setLevel(logging.INFO)
    for name in _CHATTY:
        if logging.getLogger(name).level == logging.NOTSET and settings.http_edges != "off":
            logging.getLogger(name).setLevel(logging.WARNING)
    # It writes each flaw of a caller's header into the log, word for word.
    logging.getLogger("opentelemetry.baggage.propagation").setLevel(logging.ERROR)
    for name, level in settings.log_levels.items():
        logging.getLogger(name).setLevel(level)
