"""The edge between threads: work handed to a thread keeps the context of who handed it over."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from opentelemetry.context import attach, detach, get_current


def _carrying_context(function: Callable[..., Any]) -> Callable[..., Any]:
    context = get_current()

    def call(*args: Any, **kwargs: Any) -> Any:
        token = attach(context)
        try:
            return function(*args, **kwargs)
        finally:
            detach(token)

    return call


@functools.cache  # once, around whatever other tools have put there by then
def install() -> None:
    """Let `threading.Thread` and `ThreadPoolExecutor` carry the context into the work they run."""
    started, submitted = threading.Thread.start, ThreadPoolExecutor.submit

    def start(thread: threading.Thread) -> None:
        # An empty context is what a new thread has anyway.
        if get_current():
            thread.run = _carrying_context(thread.run)  # type: ignore[method-assign] # one instance, not the class
        started(thread)

    def submit(
        pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> "Future[Any]":
        # An empty context too: the pool's thread has that of whoever made the pool start it.
        return submitted(pool, _carrying_context(function), *args, **kwargs)

    threading.Thread.start = start  # type: ignore[method-assign,assignment]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign,assignment]
