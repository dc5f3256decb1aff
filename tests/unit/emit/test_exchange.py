import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import fastapi
import pytest
from asgi_driver import (
    BODY,
    CONNECT,
    GONE,
    body_of,
    headers_of,
    http_scope,
    play,
    play_failing,
    serve,
    websocket_scope,
)
from fastapi import APIRouter, BackgroundTasks, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from tercet import ObservabilityMiddleware, correlation_id
from tercet.emit import asgi
from tercet.emit.asgi import AsgiEdge
from tercet.emit.exchange import _GETTER
from tercet.emit.logs import access_logger

DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"
READ_HEADERS = [b"traceparent", b"tracestate", b"baggage", b"x-correlation-id", b"host", b"user-agent"]
ITEM = "/orders/{order}/v{version}/items/{item}"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = (b"traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-01".encode())
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"done"}


def answering(*messages, then=None):
    """A plain ASGI application that sends these messages, and then does something."""

    async def app(_scope, _receive, send):
        for message in messages:
            await send(message)
        if then is not None:
            await then()

    return ObservabilityMiddleware(app)


def raising(error):
    """Something to do that raises."""

    async def act():
        raise error

    return act


def outcome(seen):
    """The attributes of the only duration point, without those that every test shares."""
    (point,) = seen.measured(DURATION)
    assert point.count == 1
    shared = {"http.request.method", "url.scheme"}
    return {key: value for key, value in point.attributes.items() if key not in shared}


def lines(seen):
    """Level and event of each access line."""
    return [
        f"{record.log_record.severity_text} {record.log_record.body}"
        for record in seen.logs
        if "path" in (record.log_record.attributes or {})
    ]


def picture(seen):
    """Everything that one request leaves behind, in one line a signal."""
    (span,) = seen.spans
    return [f"{span.name} {span.status.status_code.name}", outcome(seen), lines(seen)]


@pytest.fixture
def at_rest(seen):
    """Nothing is going on when the test is over."""
    yield
    values = {tuple(point.attributes.items()): point.value for point in seen.measured(ACTIVE)}
    assert set(values.values()) <= {0}


pytestmark = pytest.mark.usefixtures("at_rest")


# What a response can look like.


def test_a_plain_response_leaves_one_span_one_point_and_one_line(seen):
    """The simplest case."""
    play(answering(START, END), http_scope("/x"))
    assert picture(seen) == ["GET UNSET", {"http.response.status_code": 200}, ["INFO request_completed"]]


def test_a_stream_is_recorded_when_its_last_part_is_out(seen):
    """Not when it starts."""
    recorded = []
    part = {"type": "http.response.body", "body": b"a", "more_body": True}

    async def app(_scope, _receive, send):
        for message in (START, part, part, END):
            recorded.append(len(seen.spans))
            await send(message)
        recorded.append(len(seen.spans))

    play(ObservabilityMiddleware(app), http_scope())
    assert recorded == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "messages",
    [
        [START | {"trailers": True}, END, {"type": "http.response.trailers", "more_trailers": True},
         {"type": "http.response.trailers"}],
        [START, {"type": "http.response.pathsend", "path": "/x"}],
        [START, {"type": "http.response.zerocopysend", "file": 3, "more_body": True},
         {"type": "http.response.zerocopysend", "file": 3}],
        [{"type": "http.response.early_hint", "links": []}, START, END],
    ],
    ids=["trailers", "pathsend", "zerocopysend", "early hint"],
)  # fmt: skip
def test_each_kind_of_last_message_completes_a_response(seen, messages):
    """And none before it does."""
    recorded = []

    async def app(_scope, _receive, send):
        for message in messages:
            recorded.append(len(seen.spans))
            await send(message)

    play(ObservabilityMiddleware(app), http_scope())
    assert recorded == [0] * len(messages)
    assert picture(seen) == ["GET UNSET", {"http.response.status_code": 200}, ["INFO request_completed"]]


def test_head_is_a_method_of_its_own(seen):
    """Its response has no body, and is complete all the same."""
    app = Starlette(routes=[Route("/x/{id}", lambda _request: PlainTextResponse("hello"))])
    play(app, http_scope("/x/1", method="HEAD"))
    assert seen.spans[0].name == "HEAD /x/{id}"
    assert outcome(seen) == {"http.response.status_code": 200, "http.route": "/x/{id}"}


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 429, 499])
def test_the_callers_mistakes_are_no_errors_of_the_service(seen, status):
    """The conventions count only 5xx against a server."""
    play(answering(START | {"status": status}, END), http_scope())
    assert picture(seen) == ["GET UNSET", {"http.response.status_code": status}, ["INFO request_completed"]]


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_5xx_is_an_error_by_its_number(seen, status):
    """Also without an exception."""
    play(answering(START | {"status": status}, END), http_scope())
    assert picture(seen) == [
        "GET ERROR",
        {"http.response.status_code": status, "error.type": str(status)},
        ["ERROR request_failed"],
    ]


# What goes wrong.


def test_an_exception_before_the_response_is_a_500(seen):
    """Every server answers so; type, message, stack and status are on the span."""
    play_failing(answering(then=raising(KeyError("id"))), http_scope())
    assert picture(seen) == [
        "GET ERROR",
        {"http.response.status_code": 500, "error.type": "KeyError"},
        ["ERROR request_failed"],
    ]
    (span,) = seen.spans
    (event,) = span.events
    assert span.status.description == "KeyError: 'id'"
    assert event.name == "exception"
    assert "raise error" in event.attributes["exception.stacktrace"]


def test_an_exception_after_the_start_keeps_the_status_that_went_out(seen):
    """The caller saw 200 and half a body."""
    play_failing(answering(START, then=raising(ValueError("half"))), http_scope())
    assert picture(seen) == [
        "GET ERROR",
        {"http.response.status_code": 200, "error.type": "ValueError"},
        ["ERROR request_failed"],
    ]


def test_a_crash_in_a_framework_is_named_by_its_exception(seen):
    """Starlette answers 500 and raises on; the answer is out before the exception arrives."""

    def crash(_request):
        raise LookupError("no such order")

    sent = play_failing(Starlette(routes=[Route("/x", crash)]), http_scope("/x"))
    assert sent[0]["status"] == 500
    assert picture(seen) == [
        "GET /x ERROR",
        {"http.response.status_code": 500, "http.route": "/x", "error.type": "LookupError"},
        ["ERROR request_failed"],
    ]


def test_a_handler_that_turns_an_exception_into_a_500_leaves_the_number(seen):
    """The application dealt with the exception; what it answered is known."""

    async def handled(_request, _error):
        return PlainTextResponse("sorry", 500)

    def crash(_request):
        raise LookupError

    play(Starlette(routes=[Route("/x", crash)], exception_handlers={LookupError: handled}), http_scope("/x"))
    assert outcome(seen) == {"http.response.status_code": 500, "http.route": "/x", "error.type": "500"}


def test_a_raised_404_is_no_error(seen):
    """An exception is not always a failure."""

    def missing(_request):
        raise HTTPException(404)

    play(Starlette(routes=[Route("/x", missing)]), http_scope("/x"))
    assert picture(seen) == [
        "GET /x UNSET",
        {"http.response.status_code": 404, "http.route": "/x"},
        ["INFO request_completed"],
    ]


def test_an_application_that_never_answers_is_an_incomplete_response(seen):
    """It returned, and sent nothing."""
    play(answering(), http_scope())
    assert picture(seen) == ["GET ERROR", {"error.type": "incomplete_response"}, ["ERROR request_failed"]]


def test_half_an_answer_is_an_incomplete_response(seen):
    """It returned before the end of the body."""
    play(answering(START), http_scope())
    assert outcome(seen) == {"http.response.status_code": 200, "error.type": "incomplete_response"}


def test_a_cancelled_request_has_no_status(seen):
    """The server gave up on it: nobody was answered."""
    play_failing(answering(then=raising(asyncio.CancelledError())), http_scope())
    assert picture(seen) == [
        "GET ERROR",
        {"error.type": "asyncio.exceptions.CancelledError"},
        ["WARN request_failed"],
    ]


# When the caller goes away.


def test_a_disconnect_that_receive_tells_is_an_error(seen):
    """The application stopped because nobody listens any more."""

    async def app(_scope, receive, send):
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            pass

    play(ObservabilityMiddleware(app), http_scope(), [BODY, GONE])
    assert picture(seen) == [
        "GET ERROR",
        {"http.response.status_code": 200, "error.type": "client_disconnected"},
        ["WARN request_failed"],
    ]


def test_a_disconnect_that_send_tells_is_an_error(seen):
    """Servers raise OSError there."""

    async def gone(_message):
        raise OSError("gone")

    play_failing(answering(START, END), http_scope(), send=gone)
    assert outcome(seen) == {"http.response.status_code": 200, "error.type": "client_disconnected"}


def test_a_response_that_nobody_was_there_to_read_is_an_error(seen):
    """Some servers drop messages silently once the caller has left."""

    async def app(_scope, receive, send):
        await receive()
        await receive()
        await send(START)
        await send(END)

    play(ObservabilityMiddleware(app), http_scope(), [BODY, GONE])
    assert outcome(seen)["error.type"] == "client_disconnected"


async def slowly(_scope, _receive, send):
    """An application that nobody waits for, and that does not ask."""
    await asyncio.sleep(0.06)
    await send(START)
    await send(END)


def test_a_client_that_left_before_a_slow_answer_is_an_error(seen):
    """Though neither the application nor the server says so."""
    play(ObservabilityMiddleware(slowly), http_scope(), received=[GONE])
    assert outcome(seen) == {"http.response.status_code": 200, "error.type": "client_disconnected"}


@pytest.mark.parametrize("received", [[BODY], []], ids=["a body that waits", "nothing"])
def test_a_client_that_waits_for_a_slow_answer_is_none(seen, received):
    """Whatever the server has for whoever asks."""
    play(ObservabilityMiddleware(slowly), http_scope(), received=received)
    assert outcome(seen) == {"http.response.status_code": 200}


def test_what_was_seen_while_looking_is_there_for_the_application(seen):
    """In its order; and a body is left where it is."""
    got = []

    async def app(scope, receive, send):
        await slowly(scope, receive, send)
        got.append((await receive())["body"])

    play(ObservabilityMiddleware(app), http_scope(), received=[BODY | {"body": b"late"}])
    headers = [(b"content-length", b"5")]
    play(
        ObservabilityMiddleware(app), http_scope(headers=headers), received=[BODY | {"body": b"first"}, GONE]
    )
    assert got == [b"late", b"first"]


def test_a_server_that_cannot_be_asked_is_not(seen):
    """Its answer is no business of the request's."""

    async def broken():
        raise RuntimeError("no")

    async def app(scope, receive, send):
        await ObservabilityMiddleware(slowly)(scope, broken, send)

    play(app, http_scope())
    assert outcome(seen) == {"http.response.status_code": 200}


def test_what_breaks_after_a_disconnect_stays_on_the_span(seen):
    """It is most likely its consequence, so the point says who left; the exception is kept for people."""

    async def app(_scope, receive, _send):
        await receive()
        raise RuntimeError("No response returned.")

    play_failing(ObservabilityMiddleware(app), http_scope(), [GONE])
    assert outcome(seen) == {"error.type": "client_disconnected"}
    assert seen.spans[0].events[0].attributes["exception.type"] == "RuntimeError"


def test_a_disconnect_after_the_answer_is_how_every_request_ends(seen):
    """Servers tell it to whoever still asks; a crash is still a crash."""

    async def app(_scope, receive, send):
        await send(START | {"status": 500})
        await send(END)
        await receive()
        raise KeyError("real")

    play_failing(ObservabilityMiddleware(app), http_scope(), [GONE])
    assert outcome(seen) == {"http.response.status_code": 500, "error.type": "KeyError"}


# Background work.


def test_background_work_is_no_part_of_the_request(seen):
    """The request is recorded while the work still goes on."""
    recorded = []

    async def work():
        recorded.append([span.name for span in seen.spans])

    def endpoint(_request):
        return PlainTextResponse("ok", background=BackgroundTask(work))

    play(Starlette(routes=[Route("/x", endpoint)]), http_scope("/x"))
    assert recorded == [["GET /x"]]


def test_slow_background_work_after_a_5xx_counts_neither_in_the_point_nor_in_the_span(seen):
    """The record waits for an exception that may still come; the time does not go on."""
    ended = []

    async def work():
        ended.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)

    play(answering(START | {"status": 503}, END, then=work), http_scope())
    (span,), (point,) = seen.spans, seen.measured(DURATION)
    assert (span.end_time - span.start_time) / 1e9 < 0.05
    assert point.value < 0.05


def test_background_work_that_fails_is_logged_and_leaves_the_request_alone(seen):
    """The caller got what it asked for."""
    app = FastAPI()

    @app.get("/x")
    def endpoint(tasks: BackgroundTasks):
        tasks.add_task(fail)

    def fail():
        raise ValueError("mail server")

    play_failing(app, http_scope("/x"))
    assert outcome(seen) == {"http.response.status_code": 200, "http.route": "/x"}
    assert lines(seen) == ["INFO request_completed", "ERROR background_task_failed"]
    (line,) = [
        record.log_record for record in seen.logs if record.log_record.body == "background_task_failed"
    ]
    assert line.trace_id == seen.spans[0].context.trace_id
    assert line.attributes["exception.message"] == "mail server"


def test_background_work_that_is_cancelled_is_a_warning(seen):
    """A server that stops cancels it."""
    play_failing(answering(START, END, then=raising(asyncio.CancelledError())), http_scope())
    assert lines(seen) == ["INFO request_completed", "WARN background_task_failed"]


def test_background_work_reads_the_id_of_its_request(seen):
    """In a thread, too."""
    read = []

    def endpoint(_request):
        return PlainTextResponse("ok", background=BackgroundTask(lambda: read.append(correlation_id())))

    play(Starlette(routes=[Route("/", endpoint)]), http_scope(headers=[(b"x-correlation-id", b"order-7")]))
    assert read == ["order-7"]


# Websockets.


def websocket_app(*messages, then=None, receives=1):
    """An application that receives, sends these messages, and then does something."""

    async def app(_scope, receive, send):
        for _ in range(receives):
            await receive()
        for message in messages:
            await send(message)
        if then is not None:
            await then(receive)

    return ObservabilityMiddleware(app)


async def until_closed(receive):
    """Receive once more."""
    await receive()


def websocket_picture(seen):
    """Name and status of the span, its status code and kind of failure, and the lines; no points at all."""
    assert seen.measured(DURATION) == []
    (span,) = seen.spans
    return [
        f"{span.name} {span.status.status_code.name}",
        span.attributes.get("http.response.status_code"),
        span.attributes.get("error.type"),
        lines(seen),
    ]


ACCEPT = {"type": "websocket.accept"}
CLOSED = {"type": "websocket.disconnect", "code": 1000}
LOST = {"type": "websocket.disconnect", "code": 1006}


@pytest.mark.parametrize("end", [CLOSED, LOST], ids=["closed", "lost"])
def test_a_websocket_is_a_span_without_a_duration_point(seen, end):
    """It lasts as long as both sides like; that the caller ends it, in whatever manner, is no error."""
    play(websocket_app(ACCEPT, then=until_closed), websocket_scope("/chat"), [CONNECT, end])
    assert websocket_picture(seen) == ["WS UNSET", 101, None, ["INFO request_completed"]]


@pytest.mark.parametrize("end", [CLOSED, LOST], ids=["closed", "lost"])
def test_the_exception_by_which_starlette_tells_a_disconnect_is_no_error(seen, end):
    """Most handlers do not catch it."""

    async def chat(websocket):
        await websocket.accept()
        await websocket.receive_text()

    app = Starlette(routes=[WebSocketRoute("/rooms/{room}", chat)])
    with contextlib.suppress(Exception):
        play(app, websocket_scope("/rooms/7"), [CONNECT, end])
    assert websocket_picture(seen) == ["WS /rooms/{room} UNSET", 101, None, ["INFO request_completed"]]


def test_an_error_after_the_disconnect_of_a_websocket_is_an_error(seen):
    """Every websocket ends with a disconnect; what fails in the clean-up counts."""

    async def clean_up(receive):
        await receive()
        raise KeyError("room")

    play_failing(websocket_app(ACCEPT, then=clean_up), websocket_scope(), [CONNECT, CLOSED])
    assert websocket_picture(seen) == ["WS ERROR", 101, "KeyError", ["ERROR request_failed"]]


def test_a_rejected_websocket_is_a_403(seen):
    """The caller is told no, which is no error."""
    play(websocket_app({"type": "websocket.close"}), websocket_scope(), [CONNECT])
    assert websocket_picture(seen) == ["WS UNSET", 403, None, ["INFO request_completed"]]


@pytest.mark.parametrize(("status", "failure"), [(401, None), (503, "503")])
def test_a_rejection_with_a_response_has_the_status_of_the_response(seen, status, failure):
    """The denial response extension."""
    denial = [
        {"type": "websocket.http.response.start", "status": status, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no"},
    ]
    sent = play(websocket_app(*denial), websocket_scope(), [CONNECT])
    assert websocket_picture(seen)[1:3] == [status, failure]
    assert headers_of(sent)["x-trace-id"] == f"{seen.spans[0].context.trace_id:032x}"


def test_a_crash_before_the_accept_is_a_500(seen):
    """Servers answer the handshake so."""
    play_failing(answering(then=raising(KeyError())), websocket_scope(), [CONNECT])
    assert websocket_picture(seen) == ["WS ERROR", 500, "KeyError", ["ERROR request_failed"]]


def test_a_crash_after_the_accept_is_an_error(seen):
    """The connection was made, and broke."""
    play_failing(answering(ACCEPT, then=raising(KeyError())), websocket_scope(), [CONNECT])
    assert websocket_picture(seen) == ["WS ERROR", 101, "KeyError", ["ERROR request_failed"]]


def test_a_websocket_that_is_never_answered_is_incomplete(seen):
    """Neither accepted nor rejected."""
    play(websocket_app(), websocket_scope(), [CONNECT])
    assert websocket_picture(seen) == ["WS ERROR", None, "incomplete_response", ["ERROR request_failed"]]


def test_a_caller_that_leaves_before_the_accept_has_disconnected(seen):
    """Nobody was there to accept."""
    play(websocket_app(receives=2), websocket_scope(), [CONNECT, LOST])
    assert websocket_picture(seen) == ["WS ERROR", None, "client_disconnected", ["WARN request_failed"]]


def test_an_accepted_websocket_gets_the_ids_in_its_handshake(seen):
    """Beside the headers that the application sends."""
    accept = ACCEPT | {"headers": [(b"x-room", b"7")]}
    sent = play(websocket_app(accept), websocket_scope(headers=[TRACEPARENT]), [CONNECT])
    assert headers_of(sent) == {
        "x-room": "7",
        "x-correlation-id": TRACE_ID,
        "x-trace-id": TRACE_ID,
        "traceresponse": f"00-{TRACE_ID}-{seen.spans[0].context.span_id:016x}-01",
    }


# Ids.


def test_a_response_carries_the_ids(seen):
    """The caller's correlation id, and the trace that it belongs to."""
    sent = play(answering(START, END), http_scope(headers=[TRACEPARENT, (b"X-Request-ID", b"order-7")]))
    (span,) = seen.spans
    assert headers_of(sent) == {
        "x-correlation-id": "order-7",
        "x-trace-id": TRACE_ID,
        "traceresponse": f"00-{TRACE_ID}-{span.context.span_id:016x}-01",
    }
    assert (span.parent.span_id, span.attributes["correlation_id"]) == (0xB7AD6B7169203331, "order-7")


def test_a_request_that_is_not_sampled_is_measured_all_the_same(seen):
    """Its caller decided about the trace; the ids go back, and the metrics are whole."""
    unsampled = (b"traceparent", f"00-{TRACE_ID}-b7ad6b7169203331-00".encode())
    sent = play(answering(START, END), http_scope(headers=[unsampled]))
    assert headers_of(sent)["x-trace-id"] == TRACE_ID
    assert headers_of(sent)["traceresponse"].endswith("-00")
    assert (seen.spans, outcome(seen)) == ([], {"http.response.status_code": 200})


def test_without_traces_a_response_has_no_ids(seen):
    """There is nothing that they would name."""

    async def app(_scope, _receive, send):
        await send(START)
        await send(END)

    async def observed(scope, receive, send):
        await AsgiEdge(tracer_provider=trace.NoOpTracerProvider()).observe(app, scope, receive, send)

    sent = play(observed, http_scope())
    assert (headers_of(sent), outcome(seen)) == ({}, {"http.response.status_code": 200})


def test_propagators_can_ask_for_the_names_of_the_headers():
    """Some look for a prefix."""
    assert _GETTER.keys({b"uber-trace-id": [b"1"], b"host": [b"shop"]}) == ["uber-trace-id", "host"]


def test_headers_that_the_application_sets_itself_stay(seen):
    """In whatever letters; there are never two."""
    start = START | {"headers": [(b"X-Correlation-ID", b"mine"), (b"content-type", b"text/plain")]}
    sent = play(answering(start, END), http_scope())
    names = sorted(name.lower() for name, _ in sent[0]["headers"])
    assert names == [b"content-type", b"traceresponse", b"x-correlation-id", b"x-trace-id"]
    assert headers_of(sent)["X-Correlation-ID"] == "mine"


def test_a_name_of_a_header_that_can_still_be_changed_is_one_all_the_same(seen):
    """As servers take it that do not look closely."""
    start = START | {"headers": [(bytearray(b"X-Correlation-ID"), b"mine")]}
    sent = play(answering(start, END), http_scope())
    assert headers_of(sent)["X-Correlation-ID"] == "mine"
    assert len(sent[0]["headers"]) == len(headers_of(sent)) == 3


def test_a_response_without_headers_gets_the_ids_too(seen):
    """ASGI lets applications leave them out."""
    sent = play(answering({"type": "http.response.start", "status": 200}, END), http_scope())
    assert set(headers_of(sent)) == {"x-correlation-id", "x-trace-id", "traceresponse"}


def test_a_scope_without_headers_is_served(seen):
    """A minimal test client sends none."""
    scope = http_scope()
    del scope["headers"]
    assert body_of(play(answering(START, END), scope)) == "done"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(READ_HEADERS),
            st.one_of(st.binary(max_size=60), st.text(alphabet="0-9af=;,%[]:@", max_size=60).map(str.encode)),
        ),
        max_size=6,
    )
)  # fmt: skip
def test_hostile_headers_never_stop_a_request(seen, headers):
    """Whatever they hold, the request is answered, with ids that are clean."""
    sent = play(answering(START, END), http_scope(headers=headers))
    assert body_of(sent) == "done"
    assert headers_of(sent)["x-correlation-id"].isprintable()


def test_two_requests_at_once_keep_their_own_ids(seen):
    """On one loop, taking turns."""

    async def both():
        barrier = asyncio.Barrier(2)

        async def app(_scope, _receive, send):
            before = correlation_id()
            await barrier.wait()
            await send(START)
            await send(END | {"body": f"{before} {correlation_id()}".encode()})

        scopes = [http_scope(headers=[(b"x-correlation-id", name)]) for name in (b"one", b"two")]
        return await asyncio.gather(*(serve(ObservabilityMiddleware(app), scope) for scope in scopes))

    assert [body_of(sent) for sent in asyncio.run(both())] == ["one one", "two two"]
    assert len({span.context.trace_id for span in seen.spans}) == 2


def test_a_request_that_starts_inside_another_ones_context_is_its_own(seen):
    """Servers start a pipelined request in the task of the one before."""

    async def pipelined():
        tasks = []

        async def first(_scope, _receive, send):
            tasks.append(asyncio.create_task(serve(answering(START, END), http_scope("/two"))))
            await send(START)
            await send(END)

        scope = http_scope("/one", headers=[(b"x-correlation-id", b"first")])
        return [await serve(ObservabilityMiddleware(first), scope), await tasks[0]]

    one, two = map(headers_of, asyncio.run(pipelined()))
    assert one["x-correlation-id"] == "first"
    assert two["x-correlation-id"] == two["x-trace-id"] != one["x-trace-id"]


def test_a_request_after_an_excluded_one_on_the_same_connection_is_not_excluded(seen):
    """Here, too, nothing is inherited."""

    async def pipelined():
        tasks = []

        async def probe(_scope, _receive, send):
            tasks.append(asyncio.create_task(serve(answering(START, END), http_scope("/two"))))
            await send(START)
            await send(END)

        await serve(ObservabilityMiddleware(probe), http_scope("/health"))
        await tasks[0]

    asyncio.run(pipelined())
    assert [span.attributes["url.path"] for span in seen.spans] == ["/two"]


def test_a_response_finished_by_another_task_is_recorded_in_its_own_context(seen):
    """The access line has the ids of the request, whoever sends the last message."""

    async def app(_scope, _receive, send):
        await send(START)
        await asyncio.create_task(send(END), context=contextvars.Context())

    play(ObservabilityMiddleware(app), http_scope())
    (span,) = seen.spans
    assert [record.log_record.trace_id for record in seen.logs] == [span.context.trace_id]
    assert outcome(seen) == {"http.response.status_code": 200}


def test_a_thread_pool_endpoint_sees_the_same_context(seen):
    """FastAPI runs plain functions in threads; threads that they start follow."""
    app = FastAPI()

    @app.get("/x")
    def endpoint():
        with ThreadPoolExecutor(1) as pool:
            deeper = pool.submit(correlation_id).result()
        return [threading.current_thread() is threading.main_thread(), correlation_id(), deeper]

    sent = play(app, http_scope("/x", headers=[(b"x-correlation-id", b"order-7")]))
    assert body_of(sent) == '[false,"order-7","order-7"]'


def test_the_context_is_gone_after_the_request(seen):
    """The loop of the server does not keep it."""

    async def run():
        await serve(answering(START, END), http_scope())
        return trace.get_current_span().get_span_context().is_valid

    assert asyncio.run(run()) is False


def test_requests_in_progress_are_counted_and_end_at_zero(seen):
    """After answers, crashes, disconnects and cancellations alike."""
    during = []

    async def app(scope, _receive, send):
        during.append(max(point.value for point in seen.measured(ACTIVE)))
        match scope["path"]:
            case "/crash":
                raise KeyError
            case "/cancel":
                raise asyncio.CancelledError
            case "/gone":
                raise OSError
        await send(START)

    for path in ("/", "/crash", "/cancel", "/gone"):
        with contextlib.suppress(BaseException):
            play(ObservabilityMiddleware(app), http_scope(path, scheme="https"))
    assert during == [1, 1, 1, 1]
    last = seen.measured(ACTIVE)[-1]
    assert (last.value, last.attributes["url.scheme"]) == (0, "https")


# Access lines.


def test_the_access_line_says_what_happened(seen):
    """Method, route, path, status and duration."""
    play(Starlette(routes=[Route("/x/{id}", lambda _request: Response())]), http_scope("/x/1"))
    (line,) = [record.log_record for record in seen.logs]
    fields = dict(line.attributes)
    assert 0 < fields.pop("duration_ms") < 10_000
    assert fields == {
        "method": "GET",
        "route": "/x/{id}",
        "path": "/x/1",
        "status": 200,
        "correlation_id": f"{line.trace_id:032x}",
    }


def test_the_start_of_a_request_is_told_at_debug(seen):
    """For whoever asks for it."""
    logger = access_logger()
    logger.setLevel(logging.DEBUG)
    try:
        play(answering(START, END), http_scope())
    finally:
        logger.setLevel(logging.INFO)
    assert lines(seen) == ["DEBUG request_started", "INFO request_completed"]


# Excluded paths.


def test_an_excluded_path_leaves_nothing_behind(seen):
    """No span, no point, no access line; nor do the spans below it, and callees are told."""
    tracer = trace.get_tracer("test")

    def probe(_request):
        with tracer.start_as_current_span("check database") as span:
            return JSONResponse([span.get_span_context().trace_flags, asgi.is_excluded()])

    sent = play(Starlette(routes=[Route("/health", probe)]), http_scope("/health"))
    assert body_of(sent) == "[0,true]"
    assert (seen.spans, seen.measured(DURATION), seen.logs) == ([], [], [])
    assert "x-trace-id" not in headers_of(sent)


def test_the_servers_own_line_of_an_excluded_path_is_left_out(seen):
    """And only that one."""
    server = logging.getLogger("uvicorn.access")

    async def app(_scope, _receive, send):
        server.warning('127.0.0.1 - "GET"')
        logging.getLogger("shop").warning("the database is slow")
        await send(START)
        await send(END)

    play(ObservabilityMiddleware(app), http_scope("/health"))
    assert [record.log_record.body for record in seen.logs] == ["the database is slow"]


@pytest.mark.parametrize(
    ("path", "root_path"), [("/health", ""), ("/health", "/api"), ("/api/health", "/api"), ("/metrics/", "")]
)
def test_a_root_path_does_not_hide_an_excluded_path(seen, path, root_path):
    """Servers put it before the path, proxies do not."""
    play(answering(START, END), http_scope(path, root_path=root_path))
    assert seen.spans == []


def test_an_excluded_path_that_crashes_still_crashes(seen):
    """The application sees what it would see without us."""
    play_failing(answering(then=raising(KeyError())), http_scope("/health"))
    assert seen.spans == []


# Routes.


def orders():
    """A router in a router in a router, with a template in each."""
    inner = APIRouter(prefix="/items")
    outer = APIRouter(prefix="/orders/{order}")

    @inner.get("/{item}")
    async def item(order: int, item: int):
        return [order, item]

    @inner.get("/")
    async def items(order: int):
        return [order]

    @inner.websocket("/{item}/live")
    async def live(websocket: fastapi.WebSocket):
        await websocket.accept()
        await websocket.close()

    @outer.get("")
    async def order(order: int):
        return order

    outer.include_router(inner, prefix="/v{version}")
    return outer


def shop():
    """A FastAPI application with routers, and applications of both kinds mounted."""
    app = FastAPI()
    app.include_router(orders(), prefix="/api")
    sub = FastAPI()
    sub.include_router(orders())
    deep = Starlette(routes=[Route("/leaf/{leaf}", lambda _request: Response())])
    sub.mount("/deep/{level}", deep)
    app.mount("/tenants/{tenant}", sub)
    app.mount("/star", Starlette(routes=[Mount("/in", routes=[Route("/x", lambda _request: Response())])]))

    @app.get("/")
    async def home():
        return "home"

    @app.post("/only-post/{item}")
    async def only_post(item: int):
        return item

    return app


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/", "/", 200),
        ("GET", "/api/orders/7", "/api/orders/{order}", 200),
        ("GET", "/api/orders/7/v2/items/9", f"/api{ITEM}", 200),
        ("GET", "/api/orders/7/v2/items/", "/api/orders/{order}/v{version}/items/", 200),
        ("GET", "/api/orders/seven", "/api/orders/{order}", 422),
        ("GET", "/tenants/a/orders/7", "/tenants/{tenant}/orders/{order}", 200),
        ("GET", "/tenants/a/orders/7/v1/items/2", f"/tenants/{{tenant}}{ITEM}", 200),
        ("GET", "/tenants/a/deep/2/leaf/3", "/tenants/{tenant}/deep/{level}/leaf/{leaf}", 200),
        ("GET", "/tenants/a/deep/2/nowhere", "/tenants/{tenant}/deep/{level}/{path}", 404),
        ("GET", "/tenants/a/nowhere", "/tenants/{tenant}/{path}", 404),
        ("GET", "/star/in/x", "/star/in/x", 200),
        ("GET", "/only-post/7", "/only-post/{item}", 405),
        ("DELETE", "/api/orders/7", "/api/orders/{order}", 405),
        ("GET", "/nowhere", None, 404),
        ("GET", "/openapi.json", "/openapi.json", 200),
    ],
)  # fmt: skip
def test_the_route_is_the_whole_template(seen, method, path, route, status):
    """On whatever version is installed: prefixes, nested routers and mounts, and never a raw path."""
    sent = play(shop(), http_scope(path, method=method))
    (span,) = seen.spans
    assert (sent[0]["status"], span.attributes.get("http.route")) == (status, route)
    assert span.name == (f"{method} {route}" if route else method)
    assert outcome(seen).get("http.route") == route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/orders/7/v2/items/9/live", f"/api{ITEM}/live"),
        ("/tenants/a/orders/7/v2/items/9/live", f"/tenants/{{tenant}}{ITEM}/live"),
    ],
)  # fmt: skip
def test_the_route_of_a_websocket_is_the_whole_template(seen, path, route):
    """As for requests."""
    play(shop(), websocket_scope(path), [CONNECT])
    (span,) = seen.spans
    assert (span.name, span.attributes["http.response.status_code"]) == (f"WS {route}", 101)


def test_an_unmatched_websocket_has_no_route(seen):
    """It is rejected."""
    play(shop(), websocket_scope("/nowhere"), [CONNECT])
    assert (seen.spans[0].name, seen.spans[0].attributes["http.response.status_code"]) == ("WS", 403)


@pytest.mark.parametrize("path", ["/root/tenants/a/orders/7", "/root/tenants/a/orders/7/v1/items/8"])
def test_the_route_starts_with_the_root_that_the_server_names(seen, path):
    """The conventions ask for it; mounts do not double it."""
    play(shop(), http_scope(path, root_path="/root"))
    assert seen.spans[0].attributes["http.route"].startswith("/root/tenants/{tenant}/orders/{order}")


def test_the_route_starts_with_the_root_that_the_application_names(seen):
    """Behind a proxy that strips it, paths come without."""
    app = shop()
    app.root_path = "/root"
    play(app, http_scope("/api/orders/7"))
    assert seen.spans[0].attributes["http.route"] == "/root/api/orders/{order}"


def test_a_redirect_to_the_slash_has_no_route(seen):
    """No route handled it."""
    sent = play(shop(), http_scope("/api/orders/7/v2/items"))
    assert (sent[0]["status"], seen.spans[0].name) == (307, "GET")


def test_a_route_below_a_host_is_its_template(seen):
    """The host is no part of it."""
    app = Starlette(routes=[Host("shop.example", Router([Route("/x/{id}", lambda _request: Response())]))])
    play(app, http_scope("/x/1"))
    assert seen.spans[0].name == "GET /x/{id}"


def test_a_router_without_an_application_has_routes_too(seen):
    """Starlette's routers are applications themselves."""
    play(ObservabilityMiddleware(Router([Route("/x/{id}", lambda _request: Response())])), http_scope("/x/1"))
    assert seen.spans[0].name == "GET /x/{id}"


# Middleware of the application.


class PassingOn(BaseHTTPMiddleware):
    """The kind that runs what is inside in another task."""

    async def dispatch(self, request, call_next):
        return await call_next(request)


class CopyingScope:
    """The kind that gives the inside a scope of its own."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(dict(scope), receive, send)


@pytest.mark.parametrize("kind", [PassingOn, CopyingScope])
def test_middleware_between_the_edge_and_the_route_changes_nothing(seen, kind):
    """Route, ids and outcome come through."""

    async def endpoint(_request):
        return StreamingResponse(iter([correlation_id()]))

    app = Starlette(
        routes=[Mount("/in", routes=[Route("/x/{id}", endpoint)])], middleware=[Middleware(kind)] * 2
    )
    sent = play(app, http_scope("/in/x/1", headers=[(b"x-correlation-id", b"order-7")]))
    assert body_of(sent) == "order-7"
    assert picture(seen) == [
        "GET /in/x/{id} UNSET",
        {"http.response.status_code": 200, "http.route": "/in/x/{id}"},
        ["INFO request_completed"],
    ]


@pytest.mark.parametrize("kind", [PassingOn, CopyingScope])
def test_a_crash_below_middleware_is_named_by_its_exception(seen, kind):
    """It comes through as it was."""

    async def crash(_request):
        raise LookupError("gone")

    play_failing(Starlette(routes=[Route("/x", crash)], middleware=[Middleware(kind)]), http_scope("/x"))
    assert outcome(seen) == {
        "http.response.status_code": 500,
        "http.route": "/x",
        "error.type": "LookupError",
    }


def test_a_scope_can_be_used_again_after_the_request(seen):
    """It is left as it came, and its second request is a request."""
    app = Starlette(routes=[Mount("/in", routes=[Route("/x", lambda _request: Response())])])
    scope = http_scope("/in/x")
    before = set(scope)
    for _ in range(2):
        play(ObservabilityMiddleware(CopyingScope(app)), scope)
        assert set(scope) == before
    assert [span.name for span in seen.spans] == ["GET /in/x"] * 2
    assert [span.status.status_code for span in seen.spans] == [StatusCode.UNSET] * 2


@pytest.mark.filterwarnings("ignore")
def test_an_abandoned_request_ends_when_it_is_collected(seen):
    """As those of a loop that is closed: nothing of ours keeps them, and nothing stays active."""

    async def app(_scope, receive, _send):
        await receive()

    async def abandon():
        forever = asyncio.get_running_loop().create_future
        for _ in range(3):
            asyncio.ensure_future(  # noqa: RUF006 - nobody keeps it, that is the case
                ObservabilityMiddleware(app)(http_scope("/"), forever, None)
            )
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(abandon())
    going = asgi.installed.active.going
    assert [*going.values()] == [("GET", "http")] * 3
    loop.close()
    del loop
    gc.collect()
    assert (going, len(seen.spans)) == ({}, 3)


class SpeechlessError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def test_an_exception_without_words_is_recorded_all_the_same(seen):
    """The crash is on the span, in the metric and in the log, and nothing stays active."""

    async def app(_scope, _receive, _send):
        raise SpeechlessError

    with pytest.raises(SpeechlessError):
        play(ObservabilityMiddleware(app), http_scope("/"))
    (span,), (point,) = seen.spans, seen.measured("http.server.request.duration")
    assert span.attributes["error.type"].endswith("SpeechlessError")
    assert point.attributes["error.type"].endswith("SpeechlessError")
    assert {each.value for each in seen.measured("http.server.active_requests")} == {0}


def test_a_filter_of_the_application_that_fails_fails_no_request(seen):
    """The response goes out, and the span and the point are there."""

    def fail(record):
        raise AttributeError("user")

    log = logging.getLogger("tercet.access")
    log.addFilter(fail)
    try:
        sent = play(ObservabilityMiddleware(PlainTextResponse("ok")), http_scope("/"))
    finally:
        log.removeFilter(fail)
    assert body_of(sent) == "ok"
    assert (len(seen.spans), len(seen.measured("http.server.request.duration"))) == (1, 1)
