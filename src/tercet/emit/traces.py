"""`@traced`: a span around a function, a coroutine function or a generator."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, overload

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, StatusCode
from opentelemetry.util.types import AttributeValue

from tercet.emit.http import error_type

F = TypeVar("F", bound=Callable[..., Any])
_tracer = trace.get_tracer("tercet")


@overload
def traced(function: F, /) -> F: ...
@overload
def traced(name: str | None = None, /, **attributes: AttributeValue) -> Callable[[F], F]: ...
def traced(function_or_name: Any = None, /, **attributes: AttributeValue) -> Any:
    """Put a span around each call of a function.

    Takes plain functions, coroutine functions, generators and asynchronous generators. The span of a
    generator lasts until it is exhausted or closed, and is current only while its body runs, never in the
    consumer.
    What the function raises is recorded with type, message and stack, and raised on.

    >>> @traced
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> @traced("charge card", provider="acme")
    ... async def charge() -> None: ...
    >>> add(1, 2)
    3

    Args:
        function_or_name: The function, or the name of the span; else the function's qualified name is used.
        attributes: Set on each span.
    """
    if callable(function_or_name):
        return _wrapped(function_or_name, None, {})
    return lambda function: _wrapped(function, function_or_name, attributes)


def record_error(span: Span, error: BaseException) -> None:
    """Write an exception on a span: type, message, stack and an error status."""
    span.record_exception(error)
    span.set_attribute("error.type", error_type(error))
    span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")


def _wrapped(
    function: Callable[..., Any], name: str | None, attributes: dict[str, Any]
) -> Callable[..., Any]:
    span_name = name or function.__qualname__.replace("<locals>.", "")
    start = functools.partial(_tracer.start_span, span_name, attributes=attributes)
    for is_kind, wrap in (
        (inspect.isasyncgenfunction, _wrapped_async_generator),
        (inspect.isgeneratorfunction, _wrapped_generator),
        (inspect.iscoroutinefunction, _wrapped_coroutine),
    ):
        if is_kind(function):
            return functools.wraps(function)(wrap(function, start))
    return functools.wraps(function)(_wrapped_function(function, start))


@contextmanager
def _ending(span: Span) -> Iterator[None]:
    try:
        yield
    except GeneratorExit:
        raise  # A consumer that stops early is no error.
    except BaseException as error:
        record_error(span, error)
        raise
    finally:
        span.end()


@contextmanager
def _current(span: Span) -> Iterator[None]:
    token = attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        detach(token)


def _wrapped_function(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        span = start()
        with _ending(span), _current(span):
            return function(*args, **kwargs)

    return call


def _wrapped_coroutine(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        span = start()
        with _ending(span), _current(span):
            return await function(*args, **kwargs)

    return call


def _wrapped_generator(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        span = start()
        with _ending(span):
            generator = function(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    with _current(span):
                        item = resume()
                except StopIteration as stop:
                    return stop.value
                try:
                    resume = functools.partial(generator.send, (yield item))
                except GeneratorExit:
                    with _current(span):
                        generator.close()
                    raise
                except BaseException as error:
                    resume = functools.partial(generator.throw, error)

    return call


def _wrapped_async_generator(function: Callable[..., Any], start: Callable[[], Span]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        span = start()
        with _ending(span):
            generator = function(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(anext, generator)
            while True:
                try:
                    with _current(span):
                        item = await resume()
                except StopAsyncIteration:
                    return
                try:
                    resume = functools.partial(generator.asend, (yield item))
                except GeneratorExit:
                    with _current(span):
                        await generator.aclose()
                    raise
                except BaseException as error:
                    resume = functools.partial(generator.athrow, error)

    return call
