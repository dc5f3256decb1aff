"""Play the server: call an ASGI application directly, with the messages that a test chooses."""

import asyncio
from typing import Any

BODY = {"type": "http.request", "body": b"", "more_body": False}
GONE = {"type": "http.disconnect"}
CONNECT = {"type": "websocket.connect"}


def http_scope(path: str = "/", **given: Any) -> dict[str, Any]:
    """What a server says of a GET request, and what the test says instead."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example")],
        "client": ("192.0.2.7", 4711),
        "server": ("10.0.0.1", 80),
        **given,
    }


def websocket_scope(path: str = "/", **given: Any) -> dict[str, Any]:
    """What a server says of a websocket."""
    scope = http_scope(path, type="websocket", scheme="ws", subprotocols=[], **given)
    del scope["method"]
    return scope


async def serve(app, scope, received=(BODY,), send=None):
    """Run `app` once; return what it sent, also when it raised, which is raised on with `sent` on it."""
    sent: list[dict[str, Any]] = []
    waiting = iter(received)

    async def receive():
        message = next(waiting, None)
        if message is None:
            await asyncio.Event().wait()
        return message

    async def keep(message):
        sent.append(message)

    try:
        await app(scope, receive, send or keep)
    except BaseException as error:
        error.sent = sent
        raise
    return sent


def play(app, scope, received=(BODY,), send=None):
    """Run `app` once on a loop of its own; return what it sent."""
    return asyncio.run(serve(app, scope, received, send))


def play_failing(app, scope, received=(BODY,), send=None):
    """Run an `app` that raises; return what it sent before."""
    try:
        play(app, scope, received, send)
    except BaseException as error:
        return error.sent
    raise AssertionError("The application did not raise.")


def headers_of(sent):
    """The headers of the first message, as text."""
    return {name.decode(): value.decode() for name, value in sent[0].get("headers", ())}


def body_of(sent):
    """The body of a response, as text."""
    return b"".join(message.get("body", b"") for message in sent).decode()
