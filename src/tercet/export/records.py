"""The SDK's logger provider and logger with the common case spelled out: a record is encoded when emitted.

Whatever is rare, a foreign processor above all, is left to the classes that these derive from.
"""

import sys
from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs._internal import LogRecordLimits, SynchronousMultiLogRecordProcessor
from opentelemetry.sdk._logs._internal._logger_metrics import NoOpLoggerMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, get_current_span

from tercet.export.attributes import is_simple
from tercet.export.encode import encode_log_fields
from tercet.export.guard import GuardedLogs
from tercet.export.processors import BatchedLogs


class LogProcessors(SynchronousMultiLogRecordProcessor):
    """Guard the processors of others, and let our own way out come last.

    What others do to a record must be done before it is encoded.

    Attributes:
        outlets: Our own ways out.
        others: Everybody else, in the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # upstream's constructor
        self.outlets: tuple[BatchedLogs, ...] = ()
        self.others: tuple[GuardedLogs, ...] = ()

    def add_log_record_processor(self, log_record_processor: LogRecordProcessor) -> None:
        """Add a processor."""
        with self._lock:
            if isinstance(log_record_processor, BatchedLogs):
                self.outlets += (log_record_processor,)
            else:
                self.others += (GuardedLogs(log_record_processor),)
            self._log_record_processors = self.others + self.outlets


class LeanLogger(Logger):
    """A logger of the SDK that encodes a record and makes no object of it, where nobody else wants one."""

    _multi_log_record_processor: LogProcessors

    def adopt(self) -> None:
        """Take over from the SDK's own logger, which this object was made as."""
        self._room = _room(self._log_record_limits)

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
        is_plain = not attributes or (len(attributes) <= self._room and is_simple(attributes))
        if is_rare or chain.others or not self._is_enabled() or not is_plain:
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
        number: Any = 0 if severity_number is None else getattr(severity_number, "_value_", severity_number)
        severity = (number, severity_text)
        ids = get_current_span(context).get_span_context()
        self.take(timestamp, severity, body, attributes or {}, ids, context, observed_timestamp)

    def take(  # noqa: PLR0917 - the log stream has it so: names cost as much as the rest
        self,
        created: int | None,
        severity: tuple[int, str | None],
        message: Any,
        fields: Mapping[str, Any],
        ids: SpanContext,
        context: Context | None,
        observed: int | None = None,
    ) -> None:
        """Send on its way what is known of a record."""
        if self._multi_log_record_processor.others or len(fields) > self._room or not is_simple(fields):
            number, text = severity
            self.emit(
                timestamp=created,
                observed_timestamp=observed,
                context=context,
                severity_text=text,
                severity_number=SeverityNumber(number),
                body=message,
                attributes=fields,
            )
        elif self._logger_config.is_enabled:
            outlets = self._multi_log_record_processor.outlets
            observed = time_ns() if observed is None else observed
            try:
                encoded = encode_log_fields(created, observed, ids, severity, message, fields)
            except Exception as error:  # A record can hold anything, and must not fail whoever logs.
                for outlet in outlets:
                    outlet.outbox.refuse("encode_failed", error)
                return
            for outlet in outlets:
                outlet.outbox.put((self._resource, self._instrumentation_scope, encoded))


class LeanLoggerProvider(LoggerProvider):
    """The SDK's provider, with loggers that cost less."""

    def __init__(self, resource: Resource) -> None:
        self._chain = LogProcessors()
        super().__init__(resource, shutdown_on_exit=False, multi_log_record_processor=self._chain)

    def added(self) -> list[LogRecordProcessor]:
        """List the processors that are not our own way out."""
        return [*self._chain.others]

    def _get_logger_no_cache(self, *args: Any, **kwargs: Any) -> Logger:
        logger = super()._get_logger_no_cache(*args, **kwargs)
        # With the SDK's internal metrics on, its own loggers stay.
        if type(logger) is Logger and isinstance(logger._logger_metrics, NoOpLoggerMetrics):
            logger.__class__ = LeanLogger
            logger.adopt()  # type: ignore[attr-defined] # it has just become one
        return logger


def _room(limits: LogRecordLimits) -> int:
    """Say how many attributes a record may keep without looking at each: none where length is limited."""
    if limits.max_log_record_attribute_length is not None:
        return 0
    most = limits.max_log_record_attributes
    return sys.maxsize if most is None else most
