"""`@traced`: a span around a function, a coroutine function or a generator."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar, overload

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
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

    def around(name: str) -> Around:
        start = functools.partial(_tracer.start_span, name, attributes=attributes)
        return lambda: spanning(start())

    return decorated(function_or_name, around)


#: What stands around one call of a function: it yields the span, and sees how the call ends.
Around = Callable[[], AbstractContextManager[Span]]


def decorated(function_or_name: Any, around: Callable[[str], Around]) -> Any:
    """Decorate a function, or return what does, where a name or nothing is given.

    Args:
        function_or_name: See `traced`.
        around: From the name of the function to what stands around each of its calls.
    """
    if function_or_name is None or isinstance(function_or_name, str):
        return lambda function: _wrapped(function, function_or_name, around)
    return _wrapped(function_or_name, None, around)


def record_error(span: Span, error: BaseException) -> None:
    """Write an exception on a span: type, message, stack and an error status."""
    span.set_attribute("error.type", error_type(error))
    span.set_status(StatusCode.ERROR, type(error).__name__)
    with suppress(Exception):  # An exception that cannot say what it is must not hide itself.
        span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
        span.record_exception(error)


def _wrapped(function: Any, name: str | None, around: Callable[[str], Around]) -> Any:
    if isinstance(function, staticmethod | classmethod):
        return type(function)(_wrapped(function.__func__, name, around))
    qualified = getattr(function, "__qualname__", type(function).__qualname__)
    begin = around(name or qualified.replace("<locals>.", ""))
    # An object that can be called is what its class says.
    body = function if hasattr(function, "__qualname__") else getattr(function, "__call__", function)  # noqa: B004
    for is_kind, wrap in (
        (inspect.isasyncgenfunction, _wrapped_async_generator),
        (inspect.isgeneratorfunction, _wrapped_generator),
        (inspect.iscoroutinefunction, _wrapped_coroutine),
    ):
        if is_kind(function) or is_kind(body):
            return functools.wraps(function)(wrap(function, begin))
    return functools.wraps(function)(_wrapped_function(function, begin))


@contextmanager
def spanning(span: Span) -> Iterator[Span]:
    """End a span with the block; what the block raises is recorded on it, and raised on."""
    try:
        yield span
    except GeneratorExit:
        raise  # A consumer that stops early is no error.
    except BaseException as error:
        record_error(span, error)
        raise
    finally:
        span.end()


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    token = attach(context)
    elsewhere = False
    try:
        yield
    except GeneratorExit:
        # A coroutine that is thrown away is closed in whatever context happens to be current.
        elsewhere = get_current() is not context
        raise
    finally:
        if not elsewhere:
            detach(token)


class _Body:
    """The context of a generator's body: current while the body runs, kept as it left it while it rests."""

    def __init__(self, span: Span) -> None:
        self._context = trace.set_span_in_context(span)

    @contextmanager
    def running(self) -> Iterator[None]:
        with _attached(self._context):
            try:
                yield
            finally:
                self._context = get_current()


def _wrapped_function(function: Callable[..., Any], around: Around) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with around() as span, _attached(trace.set_span_in_context(span)):
            return function(*args, **kwargs)

    return call


def _wrapped_coroutine(function: Callable[..., Any], around: Around) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with around() as span, _attached(trace.set_span_in_context(span)):
            return await function(*args, **kwargs)

    return call


def _wrapped_generator(function: Callable[..., Any], around: Around) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with around() as span:
            body = _Body(span)
            generator = function(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    with body.running():
                        item = resume()
                except StopIteration as stop:
                    return stop.value
                try:
                    resume = functools.partial(generator.send, (yield item))
                except GeneratorExit:
                    with body.running():
                        generator.close()
                    raise
                except BaseException as error:
                    resume = functools.partial(generator.throw, error)

    return call


def _wrapped_async_generator(function: Callable[..., Any], around: Around) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with around() as span:
            body = _Body(span)
            generator = function(*args, **kwargs)
            resume: Callable[[], Any] = functools.partial(anext, generator)
            while True:
                try:
                    with body.running():
                        item = await resume()
                except StopAsyncIteration:
                    return
                try:
                    resume = functools.partial(generator.asend, (yield item))
                except GeneratorExit:
                    with body.running():
                        await generator.aclose()
                    raise
                except BaseException as error:
                    resume = functools.partial(generator.athrow, error)

    return call
