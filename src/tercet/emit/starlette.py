"""The edge for Starlette and FastAPI: their applications are observed whenever they were made.

Hooks sit on the classes, so that an application made before setup, after it, or in a subclass is covered.
The outermost hook owns the request; FastAPI's native telemetry, Starlette's and contrib's middlewares inside
find it owned and stay out. Routes are learnt from the route that handles, at no cost for those that do not.
"""

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import wrapt

from tercet.emit import asgi
from tercet.emit.exchange import OWNER, Exchange, Receive, Scope, Send

# Module, class: each is an ASGI application that may be the outermost one of a process.
_APPLICATIONS = (
    ("starlette.applications", "Starlette"),
    ("fastapi.applications", "FastAPI"),
    ("starlette.middleware.opentelemetry", "OpenTelemetryMiddleware"),
    ("opentelemetry.instrumentation.asgi", "OpenTelemetryMiddleware"),
)
_ROUTES = (
    ("starlette.routing", "Route"),
    ("starlette.routing", "WebSocketRoute"),
    ("starlette.routing", "Mount"),
    ("fastapi.routing", "APIRoute"),
    ("fastapi.routing", "APIWebSocketRoute"),
)
_hooked: set[tuple[type, str]] = set()


def install() -> None:
    """Hook the classes of Starlette and FastAPI, now or when they are first imported.

    The hooks do nothing while no edge is installed in `asgi`.
    """
    for module, name in _APPLICATIONS:
        _when_imported(module, name, "__call__", _hooked_application(name))
    for module, name in _ROUTES:
        _when_imported(module, name, "handle", _hooked_route)


def _when_imported(module: str, name: str, attribute: str, hook: Callable[[Any], Any]) -> None:
    def replace(imported: Any) -> None:
        owner = getattr(imported, name, None)
        # Only what the class defines itself: what it inherits is hooked where it is defined.
        if owner is not None and attribute in vars(owner) and (owner, attribute) not in _hooked:
            _hooked.add((owner, attribute))
            setattr(owner, attribute, hook(vars(owner)[attribute]))

    wrapt.register_post_import_hook(replace, module)


def _hooked_application(name: str) -> Callable[[Any], Any]:
    is_foreign = name == "OpenTelemetryMiddleware"

    def hook(original: Any) -> Any:
        @functools.wraps(original)
        async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
            if OWNER in scope:
                skips = is_foreign and asgi.installed is not None and scope["type"] != "lifespan"
                await (self.app(scope, receive, send) if skips else original(self, scope, receive, send))
                return
            edge, kind = asgi.installed, scope["type"]
            if edge is not None and kind == "lifespan":
                await edge.live(MethodType(original, self), scope, receive, send)
            elif edge is not None and kind in asgi.OBSERVED:
                inside = self.app if is_foreign else MethodType(original, self)
                await edge.observe(inside, scope, receive, send)
            else:
                await original(self, scope, receive, send)

        return call

    return hook


def _hooked_route(original: Any) -> Any:
    @functools.wraps(original)
    def handle(self: Any, scope: Scope, receive: Receive, send: Send) -> Any:
        exchange = scope.get(OWNER)
        # FastAPI's routes pass through here twice, in their own class and in Starlette's.
        if exchange is not None and exchange.route_from is not self:
            _note_route(exchange, self, scope)
        return original(self, scope, receive, send)

    return handle


def _note_route(exchange: Exchange, route: Any, scope: Scope) -> None:
    # Of the application: that of a mount ends with the path of the mount.
    root = scope.get("app_root_path", scope.get("root_path"))
    root = str(root).rstrip("/") if root else ""
    path = _path_template(route, scope)
    if path.endswith("/{path}") and hasattr(route, "routes"):  # a mount
        exchange.prefix += path.removesuffix("/{path}")
        exchange.route = f"{root}{exchange.prefix}/{{path}}"
    else:
        exchange.route = f"{root}{exchange.prefix}{path}" or "/"
        exchange.route_from = route


def _path_template(route: Any, scope: Scope) -> str:
    """Read a route's template; FastAPI from 0.130 keeps the one with the router's prefix beside the route."""
    effective = scope.get("fastapi", {}).get("effective_route_context")
    if effective is not None and effective.original_route is route:
        route = getattr(effective, "starlette_route", None) or effective
    return str(getattr(route, "path_format", ""))
