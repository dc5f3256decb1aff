"""Pools of SQLAlchemy: https://docs.sqlalchemy.org/en/20/core/pooling.html."""

import functools
from typing import Any
from weakref import WeakSet

from opentelemetry.metrics import Meter

from tercet.emit.pools import Held, Kind, hook, setup

#: Engines know what their pool is connected to; a pool does not.
_engines: "WeakSet[Any]" = WeakSet()


def attach(sqlalchemy: Any, meter: Meter) -> None:
    """Measure all pools of the package, which has been imported."""
    setup(meter)
    _remember_engines(sqlalchemy.engine.Engine)
    kind = Kind(_name, _held, lambda error: isinstance(error, sqlalchemy.exc.TimeoutError))
    hook(sqlalchemy.pool.Pool, "connect", kind)


def _remember_engines(engine_class: Any) -> None:
    original = engine_class.__init__
    if hasattr(original, "tercet"):
        return

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _engines.add(self)

    init.tercet = True  # type: ignore[attr-defined] # a function takes any
    engine_class.__init__ = init


def _name(pool: Any) -> str:
    """Name a pool as its user did, or by where it leads to: never by user or password."""
    if pool.logging_name:
        return str(pool.logging_name)
    url = next((engine.url for engine in list(_engines) if engine.pool is pool), None)
    if url is None:
        return str(pool._dialect.name)
    address = f"{url.host}:{url.port}" if url.port else url.host
    return "/".join(filter(None, (address, url.database))) or str(url.get_backend_name())


def _held(pool: Any) -> Held | None:
    if not hasattr(pool, "checkedout"):  # Others than queues do not count.
        return None
    most = pool.size() + pool._max_overflow if pool.size() and pool._max_overflow >= 0 else None
    return Held(pool.checkedin(), pool.checkedout(), most)
