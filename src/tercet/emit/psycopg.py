"""Pools of psycopg_pool: https://www.psycopg.org/psycopg3/docs/advanced/pool.html#pool-stats."""

from typing import Any

from opentelemetry.metrics import Meter

from tercet.emit.pools import Held, Kind, hook, setup


def attach(psycopg_pool: Any, meter: Meter) -> None:
    """Measure all pools of the package, which has been imported."""
    setup(meter)
    late = (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests)
    kind = Kind(lambda pool: str(pool.name), _held, lambda error: isinstance(error, late))
    hook(psycopg_pool.ConnectionPool, "getconn", kind)
    hook(psycopg_pool.AsyncConnectionPool, "getconn", kind)


def _held(pool: Any) -> Held:
    stats = pool.get_stats()
    idle = stats["pool_available"]
    return Held(idle, stats["pool_size"] - idle, stats["pool_max"])
