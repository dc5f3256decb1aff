"""Pools of redis-py: https://redis.readthedocs.io/en/stable/connections.html#connection-pools."""

from typing import Any

from opentelemetry.metrics import Meter

from tercet.emit.pools import Held, Kind, hook, setup

# What older versions call no limit.
_NO_LIMIT = 2**31


def attach(connection: Any, meter: Meter) -> None:
    """Measure all pools of `redis.connection` or `redis.asyncio.connection`, which has been imported."""
    setup(meter)
    kind = Kind(_name, _held, _is_timeout)
    hook(connection.ConnectionPool, "get_connection", kind)
    hook(connection.BlockingConnectionPool, "get_connection", kind)


def _name(pool: Any) -> str:
    """Name a pool by where it leads to."""
    to = pool.connection_kwargs
    address = to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}"
    return f"{address}/{to.get('db', 0)}"


def _held(pool: Any) -> Held:
    most = pool.max_connections if pool.max_connections < _NO_LIMIT else None
    waiting = getattr(pool, "pool", None)
    if waiting is None:
        return Held(len(pool._available_connections), len(pool._in_use_connections), most)
    # A blocking pool is a queue of connections, and of None for each that may still be made.
    idle = sum(connection is not None for connection in list(waiting.queue))
    return Held(idle, len(pool._connections) - idle, most)


def _is_timeout(error: BaseException) -> bool:
    """Say whether there was none left; redis-py tells that from a broken connection in words only."""
    return str(error).startswith(("No connection available", "Too many connections"))
