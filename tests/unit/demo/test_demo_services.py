"""The five services without their processes: they call each other in memory."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from opentelemetry.trace import SpanKind

from tercet import __version__
from tercet.demo.catalog import DATABASE, GATEWAY, NOTIFICATION, PAYMENTS, PORTS
from tercet.demo.faults import PAYMENT_FAILING, PAYMENT_SLOW, Marks
from tercet.demo.services import POOL_SIZE, Peers, Place, build_app, build_service
from tercet.testing import capture

ORDER = {"user_id": "usr_123", "amount": 150.0}
INSERT = "INSERT INTO orders (user_id, amount) VALUES (?, ?)"
SELECT = "SELECT id, user_id, amount FROM orders WHERE id = ?"


class Street(httpx.AsyncBaseTransport):
    """Every service behind its own port, in this process."""

    def __init__(self, database: Path, *faults: str) -> None:
        self.client = httpx.AsyncClient(transport=self)
        for fault in faults:
            (database.parent / fault).touch()
        place = Place(Peers(self.client, {}), database, Marks(database.parent))
        apps = {PORTS[name]: build_app(name, place) for name in PORTS}
        self._services = {port: httpx.ASGITransport(app) for port, app in apps.items()}

    def forget(self, service: str) -> None:
        """Let nobody find a service any more."""
        del self._services[PORTS[service]]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand a request to the service behind its port."""
        if request.url.port not in self._services:
            raise httpx.ConnectError("refused", request=request)
        return await self._services[request.url.port].handle_async_request(request)


def _place_order(database: Path) -> httpx.Response:
    return _order_in(Street(database))


def _order_in(street: Street) -> httpx.Response:
    return asyncio.run(street.client.post(f"http://127.0.0.1:{PORTS[GATEWAY]}/orders", json=ORDER))


def test_an_order_is_stored(tmp_path):
    """The database is real: what was ordered can be read back by anybody."""
    database = tmp_path / "orders.db"

    response = _place_order(database)

    assert (response.status_code, response.json()) == (201, {"id": 1, **ORDER})
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [(1, "usr_123", 150.0)]


def test_an_order_leaves_the_documents_tags_and_events(tmp_path):
    """Each service says what it did, on its span and in its log."""
    with capture() as seen:
        _place_order(tmp_path / "orders.db")

    tags = {key: value for span in seen.spans for key, value in span.attributes.items()}
    assert {key: tags[key] for key in ("user_id", "amount", "type", "db.system.name", "db.namespace")} == {
        "user_id": "usr_123",
        "amount": 150.0,
        "type": "email",
        "db.system.name": "sqlite",
        "db.namespace": "orders.db",
    }
    events = [record.log_record.body for record in seen.logs]
    assert [event for event in events if not event.startswith("request_")] == [
        "user_verified",
        "order_created",
        "payment_charged",
        "notification_sent",
        "order_placed",
    ]


def test_the_database_is_a_client_span_of_its_own(tmp_path):
    """Its kind and its query are what a viewer of databases looks for."""
    with capture() as seen:
        _place_order(tmp_path / "orders.db")

    (database,) = [span for span in seen.spans if span.name == DATABASE]
    assert database.kind is SpanKind.CLIENT
    assert database.attributes["db.query.text"] == f"{INSERT}; {SELECT}"


@pytest.mark.parametrize("name", PORTS)
def test_each_service_answers_its_health_check(tmp_path, name):
    """A service that runs is healthy, and closes its connections when it ends."""
    app = build_service(name, tmp_path / "orders.db", {})

    async def check() -> int:
        async with app.router.lifespan_context(app):
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
            return (await client.get("/health")).status_code

    assert asyncio.run(check()) == 200


def test_an_order_is_counted_as_business(tmp_path):
    """The document's metrics, through the interface that users have; what has not failed is there, at 0."""
    with capture() as seen:
        _place_order(tmp_path / "orders.db")
        build_service(GATEWAY, tmp_path / "orders.db", {})

    measured = {
        name: [
            (*each.attributes.values(), each.value)
            for each in seen.measured(name)
            if each.attributes.get("service", GATEWAY) == GATEWAY
        ]
        for name in (
            "orders_total",
            "revenue_total_cents",
            "connection_pool_size",
            "active_connections",
            "queue_size",
            "service_info",
        )
    }
    assert measured == {
        "orders_total": [("paid", "card", 1)],
        "revenue_total_cents": [("USD", 15_000)],
        "connection_pool_size": [("database", POOL_SIZE)],
        "active_connections": [("database", 0)],
        "queue_size": [("database", 0)],
        "service_info": [(GATEWAY, __version__, 1)],
    }


def test_an_order_that_fails_is_counted_as_failed(tmp_path):
    """And brings nothing."""
    with capture() as seen:
        street = Street(tmp_path / "orders.db")
        street.forget(PAYMENTS)
        assert _order_in(street).status_code == 502

    counted = [(each.attributes["status"], each.value) for each in seen.measured("orders_total")]
    assert (counted, seen.measured("revenue_total_cents")) == ([("failed", 1)], [])


def _failed_events(seen) -> list[tuple[str, str]]:
    return [
        (span.name, event.attributes["exception.message"])
        for span in seen.spans
        for event in span.events
        if event.name == "exception" and "/" in span.name
    ]


def test_a_payment_that_is_refused_fails_the_order_and_is_recorded_where_it_happened(tmp_path):
    """The cause answers 503, whoever needs it 502; nobody confirms what was not paid."""
    with capture() as seen:
        response = _order_in(Street(tmp_path / "orders.db", PAYMENT_FAILING))

    status = {
        span.name: span.attributes["http.response.status_code"]
        for span in seen.spans
        if span.kind is SpanKind.SERVER
    }
    assert (response.status_code, status) == (
        502,
        {"POST /verify": 200, "POST /charge": 503, "POST /orders": 502},
    )
    assert _failed_events(seen)[0] == (
        "POST /charge",
        "the payment provider must take the charge, got 503 Service Unavailable.",
    )


def test_a_payment_that_is_slow_makes_the_order_as_slow(tmp_path):
    """It waits, and then succeeds."""
    with capture() as seen:
        response = _order_in(Street(tmp_path / "orders.db", PAYMENT_SLOW))

    lasted = {span.name: (span.end_time - span.start_time) / 1e9 for span in seen.spans}
    assert (response.status_code, lasted["POST /charge"] > 2.5, lasted["POST /orders"] > 2.5) == (
        201,
        True,
        True,
    )


def test_a_locked_database_fails_the_order_after_it_waited(tmp_path):
    """With SQLite's own words, on the span of the database and in the answer of who has it."""
    database = tmp_path / "orders.db"
    street = Street(database)
    with capture() as seen, closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        response = _order_in(street)

    (span,) = [span for span in seen.spans if span.name == DATABASE]
    assert (response.status_code, span.attributes["error.type"]) == (502, "sqlite3.OperationalError")
    assert ("POST /orders", "database is locked") in _failed_events(seen)
    assert (span.end_time - span.start_time) / 1e9 > 2.5


def test_an_order_goes_on_without_its_confirmation(tmp_path):
    """The customer has it, and the log says that nobody was told."""
    street = Street(tmp_path / "orders.db")
    street.forget(NOTIFICATION)
    with capture() as seen:
        response = _order_in(street)

    said = [record.log_record.body for record in seen.logs]
    assert (response.status_code, "confirmation_not_sent" in said) == (201, True)


def test_the_database_is_timed_when_it_fails_too(tmp_path):
    """By what failed, as the semantic conventions name it."""
    database = tmp_path / "orders.db"
    street = Street(database)
    with capture() as seen:
        _order_in(street)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DROP TABLE orders")
        _order_in(street)

    timed = seen.measured("db.client.operation.duration")
    assert [(each.attributes["db.system.name"], each.attributes.get("error.type")) for each in timed] == [
        ("sqlite", None),
        ("sqlite", "sqlite3.OperationalError"),
    ]
