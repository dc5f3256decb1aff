"""From settings to what measures how a process, its host and its runtime are used."""

import asyncio
import functools
import gc
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

import wrapt
from opentelemetry import metrics

from tercet.declare.settings import Settings
from tercet.declare.usage import HTTP_POOLS, LOOP_LAG, POOLS
from tercet.emit import threads
from tercet.emit.metrics import build_recorder
from tercet.emit.runtime import GarbageCollection, LoopWatch
from tercet.emit.snapshot import Reading, Snapshot
from tercet.emit.threadpools import ThreadPools
from tercet.emit.usage import observe_host, observe_process

logger = logging.getLogger("tercet")

#: Modules that have pools of connections, each with ours that knows them, which is imported after it.
_LIBRARIES = {
    "sqlalchemy": "tercet.emit.sqlalchemy",
    "psycopg_pool": "tercet.emit.psycopg",
    "redis.connection": "tercet.emit.redis",
    "redis.asyncio.connection": "tercet.emit.redis",
    "httpcore": "tercet.emit.httpcore",
    "httpcore2": "tercet.emit.httpcore",
}


class Usage:
    """What measures use in this process, and follows the event loop that it serves in.

    Args:
        settings: Of the process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread_pools: ThreadPools | None = None
        self._watch: LoopWatch | None = None

    def install(self) -> None:
        """Begin to measure; nothing is read before metrics are collected."""
        meter = metrics.get_meter("tercet.usage")
        if self._settings.usage != "off":
            observe_process(meter)
        # Other systems than Linux say nothing of a host.
        if self._settings.usage == "host" and os.path.exists("/proc/stat"):
            observe_host(meter, self._settings.service_name)
        if self._settings.runtime_metrics:
            if hasattr(gc, "callbacks"):  # as CPython's has
                GarbageCollection(meter)
            self._lag = build_recorder(meter, LOOP_LAG)
            self._thread_pools = ThreadPools(meter)
            threads.observe(self._thread_pools.timed)
            _install_pools(meter)

    def begin(self) -> None:
        """Watch the event loop in which this process begins to serve."""
        if self._thread_pools is not None and self._watch is None:
            with suppress(RuntimeError):  # Loops other than asyncio's are not watched.
                self._watch = LoopWatch(asyncio.get_running_loop(), self._lag)
                self._thread_pools.limiter = _limiter()

    def end(self) -> None:
        """Leave the event loop alone, when what it served has ended."""
        watch, self._watch = self._watch, None
        if watch is not None and self._thread_pools is not None:
            watch.close()
            self._thread_pools.limiter = None


def _limiter() -> Any:
    """Return what limits the threads of the running loop, where anyio is in use."""
    anyio = sys.modules.get("anyio.to_thread")
    return None if anyio is None else anyio.current_default_thread_limiter()


def _install_pools(meter: metrics.Meter) -> None:
    """Measure pools of connections, once a library that has them is imported.

    The instruments are made now: the SDK lets none be made while it collects, and an import may happen then.
    """
    Snapshot(meter, POOLS, functools.partial(_read_installed, "tercet.emit.pools"))
    Snapshot(meter, HTTP_POOLS, functools.partial(_read_installed, "tercet.emit.httpcore"))
    for library, edge in _LIBRARIES.items():
        wrapt.register_post_import_hook(functools.partial(_attach, meter, edge), library)


def _read_installed(module: str) -> Iterable[Reading]:
    # Another thread may be importing it.
    installed = getattr(sys.modules.get(module), "installed", None)
    pools = installed() if installed is not None else None
    return () if pools is None else pools.readings()


def _attach(meter: metrics.Meter, edge: str, library: Any) -> None:
    """Let the pools of a library be measured, and whoever imports it never notice if they cannot."""
    try:
        import_module(edge).attach(library, meter)
    except Exception as error:
        logger.warning(
            "The pools of %s are of an unknown kind, and go unobserved: %r", library.__name__, error
        )
