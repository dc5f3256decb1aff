"""Which edges observe what: ours, contrib's, and every other instrumentor that is installed."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined] # exported, untyped
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from tercet.declare.settings import Settings
from tercet.emit import asgi, httpx, starlette, structlog, threads
from tercet.emit.logs import access_logger

logger = logging.getLogger("tercet")

# What these instrumentors do, tercet does; both at once would say everything twice.
_OWNED_ALWAYS = frozenset({"logging", "structlog", "threading"})
_OWNED_HTTP = frozenset({"asgi", "fastapi", "starlette", "httpx", "httpx2"})


class Instrumentors(BaseDistro):  # type: ignore[misc] # upstream's class is untyped
    """Activate installed contrib instrumentors, except for what tercet's own edges do."""

    settings: Settings | None = None

    def _configure(self, **_kwargs: Any) -> None:
        """Do nothing: the configurator reads the settings."""

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Activate one instrumentor; one that fails is named and stops no other."""
        if self.settings is None or entry_point.name in _owned(self.settings):
            return
        try:
            super().load_instrumentor(entry_point, **kwargs)
        except Exception as error:
            logger.warning("The instrumentor %s failed and is left out: %r", entry_point.name, error)


def _owned(settings: Settings) -> frozenset[str]:
    return _OWNED_ALWAYS if settings.http_edges == "off" else _OWNED_ALWAYS | _OWNED_HTTP


@dataclass(frozen=True, slots=True)
class Edges:
    """The HTTP edges of a process; None for what nobody observes."""

    asgi: asgi.AsgiEdge | None
    httpx: httpx.HttpxEdge | None
    by_contrib: bool


def build_edges(
    settings: Settings,
    tracer_provider: TracerProvider,
    meter_provider: MeterProvider,
    begin: Callable[[], object],
    end: Callable[[], object],
) -> Edges:
    """Make the edges that the settings ask for.

    Args:
        settings: Of the process.
        tracer_provider: What makes their spans.
        meter_provider: What measures.
        begin: Called once, when an application begins to serve.
        end: Called when an application ends, for its server may end the process in a way that asks nobody.

    Raises:
        SetupError: Contrib's are asked for and not installed.
    """
    if settings.http_edges == "off":
        return Edges(None, None, by_contrib=False)
    options: dict[str, Any] = {
        "excluded_paths": settings.excluded_paths,
        "access_log": access_logger() if settings.access_log else None,
        "begin": begin,
        "end": end,
        "tracer_provider": tracer_provider,
    }
    metered: dict[str, Any] = {
        "meter_provider": meter_provider,
        "duration_buckets": settings.duration_buckets,
    }
    if settings.http_edges == "contrib":
        from tercet.emit import contrib

        contrib.require_httpx()
        return Edges(contrib.ContribEdge(**options), None, by_contrib=True)
    edge = asgi.AsgiEdge(**options, **metered)
    return Edges(edge, httpx.HttpxEdge(tracer_provider=tracer_provider, **metered), by_contrib=False)


def install_edges(edges: Edges) -> None:
    """Put the edges in place."""
    threads.install()
    structlog.install(True)
    httpx.install(edges.httpx)
    asgi.install(edges.asgi)
    if edges.asgi is not None:
        starlette.install()
    if edges.by_contrib:
        from tercet.emit import contrib

        contrib.install_httpx()


def setup_instrumentors(settings: Settings) -> None:
    """Activate every other installed instrumentor as upstream does it, hooks before and after included."""
    from opentelemetry.instrumentation.auto_instrumentation._load import _load_instrumentors

    instrumentors = Instrumentors()
    instrumentors.settings = settings
    disabled = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    if settings.disabled_instrumentations:
        os.environ[disabled] = ",".join(settings.disabled_instrumentations)
    try:
        _load_instrumentors(instrumentors)  # type: ignore[no-untyped-call]
    except Exception as error:  # of upstream's hooks before and after
        logger.warning("Not all instrumentors could be activated: %r", error)
