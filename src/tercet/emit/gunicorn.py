"""The edge to gunicorn: its workers, whatever they serve with, tell when they begin to.

Its arbiter loads the application too, with `--preload`, and `tercet run` sets it up before it is one; neither
serves. A worker of any class says in intervals that it lives, and for the first time before it serves.
"""

from collections.abc import Callable
from typing import Any

import wrapt

from tercet.emit.exchange import tell_of_trouble


def install(begin: Callable[[], object]) -> None:
    """Call `begin` in each worker, before it serves."""
    wrapt.register_post_import_hook(lambda module: _hook(module.Worker, begin), "gunicorn.workers.base")


def _hook(worker: Any, begin: Callable[[], object]) -> None:
    notify = worker.notify

    def first(self: Any) -> None:
        worker.notify = notify
        try:
            begin()
        except Exception as trouble:  # A worker that does not say that it lives is ended.
            tell_of_trouble(trouble)
        notify(self)

    worker.notify = first
