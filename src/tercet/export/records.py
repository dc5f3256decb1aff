"""The SDK's logger provider and logger with the common case spelled out: a record is encoded when emitted.

Whatever is rare, a foreign processor above all, is left to the classes that these derive from.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import get_current_span

from tercet.export.attributes import is_simple
from tercet.export.encode import encode_log_fields
from tercet.export.processors import BatchedLogs


class LogProcessors(SynchronousMultiLogRecordProcessor):
    """Let our own way out come last: what others do to a record must be done before it is encoded.

    Attributes:
        outlets: Our own ways out.
        others: Everybody else, in the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # upstream's constructor
        self.outlets: tuple[BatchedLogs, ...] = ()
        self.others: tuple[LogRecordProcessor, ...] = ()

    def add_log_record_processor(self, log_record_processor: LogRecordProcessor) -> None:
        """Add a processor."""
        with self._lock:
            if isinstance(log_record_processor, BatchedLogs):
                self.outlets += (log_record_processor,)
            else:
                self.others += (log_record_processor,)
            self._log_record_processors = self.others + self.outlets


class LeanLogger(Logger):
    """A logger of the SDK that encodes a record and makes no object of it, where nobody else wants one."""

    _multi_log_record_processor: LogProcessors

    def emit(
        self,
        record: LogRecord | None = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: SeverityNumber | None = None,
        severity_text: str | None = None,
        body: Any = None,
        attributes: Mapping[str, Any] | None = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """Send a record on its way; either a record, or what it consists of."""
        chain = self._multi_log_record_processor
        is_rare = record is not None or event_name or exception is not None or timestamp is None
        if is_rare or chain.others or not self._is_enabled() or not self._needs_no_cleaning(attributes):
            super().emit(
                record,
                timestamp=timestamp,
                observed_timestamp=observed_timestamp,
                context=context,
                severity_number=severity_number,
                severity_text=severity_text,
                body=body,
                attributes=attributes,
                event_name=event_name,
                exception=exception,
            )
            return
        self._logger_metrics.emit_log()
        if chain.outlets:
            ids = get_current_span(context).get_span_context()
            encoded = encode_log_fields(
                timestamp,
                timestamp if observed_timestamp is None else observed_timestamp,
                (ids.trace_id, ids.span_id, ids.trace_flags),
                (0 if severity_number is None else severity_number._value_, severity_text),
                body,
                attributes,
            )
            for outlet in chain.outlets:
                outlet.outbox.put((self._resource, self._instrumentation_scope, encoded))

    def _needs_no_cleaning(self, attributes: Mapping[str, Any] | None) -> bool:
        if not attributes:
            return True
        limits = self._log_record_limits
        most = limits.max_log_record_attributes
        fits = limits.max_log_record_attribute_length is None and (most is None or len(attributes) <= most)
        return fits and is_simple(attributes)


class LeanLoggerProvider(LoggerProvider):
    """The SDK's provider, with loggers that cost less."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource, shutdown_on_exit=False, multi_log_record_processor=LogProcessors())

    def _get_logger_no_cache(self, *args: Any, **kwargs: Any) -> Logger:
        logger = super()._get_logger_no_cache(*args, **kwargs)
        if type(logger) is Logger:
            logger.__class__ = LeanLogger
        return logger
