"""The processors of others: they fail by themselves, not the request, the call or the next processor."""

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, SynchronousMultiSpanProcessor

from tercet.declare.pace import Pace
from tercet.export.processors import BatchedSpans

logger = logging.getLogger("tercet.export")


class Guard:
    """Let a processor of others fail without failing the code that it observes; say so once a minute.

    Attributes:
        processor: The one that is guarded.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self._minutely = Pace()
        self._is_shut_down = False

    def shutdown(self) -> None:
        """Shut the processor down, once: by its provider or at the end of the process."""
        if not self._is_shut_down:
            self._is_shut_down = True
            self.processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Let the processor send what is waiting."""
        done: bool = self.processor.force_flush(timeout_millis)
        return done

    def _attempt(self, act: Callable[[], Any]) -> Any:
        """Return what it returns; None where it fails."""
        try:
            return act()
        except Exception as error:
            if self._minutely.allows():
                logger.warning("The processor %s failed: %r", type(self.processor).__qualname__, error)


class GuardedSpans(Guard, SpanProcessor):
    """Guard a processor of spans."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell the processor of a span that has started."""
        self._attempt(lambda: self.processor.on_start(span, parent_context))

    def _on_ending(self, span: Span) -> None:
        self._attempt(lambda: self.processor._on_ending(span))

    def on_end(self, span: ReadableSpan) -> None:
        """Tell the processor of a span that has ended."""
        self._attempt(lambda: self.processor.on_end(span))


class GuardedLogs(Guard, LogRecordProcessor):
    """Guard a processor of log records."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Tell the processor of a record."""
        self._attempt(lambda: self.processor.on_emit(log_record))

    def enabled(self, *args: Any, **kwargs: Any) -> bool:
        """Ask the processor whether it wants a record at all; one that fails to say so gets it."""
        wanted = self._attempt(lambda: self.processor.enabled(*args, **kwargs))
        return wanted is None or bool(wanted)


class GuardedProcessors(SynchronousMultiSpanProcessor):
    """Guard each processor that is added from now on, and let our own way out come last.

    Attributes:
        outlets: Our own ways out. They encode a span when it ends: what others do to it must be done by then.
        others: Everybody else, in the order in which they came.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # upstream's constructor
        self.outlets: tuple[BatchedSpans, ...] = ()
        self.others: tuple[SpanProcessor, ...] = ()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor, guarded."""
        self._add(GuardedSpans(span_processor))

    def add_own(self, span_processor: SpanProcessor) -> None:
        """Add one of ours, which needs no guard and so costs none."""
        self._add(span_processor)

    def _add(self, processor: SpanProcessor) -> None:
        with self._lock:
            if isinstance(processor, BatchedSpans):
                self.outlets += (processor,)
            else:
                self.others += (processor,)
            self._span_processors = self.others + self.outlets
