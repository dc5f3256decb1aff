"""The five services of the order trace, as FastAPI applications.

    gateway → auth-service
            → order-service → database
                            → payment-service
            → notification

The waits stand for work that a real service would do; the calls, the database and the telemetry are real.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from time import perf_counter

import httpx
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

from tercet import Counter, Gauge, Histogram, UpDownCounter, __version__
from tercet.demo.catalog import AUTH, DATABASE, GATEWAY, NOTIFICATION, ORDERS, PAYMENTS, PORTS
from tercet.emit.http import error_type

_CREATE = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user_id TEXT, amount REAL)"
_INSERT = "INSERT INTO orders (user_id, amount) VALUES (?, ?)"
_SELECT = "SELECT id, user_id, amount FROM orders WHERE id = ?"

#: Connections to the database that may be open at once.
POOL_SIZE = 20

_tracer = trace.get_tracer("tercet.demo")
_orders = Counter(
    "orders_total",
    "Orders processed.",
    attributes=("status", "payment_method"),
    ready={"status": ["paid", "failed"], "payment_method": ["card"]},
)
_revenue = Counter(
    "revenue_total_cents", "Revenue in cents.", attributes=("currency",), ready={"currency": ["USD"]}
)
_pool_size = Gauge("connection_pool_size", "Connections that may be open at once.", attributes=("pool_name",))
_connections = UpDownCounter("active_connections", "Connections in use.", attributes=("pool_name",))
_waiting = UpDownCounter("queue_size", "Orders that wait for a connection.", attributes=("queue_name",))
# As the semantic conventions have it: name, attributes and buckets.
_operations = Histogram(
    "db.client.operation.duration",
    "Duration of database client operations.",
    attributes=("db.system.name", "db.namespace", "db.operation.name", "error.type"),
    unit="s",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
_service = Gauge("service_info", "Which service this is.", attributes=("service", "version"))


class Order(BaseModel):
    """What a customer asks for."""

    user_id: str
    amount: float


class PlacedOrder(Order):
    """An order that the database knows."""

    id: int


class Peers:
    """Call the other services."""

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = {name: f"http://127.0.0.1:{port}" for name, port in PORTS.items()} | dict(urls)

    async def post(self, service: str, path: str, payload: BaseModel) -> httpx.Response:
        """Send a payload to a service and return its answer.

        Raises:
            httpx.HTTPError: The service cannot be reached, or answered with an error.
        """
        response = await self._client.post(self._urls[service] + path, json=payload.model_dump())
        return response.raise_for_status()

    def lifespan(self, _: FastAPI) -> AbstractAsyncContextManager[None]:
        """Close the connections when the service ends."""
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._client:
            yield


def gateway(peers: Peers, _: Path) -> FastAPI:
    """Build the service that customers talk to."""
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("gateway")

    @app.post("/orders", status_code=201)
    async def place_order(order: Order) -> PlacedOrder:
        await peers.post(AUTH, "/verify", order)
        placed = PlacedOrder.model_validate((await peers.post(ORDERS, "/orders", order)).json())
        await peers.post(NOTIFICATION, "/notify", placed)
        log.info("order_placed", extra={"order_id": placed.id, "user_id": placed.user_id})
        return placed

    return app


def auth(peers: Peers, _: Path) -> FastAPI:
    """Build the service that knows who may order."""
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("auth")

    @app.post("/verify")
    async def verify(order: Order) -> None:
        trace.get_current_span().set_attribute("user_id", order.user_id)
        await asyncio.sleep(0.018)
        log.info("user_verified", extra={"user_id": order.user_id})

    return app


def orders(peers: Peers, database: Path) -> FastAPI:
    """Build the service that stores orders and has them paid."""
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("orders")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(_CREATE)

    pool = asyncio.Semaphore(POOL_SIZE)
    _pool_size.set(POOL_SIZE, pool_name=DATABASE)

    @app.post("/orders")
    async def create_order(order: Order) -> PlacedOrder:
        with _counted(order):
            async with _connection(pool):
                placed = await _store(database, order)
            log.info("order_created", extra={"order_id": placed.id, "amount": placed.amount})
            await peers.post(PAYMENTS, "/charge", placed)
            await asyncio.sleep(0.005)
            return placed

    return app


def payments(peers: Peers, _: Path) -> FastAPI:
    """Build the service that charges customers."""
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("payments")

    @app.post("/charge")
    async def charge(order: PlacedOrder) -> None:
        trace.get_current_span().set_attribute("amount", order.amount)
        await asyncio.sleep(0.038)
        log.info("payment_charged", extra={"order_id": order.id, "amount": order.amount})

    return app


def notification(peers: Peers, _: Path) -> FastAPI:
    """Build the service that tells customers."""
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("notification")

    @app.post("/notify")
    async def notify(order: PlacedOrder) -> None:
        trace.get_current_span().set_attribute("type", "email")
        await asyncio.sleep(0.009)
        log.info("notification_sent", extra={"order_id": order.id, "channel": "email"})

    return app


#: From a service's name to what builds it, given its peers and the database file.
BUILDERS: dict[str, Callable[[Peers, Path], FastAPI]] = {
    GATEWAY: gateway,
    AUTH: auth,
    ORDERS: orders,
    PAYMENTS: payments,
    NOTIFICATION: notification,
}


def build_service(name: str, database: Path, urls: Mapping[str, str]) -> FastAPI:
    """Build one service with its health check.

    Args:
        name: Which service.
        database: The SQLite file; only the order service uses it.
        urls: Where its peers listen, by name; those left out are on their preferred port.
    """
    # The proxies of the environment are for the outside; the peers are on this machine.
    _service.set(1, service=name, version=__version__)
    app = BUILDERS[name](Peers(httpx.AsyncClient(trust_env=False, timeout=10.0), urls), database)

    @app.get("/health")
    async def health() -> None:
        """Answer, which is what being healthy means here."""

    return app


@contextmanager
def _counted(order: Order) -> Iterator[None]:
    """Count an order and what it brings, however it ends."""
    status = "failed"
    try:
        yield
        status = "paid"
        _revenue.add(round(order.amount * 100), currency="USD")
    finally:
        _orders.add(1, status=status, payment_method="card")


@asynccontextmanager
async def _connection(pool: asyncio.Semaphore) -> AsyncIterator[None]:
    """Wait for a connection, and have it while the block runs."""
    _waiting.add(1, queue_name=DATABASE)
    try:
        await pool.acquire()
    finally:
        _waiting.add(-1, queue_name=DATABASE)
    _connections.add(1, pool_name=DATABASE)
    try:
        yield
    finally:
        _connections.add(-1, pool_name=DATABASE)
        pool.release()


@contextmanager
def _timed(attributes: Mapping[str, str | int]) -> Iterator[None]:
    """Time an operation of the database, however it ends."""
    started, failed = perf_counter(), {}
    try:
        yield
    except Exception as error:
        failed = {"error.type": error_type(error)}
        raise
    finally:
        known = {key: attributes[key] for key in _operations.metric.attributes if key in attributes}
        _operations.record(perf_counter() - started, **known, **failed)


async def _store(database: Path, order: Order) -> PlacedOrder:
    attributes: dict[str, str | int] = {
        "db.query.text": f"{_INSERT}; {_SELECT}",
        "db.system.name": "sqlite",
        "db.namespace": database.name,
        "db.operation.name": "BATCH",
        "db.operation.batch.size": 2,
    }
    span = _tracer.start_as_current_span(DATABASE, kind=SpanKind.CLIENT, attributes=attributes)
    with span, _timed(attributes):
        await asyncio.sleep(0.038)
        return await asyncio.to_thread(_insert, database, order)


def _insert(database: Path, order: Order) -> PlacedOrder:
    with closing(sqlite3.connect(database)) as connection, connection:
        cursor = connection.execute(_INSERT, (order.user_id, order.amount))
        row = connection.execute(_SELECT, (cursor.lastrowid,)).fetchone()
    return PlacedOrder(id=row[0], user_id=row[1], amount=row[2])
