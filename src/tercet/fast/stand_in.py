"""Functions of the request path that have a twin in C.

A twin does what is ordinary, says byte for byte the same, and leaves the rest to Python. So nothing depends
on it: without a compiler, or without a GIL, a request takes longer, and that is all.
"""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar


def _compiled() -> Any:
    try:
        return importlib.import_module("tercet.fast.twins")
    except ImportError:  # not compiled, or for another machine
        return None


twins = _compiled()

F = TypeVar("F", bound=Callable[..., Any])

#: The functions that have twins, by name: each has all the rules of what it does.
in_python: dict[str, Callable[..., Any]] = {}


def is_compiled() -> bool:
    """Say whether the twins are there."""
    return twins is not None


def has_twin(*known: Any) -> Callable[[F], F]:
    """Let a function's twin stand in for it, where there is one.

    Args:
        known: What the twin must know to be one.
    """

    def stand_in(function: F) -> F:
        name = function.__name__
        in_python[name] = function
        twin: F | None = getattr(twins, name, None)
        if twin is None:
            return function
        try:
            twins.leave_to(name, function, *known)
        except TypeError:  # in a checkout that has changed since it was compiled
            return function
        return twin

    return stand_in
