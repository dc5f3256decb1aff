"""Pools of httpcore, which httpx keeps its connections in: https://www.encode.io/httpcore/connection-pools/."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from time import perf_counter
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.metrics import Meter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.usage import HTTP_CONNECTIONS, HTTP_PENDING, HTTP_TIMEOUTS, HTTP_WAIT
from tercet.emit.forks import in_children
from tercet.emit.metrics import build_recorder
from tercet.emit.snapshot import Reading, Sums

Server = tuple[str | None, int | None]
#: What waits in vain for more servers than this is counted without their names.
_MOST_SERVERS = 500
_OTHERS: Server = (None, None)
_DEFAULT_PORTS = {b"http": 80, b"https": 443}


class HttpPools:
    """Measure the pools of HTTP clients, by the server that a connection or a request is for."""

    def __init__(self, meter: Meter) -> None:
        self._wait = build_recorder(meter, HTTP_WAIT)
        self.pools: WeakKeyDictionary[Any, None] = WeakKeyDictionary()
        self._start_anew()
        in_children(self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._timeouts: dict[Server, int] = {}

    def waited(self, server: Server, seconds: float, *, in_vain: bool) -> None:
        """Record that a request has waited for a place in a pool."""
        self._wait.record(seconds, server, INVALID_SPAN_CONTEXT)
        if in_vain:
            with self._lock:
                known = server in self._timeouts or len(self._timeouts) < _MOST_SERVERS
                server = server if known else _OTHERS
                self._timeouts[server] = self._timeouts.get(server, 0) + 1

    def readings(self) -> Iterator[Reading]:
        """Read what all pools hold, and who waits."""
        sums = Sums()
        for pool in (reference() for reference in self.pools.keyrefs()):
            if pool is None:
                continue
            with suppress(AttributeError):  # All of this is httpcore's inside.
                for connection in list(pool._connections):
                    state = "idle" if connection.is_idle() else "active"
                    sums.add(HTTP_CONNECTIONS, (*_server(connection), state), 1)
                for request in list(pool._requests):
                    sums.add(HTTP_PENDING, _server_of(request), int(request.is_queued()))
        for server, count in list(self._timeouts.items()):
            sums.add(HTTP_TIMEOUTS, server, count)
        return sums.readings()


def _server(connection: Any) -> Server:
    """Say which server a connection leads to, through a proxy too."""
    origin = getattr(connection, "_remote_origin", None) or connection._origin
    return _named(origin)


def _server_of(request: Any) -> Server:
    return _named(request.request.url.origin)


def _named(origin: Any) -> Server:
    return origin.host.decode("ascii", "replace"), origin.port or _DEFAULT_PORTS.get(origin.scheme)


_installed: HttpPools | None = None


def install(pools: HttpPools | None) -> None:
    """Make `pools` what every hooked pool is measured with; None measures none."""
    global _installed  # noqa: PLW0603 - the hooks sit on classes, which are global too
    _installed = pools


def setup(meter: Meter) -> None:
    """Measure pools with `meter`, unless they are measured already."""
    if _installed is None:
        install(HttpPools(meter))


def installed() -> HttpPools | None:
    """Return what pools are measured with."""
    return _installed


def attach(module: Any, meter: Meter) -> None:
    """Measure all pools of the package, which has been imported."""
    setup(meter)
    name = module.__name__
    _hook(module.ConnectionPool, "__init__", _remembering)
    _hook(module.AsyncConnectionPool, "__init__", _remembering)
    late = module.PoolTimeout
    sync, other = (import_module(f"{name}.{part}.connection_pool") for part in ("_sync", "_async"))
    _hook(sync.PoolRequest, "wait_for_connection", functools.partial(_timed_sync, late))
    _hook(other.AsyncPoolRequest, "wait_for_connection", functools.partial(_timed_async, late))


def _hook(owner: Any, method: str, wrap: Callable[[Any], Any]) -> None:
    original = vars(owner)[method]
    if not hasattr(original, "tercet"):
        hooked: Any = functools.wraps(original)(wrap(original))
        hooked.tercet = True
        setattr(owner, method, hooked)


def _remembering(original: Any) -> Any:
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if _installed is not None:
            _installed.pools[self] = None

    return init


def _timed_sync(late: type[Exception], original: Any) -> Any:
    def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _Waiting(self, late):
            return original(self, *args, **kwargs)

    return wait


def _timed_async(late: type[Exception], original: Any) -> Any:
    async def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _Waiting(self, late):
            return await original(self, *args, **kwargs)

    return wait


class _Waiting:
    """One request, from asking for a connection until it has one or gives up."""

    __slots__ = ("_late", "_request", "_started")

    def __init__(self, request: Any, late: type[Exception]) -> None:
        self._request, self._late = request, late

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds, in_vain, pools = perf_counter() - self._started, isinstance(error, self._late), _installed
        if pools is not None and (error is None or in_vain):
            with suppress(Exception):  # A request's server is httpcore's inside; the request must go on.
                pools.waited(_server_of(self._request), seconds, in_vain=in_vain)
