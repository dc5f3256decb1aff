"""Pools of connections: how many there are, who waits for one, and how long.

A pool is known from its first use on, as long as it is there. Each library's file says what a pool of its
kind is called, what it holds, and which of its methods is waited in.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar, Token
from time import perf_counter
from types import TracebackType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.usage import POOL_CONNECTIONS, POOL_MAX, POOL_PENDING, POOL_TIMEOUTS, POOL_WAIT
from tercet.emit.forks import in_children
from tercet.emit.metrics import Recorder, build_recorder
from tercet.emit.snapshot import Reading, Sums

#: The pool that is being waited for right here; what it asks of its own base class is the same wait.
_waited_for: ContextVar[Any] = ContextVar("tercet-pool", default=None)


class Held(NamedTuple):
    """What a pool holds: connections that are idle and used, and how many there may be, None for any."""

    idle: int
    used: int
    most: int | None


class Kind(NamedTuple):
    """What one library's pools are like.

    Attributes:
        name: What one is called, the same for all of its life and one of few.
        held: What one holds; None where it does not count.
        is_timeout: Whether an error says that no connection could be had in time.
    """

    name: Callable[[Any], str]
    held: Callable[[Any], Held | None]
    is_timeout: Callable[[BaseException], bool]


class _Known:
    """What is known of one pool beside itself."""

    __slots__ = ("kind", "lock", "name", "pending", "timeouts")

    def __init__(self, kind: Kind, name: str) -> None:
        self.kind, self.name = kind, name
        # Its length counts, for to append and to pop needs no lock.
        self.pending: list[None] = []
        self.timeouts = 0
        self.lock = threading.RLock()


class Pools:
    """Measure pools of connections to databases and the like."""

    def __init__(self, meter: Meter) -> None:
        self._wait = build_recorder(meter, POOL_WAIT)
        self._start_anew()
        in_children(self._start_anew)

    def _start_anew(self) -> None:
        self._known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()

    def waiting(self, pool: Any, kind: Kind) -> AbstractContextManager[None]:
        """Measure what is done within it as waiting for a connection of `pool`."""
        try:
            known = self._known.get(pool)
            if known is None:
                known = self._known[pool] = _Known(kind, kind.name(pool))
        except Exception:  # A pool's name is its library's inside; whoever asks for a connection gets it.
            return nullcontext()
        return _Waiting(pool, known, self._wait)

    def readings(self) -> Iterator[Reading]:
        """Read what all pools hold, and who waits for one."""
        sums = Sums()
        for reference in self._known.keyrefs():
            pool = reference()
            if pool is not None:
                known = self._known[pool]
                # What a pool says of itself is its library's inside.
                with suppress(Exception):
                    _add_held(sums, known.name, known.kind.held(pool))
                sums.add(POOL_PENDING, (known.name,), len(known.pending))
                sums.add(POOL_TIMEOUTS, (known.name,), known.timeouts)
        return sums.readings()


def _add_held(sums: Sums, name: str, held: Held | None) -> None:
    if held is not None:
        sums.add(POOL_CONNECTIONS, (name, "idle"), held.idle)
        sums.add(POOL_CONNECTIONS, (name, "used"), held.used)
        if held.most is not None:
            sums.add(POOL_MAX, (name,), held.most)


class _Waiting:
    """One request for a connection, from asking until it is there or never will be."""

    __slots__ = ("_known", "_pool", "_started", "_token", "_wait")

    def __init__(self, pool: Any, known: _Known, wait: Recorder) -> None:
        self._pool, self._known, self._wait = pool, known, wait

    def __enter__(self) -> None:
        self._token: Token[Any] = _waited_for.set(self._pool)
        self._known.pending.append(None)
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = perf_counter() - self._started
        _waited_for.reset(self._token)
        known = self._known
        known.pending.pop()
        is_timeout = error is not None and known.kind.is_timeout(error)
        if is_timeout:
            with known.lock:
                known.timeouts += 1
        if error is None or is_timeout:
            with suppress(Exception):  # of a foreign meter; the connection is there.
                self._wait.record(seconds, (known.name,), INVALID_SPAN_CONTEXT)


_installed: Pools | None = None


def install(pools: Pools | None) -> None:
    """Make `pools` what every hooked pool is measured with; None measures none."""
    global _installed  # noqa: PLW0603 - the hooks sit on classes, which are global too
    _installed = pools


def setup(meter: Meter) -> None:
    """Measure pools with `meter`, unless they are measured already."""
    if _installed is None:
        install(Pools(meter))


def installed() -> Pools | None:
    """Return what pools are measured with."""
    return _installed


def hook(owner: type, method: str, kind: Kind) -> None:
    """Measure a method of a class, plain or a coroutine, in which a connection is waited for."""
    original = vars(owner).get(method)
    if original is None or hasattr(original, "tercet"):
        return
    hooked = _hooked_async if inspect.iscoroutinefunction(original) else _hooked_sync
    replacement = functools.wraps(original)(hooked(original, kind))
    replacement.tercet = True  # type: ignore[attr-defined] # a function takes any
    setattr(owner, method, replacement)


def _hooked_sync(original: Any, kind: Kind) -> Callable[..., Any]:
    def obtain(pool: Any, *args: Any, **kwargs: Any) -> Any:
        pools = _installed
        if pools is None or _waited_for.get() is pool:
            return original(pool, *args, **kwargs)
        with pools.waiting(pool, kind):
            return original(pool, *args, **kwargs)

    return obtain


def _hooked_async(original: Any, kind: Kind) -> Callable[..., Any]:
    async def obtain(pool: Any, *args: Any, **kwargs: Any) -> Any:
        pools = _installed
        if pools is None or _waited_for.get() is pool:
            return await original(pool, *args, **kwargs)
        with pools.waiting(pool, kind):
            return await original(pool, *args, **kwargs)

    return obtain
