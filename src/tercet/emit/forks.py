"""What a forked child has to do first, and what no fork may cut in two."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

_undivided = threading.RLock()


def in_children(act: Callable[[], object]) -> None:
    """Call `act` in each child that is forked from now on, where systems fork any."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)


def undivided() -> AbstractContextManager[bool]:
    """Let a fork wait until a block has ended.

    A child that is forked while another thread imports a module can never import it itself.
    """
    return _undivided


def _start_anew() -> None:
    global _undivided  # noqa: PLW0603 - one lock for all forks of the process
    _undivided = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: undivided().__enter__(),
        after_in_parent=lambda: _undivided.release(),  # noqa: PLW0108 - a child has another one
        after_in_child=_start_anew,
    )
