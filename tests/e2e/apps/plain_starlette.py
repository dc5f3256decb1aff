"""A plain Starlette application, with a mount."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route


async def item(request: Request) -> JSONResponse:
    return JSONResponse({"item": request.path_params["item_id"]})


app = Starlette(
    routes=[
        Route("/items/{item_id}", item),
        Mount("/shelf", routes=[Route("/items/{item_id}", item)]),
    ]
)
