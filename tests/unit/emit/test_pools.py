"""Pools of connections, of each library that has them."""

import asyncio
import os
import threading

import pytest
from measured import collected
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tercet.emit import pools


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    return MeterProvider([reader]).get_meter("test")


@pytest.fixture
def observed(meter, monkeypatch):
    """Measure every pool with this test's meter."""
    from tercet.declare.usage import POOLS
    from tercet.emit.snapshot import Snapshot

    found = pools.Pools(meter)
    Snapshot(meter, POOLS, found.readings)
    monkeypatch.setattr(pools, "_installed", found)
    return found


@pytest.fixture
def sqlalchemy(observed, meter):
    module = pytest.importorskip("sqlalchemy")
    pytest.importorskip("sqlite3")
    from tercet.emit import sqlalchemy

    sqlalchemy.attach(module, meter)
    return module


@pytest.fixture
def engine(sqlalchemy, tmp_path):
    found = sqlalchemy.create_engine(
        f"sqlite:///{tmp_path}/shop.db",
        poolclass=sqlalchemy.pool.QueuePool,
        pool_size=1,
        max_overflow=1,
        pool_timeout=0.05,
    )
    yield found
    found.dispose()


def test_a_pool_of_sqlalchemy_tells_what_it_holds(engine, reader):
    """By state, under a name that leads to the database."""
    with engine.connect(), engine.connect():
        used = collected(reader)["db.client.connections"]
    idle = collected(reader)
    (name,) = {key[0] for key in used}
    assert name.endswith("shop.db")
    assert used == {(name, "idle"): 0, (name, "used"): 2}
    assert idle["db.client.connections"] == {(name, "idle"): 1, (name, "used"): 0}
    assert idle["db.client.connection.max"] == {(name,): 2}
    assert idle["db.client.connection.wait_time"] == {(name,): 2}


def test_a_request_in_vain_is_a_timeout_and_has_waited(engine, sqlalchemy, reader):
    """Of the pool's own kind, not the database's."""
    with engine.connect(), engine.connect(), pytest.raises(sqlalchemy.exc.TimeoutError):
        engine.connect()
    found = collected(reader)
    assert list(found["db.client.connection.timeouts"].values()) == [1]
    assert list(found["db.client.connection.wait_time"].values()) == [3]
    assert list(found["db.client.connection.pending_requests"].values()) == [0]


def test_who_waits_is_pending(engine, reader):
    """While it waits."""
    pending = []

    def look():
        pending.extend(collected(reader)["db.client.connection.pending_requests"].values())

    with engine.connect(), engine.connect():
        engine.pool._timeout = 30
        thread = threading.Thread(target=lambda: engine.connect().close())
        thread.start()
        while pending[-1:] != [1]:
            look()
    thread.join(30)
    look()
    assert pending[-1] == 0


def test_a_name_tells_no_secrets(sqlalchemy):
    """Host, port and database, or what its user called it."""
    from tercet.emit.sqlalchemy import _name

    class Named:
        logging_name = "orders"

    class Engine:
        url = sqlalchemy.engine.make_url("postgresql://me:secret@db:5432/shop")

    class Pool:
        logging_name = None

        class _dialect:  # noqa: N801 - SQLAlchemy's name
            name = "postgresql"

    from tercet.emit.sqlalchemy import _engines

    pool, engine = Pool(), Engine()
    assert (_name(Named()), _name(pool)) == ("orders", "postgresql")
    engine.pool = pool
    _engines.add(engine)
    assert _name(pool) == "db:5432/shop"
    Engine.url = sqlalchemy.engine.make_url("sqlite://")
    assert _name(pool) == "sqlite"


def test_a_pool_that_keeps_no_count_is_waited_for_all_the_same(sqlalchemy, reader, tmp_path):
    """Such as one that opens a connection for each."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db", poolclass=sqlalchemy.pool.NullPool)
    engine.connect().close()
    found = collected(reader)
    assert "db.client.connections" not in found
    assert list(found["db.client.connection.wait_time"].values()) == [1]


def test_a_connection_that_cannot_be_made_is_no_timeout(sqlalchemy, reader, tmp_path):
    """It was refused, and waited for nothing."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/nowhere/a.db")
    with pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    found = collected(reader)
    assert "db.client.connection.wait_time" not in found
    assert list(found["db.client.connection.timeouts"].values()) == [0]


def test_a_pool_that_is_gone_is_told_no_longer(sqlalchemy, reader, tmp_path):
    """Nor are its engine and its connections kept."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db")
    engine.connect().close()
    engine.dispose()
    del engine
    import gc

    gc.collect()
    assert "db.client.connection.pending_requests" not in collected(reader)


def test_without_anybody_to_measure_a_pool_works_as_before(engine, monkeypatch):
    """As when telemetry is off."""
    monkeypatch.setattr(pools, "_installed", None)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("select 1").scalar() == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nobody_waits_in_a_forked_child(engine, observed):
    """Its parent's threads are not there."""
    engine.connect().close()
    with observed.waiting(engine.pool, None):
        child = os.fork()
        if child == 0:
            pending = [number for metric, _, number in observed.readings() if "pending" in metric.name]
            os._exit(0 if pending == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def psycopg_pool(observed, meter):
    try:
        import psycopg_pool
    except ImportError:  # also where it is there, and its library is not
        pytest.skip("psycopg_pool cannot be imported.")
    from tercet.emit import psycopg

    psycopg.attach(psycopg_pool, meter)
    return psycopg_pool


def test_a_pool_of_psycopg_that_finds_no_server_times_out(psycopg_pool, reader):
    """Under its own name."""
    pool = psycopg_pool.ConnectionPool(
        "host=127.0.0.1 port=1 connect_timeout=1", min_size=0, max_size=3, open=True, name="orders"
    )
    with pytest.raises(psycopg_pool.PoolTimeout):
        pool.getconn(timeout=0.05)
    found = collected(reader)
    pool.close()
    assert found["db.client.connection.max"] == {("orders",): 3}
    assert found["db.client.connection.timeouts"] == {("orders",): 1}
    assert found["db.client.connection.wait_time"] == {("orders",): 1}
    assert set(found["db.client.connections"]) == {("orders", "idle"), ("orders", "used")}


@pytest.fixture
def redis(observed, meter):
    module = pytest.importorskip("redis")
    from redis import asyncio as redis_asyncio

    from tercet.emit import redis

    redis.attach(module.connection, meter)
    redis.attach(redis_asyncio.connection, meter)
    return module


@pytest.fixture
def no_server(redis, monkeypatch):
    """Connections that reach nobody, and do not mind."""
    for owner in (redis.connection.Connection,):
        monkeypatch.setattr(owner, "connect", lambda self: None)
        monkeypatch.setattr(owner, "can_read", lambda self, timeout=0: False)

    async def connected(self, *args):
        return None

    monkeypatch.setattr(redis.asyncio.connection.ConnectionPool, "ensure_connection", connected)


def test_a_pool_of_redis_tells_what_it_holds(redis, no_server, reader):
    """By state, under where it leads to."""
    pool = redis.ConnectionPool(host="cache", port=1, db=2, max_connections=2)
    first, second = pool.get_connection(), pool.get_connection()
    pool.release(second)
    found = collected(reader)
    assert found["db.client.connections"] == {("cache:1/2", "idle"): 1, ("cache:1/2", "used"): 1}
    assert found["db.client.connection.max"] == {("cache:1/2",): 2}
    pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        pool.get_connection()
    found = collected(reader)
    assert found["db.client.connection.timeouts"] == {("cache:1/2",): 1}
    assert found["db.client.connection.wait_time"] == {("cache:1/2",): 4}
    assert first is not None


def test_a_blocking_pool_of_redis_is_waited_for(redis, no_server, reader):
    """In vain, here."""
    pool = redis.BlockingConnectionPool(host="cache", max_connections=1, timeout=0.01)
    pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        pool.get_connection()
    found = collected(reader)
    assert found["db.client.connections"] == {("cache:6379/0", "idle"): 0, ("cache:6379/0", "used"): 1}
    assert found["db.client.connection.timeouts"] == {("cache:6379/0",): 1}
    assert found["db.client.connection.wait_time"] == {("cache:6379/0",): 2}


@pytest.mark.parametrize("kind", ["ConnectionPool", "BlockingConnectionPool"])
def test_a_pool_of_asynchronous_redis_is_measured_once(kind, redis, no_server, reader):
    """Also where a class asks its own base class."""

    async def serve():
        pool = getattr(redis.asyncio, kind)(host="cache", max_connections=1)
        connection = await pool.get_connection()
        return collected(reader), connection, pool

    found, *_ = asyncio.run(serve())
    assert found["db.client.connections"] == {("cache:6379/0", "idle"): 0, ("cache:6379/0", "used"): 1}
    assert found["db.client.connection.wait_time"] == {("cache:6379/0",): 1}


def test_a_class_that_asks_its_base_class_waits_once(observed, reader):
    """One request is one wait."""

    class Base:
        def get(self):
            return 1

    class Derived(Base):
        def get(self):
            return super().get()

    kind = pools.Kind(lambda pool: "it", lambda pool: pools.Held(0, 0, None), lambda error: False)
    for owner in (Base, Derived, Derived):
        pools.hook(owner, "get", kind)
    pools.hook(Derived, "absent", kind)
    it = Derived()
    assert it.get() == 1
    assert collected(reader)["db.client.connection.wait_time"] == {("it",): 1}


def test_a_library_that_has_changed_is_told_without_what_it_holds(observed, reader):
    """Its inside is its own business."""
    kind = pools.Kind(lambda pool: "it", lambda pool: pool.no_such_thing, lambda error: False)

    class Pool:
        def get(self):
            return 1

    pools.hook(Pool, "get", kind)
    it = Pool()
    it.get()
    found = collected(reader)
    assert "db.client.connections" not in found
    assert found["db.client.connection.pending_requests"] == {("it",): 0}


def test_pools_are_set_up_once(meter, observed):
    """By whichever library comes first."""
    pools.setup(meter)
    assert pools.installed() is observed
    pools.install(None)
    pools.setup(meter)
    assert pools.installed() is not observed


def test_a_pool_that_has_no_name_gives_its_connections_all_the_same(observed, reader):
    """Telemetry is no reason to fail."""

    class Pool:
        def get(self):
            return 1

    pools.hook(
        Pool, "get", pools.Kind(lambda pool: pool.no_such_thing, lambda pool: None, lambda error: False)
    )
    assert Pool().get() == 1
    assert collected(reader) == {}
