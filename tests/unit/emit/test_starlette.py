import inspect
import subprocess
import sys

import pytest
from asgi_driver import http_scope, play
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route

AFTER = """
from tercet.testing import capture
with capture() as seen:
    import sys
    assert not [name for name in sys.modules if name.split(".")[0] in ("starlette", "fastapi")]
    {imports}
    import asyncio

    async def receive():
        return {{"type": "http.request"}}

    async def send(message):
        pass

    asyncio.run(app({{"type": "http", "method": "GET", "path": "/docs", "headers": []}}, receive, send))
print([span.name for span in seen.spans])
"""


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ("from fastapi import FastAPI; app = FastAPI()", "['GET /docs']"),
        ("from starlette.applications import Starlette; app = Starlette()", "['GET']"),
    ],
)
def test_a_framework_that_is_imported_after_setup_is_hooked(imports, expected):
    """And setup itself imports none."""
    command = [sys.executable, "-c", AFTER.format(imports=imports)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == (expected, 0), done.stderr


def test_servers_still_recognise_an_asgi_3_application(seen):
    """They look whether the call is a coroutine function."""
    assert inspect.iscoroutinefunction(FastAPI().__call__)
    assert inspect.iscoroutinefunction(Starlette().__call__)


def test_a_route_that_is_used_outside_any_edge_works(seen):
    """Nobody notes it."""
    sent = play(Route("/x", lambda _request: Response("ok")), http_scope("/x"))
    assert (sent[0]["status"], seen.spans) == (200, [])


@pytest.mark.parametrize(
    ("mount", "path", "route"),
    [
        (Mount("/", routes=[Route("/x", lambda _request: Response())]), "/x", "/x"),
        (Mount("", routes=[Route("/", lambda _request: Response())]), "/", "/"),
        (Mount("/{a}/{b:int}", routes=[Route("/", lambda _request: Response())]), "/k/7/", "/{a}/{b}/"),
        (Mount("/files", app=Response("a file")), "/files/a/b/c.txt", "/files/{path}"),
        (
            Mount("/files", routes=[Route("/{path}", lambda _request: Response())]),
            "/files/a",
            "/files/{path}",
        ),
    ],
)
def test_the_template_of_a_mount_is_no_path(seen, mount, path, route):
    """Whatever is below it: a mounted application that has no routes is one series."""
    play(Starlette(routes=[mount]), http_scope(path))
    assert seen.spans[0].attributes["http.route"] == route


def test_the_path_of_the_application_stands_before_the_route(seen):
    """Also where something inside a mount says that it has none."""

    async def rootless(scope, receive, send):
        inside = {**scope, "path": "/x", "root_path": ""}
        await Route("/x", lambda _request: Response())(inside, receive, send)

    play(Starlette(routes=[Mount("/files", app=rootless)]), http_scope("/pre/files/x", root_path="/pre"))
    assert seen.spans[0].attributes["http.route"] == "/pre/files/x"
