"""The edge between threads: work handed to a thread keeps the context of who handed it over."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from opentelemetry.context import attach, detach, get_current

_started = threading.Thread.start
_submitted = ThreadPoolExecutor.submit


def _carrying_context(function: Callable[..., Any]) -> Callable[..., Any]:
    context = get_current()

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        token = attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return call


def _start(thread: threading.Thread) -> None:
    # An empty context is what a new thread has anyway.
    if get_current():
        thread.run = _carrying_context(thread.run)  # type: ignore[method-assign] # one instance, not the class
    _started(thread)


def _submit(
    pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> "Future[Any]":
    return _submitted(pool, _carrying_context(function) if get_current() else function, *args, **kwargs)


def install() -> None:
    """Let `threading.Thread` and `ThreadPoolExecutor` carry the context into the work they run."""
    threading.Thread.start = _start  # type: ignore[method-assign,assignment]
    ThreadPoolExecutor.submit = _submit  # type: ignore[method-assign,assignment]
