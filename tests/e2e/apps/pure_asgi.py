"""An ASGI application of no framework, observed by the middleware."""

from typing import Any

from tercet import ObservabilityMiddleware


async def answer(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


app = ObservabilityMiddleware(answer)
