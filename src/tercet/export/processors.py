"""The SDK's side of an outbox: processors for spans and log records."""

from collections.abc import Callable
from typing import TypeVar

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from tercet.export.batch import Outbox
from tercet.export.encode import Encoded, encode_log, encode_span

S = TypeVar("S", bound=ReadableSpan)
_NO_RESOURCE = Resource.get_empty()


class BatchedSpans(SpanProcessor):
    """Put each sampled span into an outbox when it ends.

    It is encoded there and then: its bytes are a tenth of its objects, nothing is left for the garbage
    collector to walk through, and the thread that sends holds nobody up by encoding a whole batch.
    """

    def __init__(self, outbox: Outbox[Encoded]) -> None:
        self.outbox = outbox

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended, if it is sampled."""
        if span.context.trace_flags.sampled:
            self.take(span)

    def take(self, span: S, encode: Callable[[S], bytes] = encode_span) -> None:
        """Take a sampled span that has ended, encoded by whoever knows it best."""
        try:
            body = encode(span)
        except Exception as error:  # A span can hold anything, and must not fail whoever ends it.
            self.outbox.refuse("encode_failed", error)
        else:
            self.outbox.put((span._resource, span._instrumentation_scope, body))

    def shutdown(self, timeout_millis: float = 5_000) -> bool:  # type: ignore[override] # None upstream
        """Send what is waiting, stop, and say whether all was sent."""
        return self.outbox.close(timeout_millis / 1000)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is waiting."""
        return self.outbox.flush(timeout_millis / 1000)


class BatchedLogs(LogRecordProcessor):
    """Put each log record into an outbox."""

    def __init__(self, outbox: Outbox[Encoded]) -> None:
        self.outbox = outbox

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Take a log record; it is encoded at once, as spans are."""
        try:
            body = encode_log(log_record)
        except Exception as error:  # A record can hold anything, and must not fail whoever logs.
            self.outbox.refuse("encode_failed", error)
        else:
            resource = log_record.resource or _NO_RESOURCE
            self.outbox.put((resource, log_record.instrumentation_scope, body))

    def shutdown(self, timeout_millis: float = 5_000) -> bool:  # type: ignore[override] # None upstream
        """Send what is waiting, stop, and say whether all was sent."""
        return self.outbox.close(timeout_millis / 1000)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is waiting."""
        return self.outbox.flush(timeout_millis / 1000)
