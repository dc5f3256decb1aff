"""The five services of the order trace, as FastAPI applications.

    gateway → auth-service
            → order-service → database
                            → payment-service
            → notification

The waits stand for work that a real service would do; the calls, the database and the telemetry are real.
So are the faults that can be switched on.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pydantic import BaseModel

from tercet import Counter, Gauge, Histogram, UpDownCounter, __version__
from tercet.demo.catalog import AUTH, DATABASE, GATEWAY, NOTIFICATION, ORDERS, PAYMENTS, PORTS
from tercet.demo.faults import MEMORY_PRESSURE, PAYMENT_FAILING, PAYMENT_SLOW, Marks
from tercet.demo.hoard import Hoard
from tercet.emit.http import error_type
from tercet.errors import TercetError

_CREATE = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, user_id TEXT, amount REAL)"
_INSERT = "INSERT INTO orders (user_id, amount) VALUES (?, ?)"
_SELECT = "SELECT id, user_id, amount FROM orders WHERE id = ?"

#: Connections to the database that may be open at once, and how long an order waits for one.
POOL_SIZE = 20
_POOL_SECONDS = 2.0
#: How long SQLite waits for somebody else's lock before it says that the database is locked.
_BUSY_SECONDS = 3.0
_CALL_SECONDS = 10.0
#: No order waits longer for its confirmation, which can be sent again.
_CONFIRMATION_SECONDS = 1.0
_PROVIDER_SECONDS = 0.038
_SLOW_PROVIDER_SECONDS = 3.0

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


class PaymentError(TercetError):
    """Say that the payment provider took no money."""


class Peers:
    """Call the other services."""

    def __init__(self, client: httpx.AsyncClient, urls: Mapping[str, str]) -> None:
        self._client = client
        self._urls = {name: f"http://127.0.0.1:{port}" for name, port in PORTS.items()} | dict(urls)

    async def post(
        self, service: str, path: str, payload: BaseModel, seconds: float = _CALL_SECONDS
    ) -> httpx.Response:
        """Send a payload to a service and return its answer.

        Raises:
            httpx.HTTPError: The service cannot be reached, takes too long, or answered with an error.
        """
        url, document = self._urls[service] + path, payload.model_dump()
        response = await self._client.post(url, json=document, timeout=seconds)
        return response.raise_for_status()

    def lifespan(self, _: FastAPI) -> AbstractAsyncContextManager[None]:
        """Close the connections when the service ends."""
        return self._lifespan()

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        async with self._client:
            yield


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service runs.

    Attributes:
        peers: The other services.
        database: The SQLite file; only the order service uses it.
        marks: What is broken on purpose.
    """

    peers: Peers
    database: Path
    marks: Marks = field(default_factory=Marks)


def gateway(place: Place) -> FastAPI:
    """Build the service that customers talk to."""
    peers = place.peers
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("gateway")

    @app.post("/orders", status_code=201)
    async def place_order(order: Order) -> PlacedOrder:
        await peers.post(AUTH, "/verify", order)
        placed = PlacedOrder.model_validate((await peers.post(ORDERS, "/orders", order)).json())
        await _confirm(peers, placed, log)
        log.info("order_placed", extra={"order_id": placed.id, "user_id": placed.user_id})
        return placed

    return app


def auth(place: Place) -> FastAPI:
    """Build the service that knows who may order."""
    app = FastAPI(lifespan=place.peers.lifespan)
    log = logging.getLogger("auth")

    @app.post("/verify")
    async def verify(order: Order) -> None:
        trace.get_current_span().set_attribute("user_id", order.user_id)
        await asyncio.sleep(0.018)
        log.info("user_verified", extra={"user_id": order.user_id})

    return app


def orders(place: Place) -> FastAPI:
    """Build the service that stores orders and has them paid."""
    peers, hoard = place.peers, Hoard()
    app = FastAPI(lifespan=peers.lifespan)
    log = logging.getLogger("orders")
    with closing(sqlite3.connect(place.database)) as connection, connection:
        connection.execute(_CREATE)

    pool = asyncio.Semaphore(POOL_SIZE)
    # As many threads as connections: each waits for a lock in one of its own.
    threads = ThreadPoolExecutor(POOL_SIZE, thread_name_prefix=DATABASE)
    _pool_size.set(POOL_SIZE, pool_name=DATABASE)

    @app.post("/orders")
    async def create_order(order: Order) -> PlacedOrder:
        with _counted(order):
            hoard.grow() if place.marks.is_on(MEMORY_PRESSURE) else hoard.release()
            async with _connection(pool):
                placed = await _store(threads, place.database, order)
            log.info("order_created", extra={"order_id": placed.id, "amount": placed.amount})
            await peers.post(PAYMENTS, "/charge", placed)
            await asyncio.sleep(0.005)
            return placed

    return app


def payments(place: Place) -> FastAPI:
    """Build the service that charges customers."""
    app = FastAPI(lifespan=place.peers.lifespan)
    log = logging.getLogger("payments")

    @app.post("/charge")
    async def charge(order: PlacedOrder) -> None:
        trace.get_current_span().set_attribute("amount", order.amount)
        await _ask_provider(place.marks)
        log.info("payment_charged", extra={"order_id": order.id, "amount": order.amount})

    return app


def notification(place: Place) -> FastAPI:
    """Build the service that tells customers."""
    app = FastAPI(lifespan=place.peers.lifespan)
    log = logging.getLogger("notification")

    @app.post("/notify")
    async def notify(order: PlacedOrder) -> None:
        trace.get_current_span().set_attribute("type", "email")
        await asyncio.sleep(0.009)
        log.info("notification_sent", extra={"order_id": order.id, "channel": "email"})

    return app


#: Troubles that are no mistakes in a service, and what it answers then; 502 and 504 send whoever looks for
#: the cause to another service. Left to the server each would be a 500, after which it closes the connection
#: under the next order.
_FAILURES: dict[type[Exception], int] = {
    httpx.TimeoutException: 504,
    httpx.HTTPError: 502,
    PaymentError: 503,
    sqlite3.Error: 503,
    TimeoutError: 503,
}


def _answer_failure(_: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in _FAILURES.items() if isinstance(error, kind))
    trace.get_current_span().record_exception(error)
    # The first line says it; httpx goes on with where to read about it.
    reason = str(error).partition("\n")[0] or repr(error)
    logging.getLogger("failures").error("dependency_failed", extra={"reason": reason})
    return JSONResponse({"detail": reason}, status)


#: From a service's name to what builds it.
BUILDERS: dict[str, Callable[[Place], FastAPI]] = {
    GATEWAY: gateway,
    AUTH: auth,
    ORDERS: orders,
    PAYMENTS: payments,
    NOTIFICATION: notification,
}


def build_service(name: str, database: Path, urls: Mapping[str, str], faults: Path | None = None) -> FastAPI:
    """Build one service with its health check.

    Args:
        name: Which service.
        database: The SQLite file; only the order service uses it.
        urls: Where its peers listen, by name; those left out are on their preferred port.
        faults: The folder with a file for each fault that is on.
    """
    _service.set(1, service=name, version=__version__)
    # The proxies of the environment are for the outside; the peers are on this machine.
    peers = Peers(httpx.AsyncClient(trust_env=False), urls)
    return build_app(name, Place(peers, database, Marks(faults)))


def build_app(name: str, place: Place) -> FastAPI:
    """Build one service in its place."""
    app = BUILDERS[name](place)
    for failure in _FAILURES:
        app.add_exception_handler(failure, _answer_failure)

    @app.get("/health")
    async def health() -> None:
        """Answer, which is what being healthy means here."""

    return app


async def _confirm(peers: Peers, placed: PlacedOrder, log: logging.Logger) -> None:
    """Have the customer told; an order that is paid for does not fail because nobody tells."""
    try:
        await peers.post(NOTIFICATION, "/notify", placed, _CONFIRMATION_SECONDS)
    except httpx.HTTPError as error:
        log.warning("confirmation_not_sent", extra={"order_id": placed.id, "reason": repr(error)})


async def _ask_provider(marks: Marks) -> None:
    """Have the card charged by the provider, which is somebody else's service.

    Raises:
        PaymentError: It refuses.
    """
    await asyncio.sleep(_SLOW_PROVIDER_SECONDS if marks.is_on(PAYMENT_SLOW) else _PROVIDER_SECONDS)
    if marks.is_on(PAYMENT_FAILING):
        raise PaymentError("the payment provider must take the charge, got 503 Service Unavailable.")


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
    """Wait for a connection, and have it while the block runs.

    Raises:
        TimeoutError: None was free in time.
    """
    _waiting.add(1, queue_name=DATABASE)
    try:
        async with asyncio.timeout(_POOL_SECONDS):
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


async def _store(threads: ThreadPoolExecutor, database: Path, order: Order) -> PlacedOrder:
    attributes: dict[str, str | int] = {
        "db.query.text": f"{_INSERT}; {_SELECT}",
        "db.system.name": "sqlite",
        "db.namespace": database.name,
        "db.operation.name": "BATCH",
        "db.operation.batch.size": 2,
    }
    spanning = _tracer.start_as_current_span(DATABASE, kind=SpanKind.CLIENT, attributes=attributes)
    with spanning as span, _timed(attributes):
        await asyncio.sleep(0.038)
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, _insert, database, order)
        except sqlite3.Error as error:
            span.set_attribute("error.type", error_type(error))
            raise


def _insert(database: Path, order: Order) -> PlacedOrder:
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        cursor = connection.execute(_INSERT, (order.user_id, order.amount))
        row = connection.execute(_SELECT, (cursor.lastrowid,)).fetchone()
    return PlacedOrder(id=row[0], user_id=row[1], amount=row[2])
