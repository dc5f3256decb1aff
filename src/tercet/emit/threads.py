"""The edge between threads: work handed to a thread keeps the context of who handed it over."""

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from opentelemetry.context import attach, detach, get_current

Work = Callable[..., Any]
_timed: Callable[[ThreadPoolExecutor, Work], Work] | None = None


def observe(timed: Callable[[ThreadPoolExecutor, Work], Work] | None) -> None:
    """Let `timed` see the work that is handed to a pool, and return what to run in its place."""
    global _timed  # noqa: PLW0603 - the hook sits on a class, which is global too
    _timed = timed


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
        work = _carrying_context(function)
        return submitted(pool, work if _timed is None else _timed(pool, work), *args, **kwargs)

    threading.Thread.start = start  # type: ignore[method-assign,assignment]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign,assignment]
