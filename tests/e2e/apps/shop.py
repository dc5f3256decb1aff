"""A FastAPI application that knows nothing of telemetry: routes, a router, streams, a socket, an error."""

import asyncio
import logging
from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

logger = logging.getLogger("shop")
app = FastAPI()
orders = APIRouter(prefix="/orders")


@app.get("/")
async def home() -> dict[str, str]:
    return {"shop": "open"}


@orders.get("/{order_id}")
async def read_order(order_id: int) -> dict[str, int]:
    logger.info("order read", extra={"order_id": order_id})
    return {"order_id": order_id}


@orders.post("/{order_id}/pay")
def pay_order(order_id: int) -> dict[str, int]:
    logger.info("order paid", extra={"order_id": order_id})
    return {"order_id": order_id}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(5):
            yield f"part {number}\n"

    return StreamingResponse(parts())


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        while True:
            yield "more\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(parts())


@app.websocket("/chat/{room}")
async def chat(socket: WebSocket, room: str) -> None:
    await socket.accept()
    await socket.send_text(f"{room}: {await socket.receive_text()}")
    await socket.close()


@app.get("/error")
async def error() -> None:
    raise RuntimeError("the shelf fell down")


@app.get("/health")
async def health() -> dict[str, bool]:
    logger.info("looking well")
    return {"ok": True}


app.include_router(orders)
