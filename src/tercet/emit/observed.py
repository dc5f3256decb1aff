"""`@observed`: a span, a duration and a count of what goes on around a function, job or message handler."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar, overload

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span

from tercet.declare.metric import OPERATION_ACTIVE, OPERATION_DURATION, Values
from tercet.emit.distributions import Histograms
from tercet.emit.http import error_type
from tercet.emit.ledger import Ledger, Sums
from tercet.emit.registry import REGISTRY
from tercet.emit.series import Series
from tercet.emit.traces import decorated, spanning

F = TypeVar("F", bound=Callable[..., Any])
Value = str | bool | int
_tracer = trace.get_tracer("tercet")


@overload
def observed(function: F, /) -> F: ...
@overload
def observed(name: str | None = None, /, **attributes: Value) -> Callable[[F], F]: ...
def observed(function_or_name: Any = None, /, **attributes: Value) -> Any:
    """Put a span and RED metrics around each call of a function.

    Takes what `traced` takes, and makes the span that it makes. `tercet.operation.duration` has the rate, the
    errors by their class, and the durations; `tercet.operation.active` has what goes on. The series of
    success is there, at 0, from the decoration on. A generator lasts until it is exhausted or closed.

    >>> @observed
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> @observed("charge card", provider="acme")
    ... async def charge() -> None: ...
    >>> add(1, 2)
    3

    Args:
        function_or_name: The function, or the name of the operation; else its qualified name is used.
        attributes: Set on each span, and on the metrics: the same for each call, so that series stay few.
    """
    return decorated(function_or_name, lambda name: _Operation(name, attributes).around)


class _Operation:
    """What is measured of one decorated function."""

    def __init__(self, name: str, attributes: dict[str, Value]) -> None:
        self._name, self._attributes = name, attributes
        self._values = {"operation": name, **attributes}
        _DURATIONS.widen(attributes)
        _ACTIVE.widen(attributes)
        self._active = self._series(_ACTIVE)
        self._success = self._series(_DURATIONS)

    def _series(self, ledger: Ledger, error: str | None = None) -> Series:
        return ledger.series(self._tuple(ledger, error), is_kept=error is None)

    def _tuple(self, ledger: Ledger, error: str | None) -> Values:
        values = {**self._values, "error.type": error}
        return tuple(values.get(key) for key in ledger.metric.attributes)

    @contextmanager
    def around(self) -> Iterator[Span]:
        """Measure one call, and put a span around it."""
        started, process, error = perf_counter(), os.getpid(), None
        span = _tracer.start_span(self._name, attributes=self._attributes)
        _ACTIVE.add_to(self._active, 1, INVALID_SPAN_CONTEXT)
        try:
            with spanning(span):
                yield span
        except GeneratorExit:
            raise  # A consumer that stops early is no error.
        except BaseException as raised:
            error = error_type(raised)
            raise
        finally:
            seconds, ids = perf_counter() - started, span.get_span_context()
            series = self._success if error is None else self._series(_DURATIONS, error)
            _DURATIONS.record_to(series, seconds, ids)
            if _DURATIONS.watches:
                _DURATIONS.count(seconds, self._tuple(_DURATIONS, error), ids)
            if os.getpid() == process:  # A child that is forked within ends what its parent has begun.
                _ACTIVE.add_to(self._active, -1, INVALID_SPAN_CONTEXT)


def _declared(metric: Any, kind: type[Any]) -> Any:
    ledger, _ = REGISTRY.declare(metric)
    assert isinstance(ledger, kind)
    return ledger


_DURATIONS: Histograms = _declared(OPERATION_DURATION, Histograms)
_ACTIVE: Sums = _declared(OPERATION_ACTIVE, Sums)
