"""A shop that promises something beside its routes, and lets its callers say how each request goes."""

import asyncio
import os

from fastapi import APIRouter, FastAPI, HTTPException, Response

from tercet import Objective, metrics_app, setup_observability

setup_observability("shop")
app, orders = FastAPI(), APIRouter(prefix="/orders")
THRESHOLD = 0.3


@orders.post("/{number}")
async def place(number: int, status: int = 200, seconds: float = 0.0) -> Response:
    await asyncio.sleep(seconds)
    if status == 0:
        raise RuntimeError("the shelf fell down")
    if status == 409:
        raise HTTPException(status)
    stock.good() if status == 200 else stock.bad(2)
    return Response(str(os.getpid()), status)


@app.get("/who")
async def who() -> int:
    return os.getpid()


app.include_router(orders, prefix="/api")
app.mount("/metrics", metrics_app())

PLACED = {"http.route": "/api/orders/{number}", "http.request.method": "POST"}
Objective("checkout", kind="availability", target="99.95%", where=PLACED)
Objective("fast", kind="latency", target="99%", below=THRESHOLD, where=PLACED)
Objective("all", kind="availability", target="99%", forgive="RuntimeError")
stock = Objective("stock", kind="availability", target="99%", counted="calls")
