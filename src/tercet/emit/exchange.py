"""One request and its response: one span, one duration point and one access line, recorded once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from time import perf_counter, time_ns
from typing import Any, Protocol

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, SpanContext, SpanKind, StatusCode, Tracer

from tercet.declare.pace import Pace
from tercet.emit.correlation import CARRIED, HEADER, with_span
from tercet.emit.headers import HeaderGetter, HeaderMap, by_name
from tercet.emit.http import (
    FAILURE,
    ServerAttributes,
    error_type,
    known_method,
    known_scheme,
    span_name,
)
from tercet.emit.metrics import ActiveCounts, Recorder
from tercet.emit.propagate import propagate
from tercet.emit.traces import record_error
from tercet.fast.stand_in import has_twin

Scope = MutableMapping[str, Any]
RawHeaders = Iterable[tuple[bytes, bytes]]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECTED = "client_disconnected"
INCOMPLETE = "incomplete_response"
_minutely = Pace()
_WEBSOCKET = "WS"
_CORRELATION_HEADER = HEADER.lower().encode()
_TRACE_HEADER, _RESPONSE_HEADER = b"x-trace-id", b"traceresponse"
_OURS = frozenset({_CORRELATION_HEADER, _TRACE_HEADER, _RESPONSE_HEADER})
_GETTER = HeaderGetter()
# Seconds after which a client may have given up; to ask for each request would cost all of them.
_PATIENCE = 0.05
_BODY = "http.response.body"
_ALSO_LAST = frozenset({"http.response.zerocopysend", "http.response.trailers", "http.response.pathsend"})
#: The key under which the owner of a request stands in the ASGI scope; who finds it there stays out.
OWNER = "tercet.exchange"
#: Put into the scope of a request, these own it: FastAPI's and Starlette's own telemetry stay out as well.
CLAIMS = {"fastapi.telemetry": None, "starlette.opentelemetry": True, OWNER: None}


def disclaim(scope: Scope) -> None:
    """Leave a scope as it came: it may be looked at again, or even used again."""
    for key in CLAIMS:
        scope.pop(key, None)


class Instruments(Protocol):
    """What an exchange is recorded with."""

    tracer: Tracer
    duration: Recorder
    active: ActiveCounts
    access_log: logging.Logger | None


def tell_of_trouble(trouble: Exception) -> None:
    """Say, once a minute, that telemetry failed; whoever is served never notices."""
    if _minutely.allows():
        with suppress(Exception):  # The application's logging may be the trouble.
            logging.getLogger("tercet").warning("A request could not be observed: %r", trouble)


def _tells_of_disconnect(error: BaseException) -> bool:
    return (
        isinstance(error, OSError | asyncio.CancelledError) or type(error).__name__ == "WebSocketDisconnect"
    )


@has_twin()
def id_headers(given: RawHeaders, ids: SpanContext, carried: object) -> list[tuple[bytes, bytes]]:
    """Write the ids as headers of a response, but for those that the application says itself.

    Args:
        given: The application's headers.
        ids: Of the span; none are written where they are not valid.
        carried: What the context has under `CARRIED`; the trace id stands in for it where that is no id.
    """
    trace_id, span_id, _, flags, _, is_valid = ids
    if not is_valid:
        return []
    trace = b"%032x" % trace_id
    own = [
        (_CORRELATION_HEADER, carried.encode("ascii") if isinstance(carried, str) and carried else trace),
        (_TRACE_HEADER, trace),
        (_RESPONSE_HEADER, b"00-%b-%016x-%02x" % (trace, span_id, flags)),
    ]
    said = {bytes(name).lower() for name, _ in given}
    return own if said.isdisjoint(_OURS) else [pair for pair in own if pair[0] not in said]


class Exchange:
    """One request and its response: what is known of it so far, until it is recorded once.

    This is the hot path: each request walks through all of it. So nothing is made that is not used: closures,
    context managers, copies of contexts and of headers cost half a microsecond each.

    Attributes:
        prefix: Template of the mounts passed on the way in; whoever routes writes it.
        route: Template of the route that was found; whoever routes writes it.
        route_from: What route wrote it.
    """

    __slots__ = (
        "_active",
        "_body_read",
        "_context",
        "_ended",
        "_ended_at",
        "_ids",
        "_kept",
        "_method",
        "_receive",
        "_send",
        "_span",
        "_started",
        "_trailers",
        "_with",
        "disconnected",
        "finished",
        "is_websocket",
        "prefix",
        "route",
        "route_from",
        "scope",
        "status",
    )

    def __init__(self, instruments: Instruments, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive, self._send = receive, send
        self.is_websocket = is_websocket = scope["type"] == "websocket"
        self.prefix = ""
        self.route: str | None = None
        self.route_from: object = None
        self.status: int | None = None
        self.disconnected = self.finished = self._trailers = self._body_read = False
        self._kept: Message | None = None
        self._with = instruments
        self._ended = 0.0
        self._ended_at: int | None = None
        method, scheme = scope.get("method", ""), scope.get("scheme", "http")
        if is_websocket:
            self._active: tuple[str, ...] = (_WEBSOCKET, known_scheme(scheme))
        else:
            active = instruments.active
            known = active.known.get((method, scheme))
            self._active = known or active.learn((known_method(method), known_scheme(scheme)))
        self._method = self._active[0]
        self._started = perf_counter()
        self._span, self._context = self._start_span(by_name(scope.get("headers", ())))
        self._ids = self._span.get_span_context()

    def _start_span(self, headers: HeaderMap) -> tuple[Span, Context]:
        # Not the current context: servers start a request of a kept connection in that of an earlier one.
        parent = propagate.get_global_textmap().extract(headers, Context(), _GETTER)
        method = "GET" if self.is_websocket else self._method
        attributes = ServerAttributes(self.scope, method, headers)
        span = self._with.tracer.start_span(
            span_name(self._method, None), parent, SpanKind.SERVER, attributes=attributes
        )
        return span, with_span(span, parent)

    async def run(self, app: App) -> None:
        """Run `app` with this exchange's context, and record it when the response is complete."""
        token = attach(self._context)
        try:
            if not self.is_websocket:
                self._with.active.going[id(self)] = self._active
            if self._with.access_log is not None:
                self._log(logging.DEBUG, "request_started", None)
            await app(self.scope, self._watched_receive, self._watched_send)
        except BaseException as error:
            self._fail(error)
            raise
        else:
            if not self.finished:
                self._finish(self._why_incomplete())
        finally:
            detach(token)
            disclaim(self.scope)

    async def _watched_receive(self) -> Message:
        if self._kept is not None:
            message, self._kept = self._kept, None
        else:
            message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._body_read = True
        # Servers say so after each complete response, too.
        if message["type"] in ("http.disconnect", "websocket.disconnect") and not self._ended:
            self.disconnected = True
        return message

    async def _watched_send(self, message: Message) -> None:
        kind = message["type"]
        if kind == _BODY:
            # As `_completes` says it, of what is sent most: one call fewer for each request.
            is_last = not (message.get("more_body", False) or self._trailers)
        else:
            message = self._noticed(message, kind)
            is_last = kind in _ALSO_LAST and self._completes(message, kind)
        try:
            await self._send(message)
        except OSError:  # ASGI: the client is gone.
            self.disconnected = True
            raise
        if is_last:
            # Background work goes on after this, and is no part of the duration.
            self._ended = perf_counter()
            if (self.status or 0) < FAILURE:
                self._finish(DISCONNECTED if self.disconnected else None)
            else:  # The exception behind it may still be on its way here.
                self._ended_at = time_ns()

    def _noticed(self, message: Message, kind: str) -> Message:
        """Take note of a message that starts a response, and write the ids into its headers."""
        if kind in ("http.response.start", "websocket.http.response.start"):
            if perf_counter() - self._started > _PATIENCE:
                self._look_whether_client_left()
            self.status = message["status"]
            self._trailers = message.get("trailers", False)
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.close" and self.status is None:
            self.status = 403  # ASGI: a close before the accept rejects the handshake so.
            return message
        else:
            return message
        given = message.get("headers") or ()
        return {**message, "headers": [*given, *id_headers(given, self._ids, self._context.get(CARRIED))]}

    def _look_whether_client_left(self) -> None:
        """Ask the server, without waiting, whether anybody is still there to get the response.

        Servers drop in silence what is sent to a client that has left, and few applications ask. A message
        that is there already is kept for whoever asks next; no request loses its body.
        """
        if self.is_websocket or self._kept is not None or not (self._has_no_body() or self._body_read):
            return
        asking: Any = self._receive()
        try:
            asking.send(None)
        except StopIteration as answer:
            self._kept = answer.value
            self.disconnected = answer.value["type"] == "http.disconnect"
        except Exception:  # Whoever serves knows best; then it is not known.
            return
        else:
            asking.close()

    def _has_no_body(self) -> bool:
        names = {name.lower() for name, _ in self.scope.get("headers", ())}
        return names.isdisjoint((b"content-length", b"transfer-encoding"))

    def _completes(self, message: Message, kind: str) -> bool:
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "http.response.pathsend" or not (message.get("more_body", False) or self._trailers)

    def _fail(self, error: BaseException) -> None:
        if self.finished:
            self._log_late(error)
        elif self.is_websocket and self.disconnected and _tells_of_disconnect(error):
            self._finish(None)
        elif self.disconnected and not self.is_websocket:
            self._finish(DISCONNECTED, error)
        else:
            if self.status is None and not isinstance(error, asyncio.CancelledError):
                self.status = FAILURE  # What every ASGI server then answers.
            self._finish(error_type(error), error)

    def _why_incomplete(self) -> str | None:
        """Say what is missing when the application has returned; None when nothing is."""
        if self._ended or (self.is_websocket and self.status is not None):
            return None
        return DISCONNECTED if self.disconnected else INCOMPLETE

    def _finish(self, failure: str | None, error: BaseException | None = None) -> None:
        if self.finished:
            return
        self.finished = True
        seconds = (self._ended or perf_counter()) - self._started
        if failure is None and (self.status or 0) >= FAILURE:
            failure = str(self.status)
        # Foreign processors and readers may raise in each; then the others are recorded all the same.
        try:
            if not self.is_websocket:
                # A forked child ends what its parent has begun.
                self._with.active.going.pop(id(self), None)
                series = (*self._active, self.route, self.status, failure)
                self._with.duration.record(seconds, series, self._ids)
        except Exception as trouble:
            tell_of_trouble(trouble)
        if self._with.access_log is not None:
            self._log_outcome(seconds, failure, error)
        try:
            self._end_span(failure, error)
        except Exception as trouble:
            tell_of_trouble(trouble)

    def outcome(self, failure: str | None) -> dict[str, str | int]:
        """Say what is known when it is complete: route, status and kind of failure, by attribute."""
        outcome: dict[str, str | int] = {}
        if self.route is not None:
            outcome["http.route"] = self.route
        if self.status is not None:
            outcome["http.response.status_code"] = self.status
        if failure is not None:
            outcome["error.type"] = failure
        return outcome

    def _end_span(self, failure: str | None, error: BaseException | None) -> None:
        span = self._span
        if not span.is_recording():
            return
        try:
            span.set_attributes(self.outcome(failure))
            if self.route:
                span.update_name(span_name(self._method, self.route))
            if failure is not None:
                span.set_status(StatusCode.ERROR)
            if error is not None:
                record_error(span, error)
                span.set_attribute("error.type", str(failure))
        finally:
            span.end(self._ended_at)

    def _log_late(self, error: BaseException) -> None:
        """Log what background work raised after the response."""
        is_cancelled = isinstance(error, asyncio.CancelledError)
        level, shown = (logging.WARNING, None) if is_cancelled else (logging.ERROR, error)
        self._log(level, "background_task_failed", shown, error_type=error_type(error))

    def _log_outcome(self, seconds: float, failure: str | None, error: BaseException | None) -> None:
        fields = {"status": self.status, "duration_ms": round(seconds * 1000, 2), "error_type": failure}
        if failure is None:
            self._log(logging.INFO, "request_completed", None, **fields)
        elif failure == DISCONNECTED or isinstance(error, asyncio.CancelledError):
            self._log(logging.WARNING, "request_failed", None, **fields)
        else:
            self._log(logging.ERROR, "request_failed", error, **fields)

    def _log(self, level: int, event: str, error: BaseException | None, **fields: Any) -> None:
        log = self._with.access_log
        if log is None or not log.isEnabledFor(level):
            return
        known = {"method": self._method, "route": self.route, "path": self.scope["path"], **fields}
        extra = {name: value for name, value in known.items() if value is not None}
        # The last message may be sent from another task, where this context is not the current one.
        token = attach(self._context)
        try:
            log.log(level, event, exc_info=error, extra=extra)
        except Exception as trouble:  # of a filter that the application has put in the way
            tell_of_trouble(trouble)
        finally:
            detach(token)
