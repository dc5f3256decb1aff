"""The chain of span processors: foreign ones fail by themselves, not the request, the call or the next."""

import logging
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, SynchronousMultiSpanProcessor

from tercet.declare.pace import Pace
from tercet.export.processors import BatchedSpans

logger = logging.getLogger("tercet.export")


class Guarded(SpanProcessor):
    """Let a processor fail without failing the code that it observes; say so once a minute."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._minutely = Pace()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tell the processor of a span that has started."""
        self._attempt(lambda: self._processor.on_start(span, parent_context))

    def _on_ending(self, span: Span) -> None:
        self._attempt(lambda: self._processor._on_ending(span))

    def on_end(self, span: ReadableSpan) -> None:
        """Tell the processor of a span that has ended."""
        self._attempt(lambda: self._processor.on_end(span))

    def shutdown(self) -> None:
        """Shut the processor down."""
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Let the processor send what is waiting."""
        return self._processor.force_flush(timeout_millis)

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            if self._minutely.allows():
                logger.warning("The span processor %s failed: %r", type(self._processor).__qualname__, error)


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
        self._add(Guarded(span_processor))

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
