"""`@traced`: one span around every kind of function, and nothing changed for its caller."""

import asyncio
import functools
import gc
import inspect
import logging

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.trace import StatusCode

from tercet.emit.traces import record_error, traced
from tercet.testing import span_tree


@pytest.fixture(autouse=True)
def _no_context_is_lost(caplog):
    """No test may leave a context behind, nor fail to take one back."""
    before = get_current()
    yield
    gc.collect()
    assert get_current() is before
    assert "Failed to detach context" not in caplog.text


def here():
    """Name the current span."""
    return getattr(trace.get_current_span(), "name", None)


def error_of(span):
    """Draw what a span says about its error."""
    events = [event.attributes["exception.type"] for event in span.events]
    return (span.status.status_code, span.status.description, span.attributes.get("error.type"), events)


def test_a_function_is_a_span_with_a_name_and_attributes(seen):
    """Named by its qualified name, or as told."""

    @traced
    def charge(amount, *, currency="EUR"):
        """Charge."""
        assert here() == "test_a_function_is_a_span_with_a_name_and_attributes.charge"
        return amount, currency

    @traced("place order", channel="web")
    def place():
        return charge(1, currency="USD")

    assert place() == (1, "USD")
    assert span_tree(seen.spans) == (
        "place order\n  test_a_function_is_a_span_with_a_name_and_attributes.charge"
    )
    assert seen.spans[1].attributes["channel"] == "web"
    assert (charge.__name__, charge.__doc__, charge.__wrapped__.__name__) == ("charge", "Charge.", "charge")


def test_attributes_need_no_name(seen):
    """`@traced(kind=...)` keeps the function's own name."""

    @traced(kind="batch")
    def run():
        return here()

    assert run() == "test_attributes_need_no_name.run"
    assert seen.spans[0].attributes["kind"] == "batch"


class Till:
    @traced
    def method(self):
        return self, here()

    @traced
    @staticmethod
    def static_below(value):
        return value, here()

    @staticmethod
    @traced
    def static_above(value):
        return value, here()

    @traced
    @classmethod
    def class_below(cls):
        return cls, here()

    @traced
    @staticmethod
    async def static_coroutine():
        return here()


def test_methods_of_every_kind_are_spans(seen):
    """Also where `@traced` stands above `@staticmethod`."""
    till = Till()
    assert till.method() == (till, "Till.method")
    assert till.static_below(1) == Till.static_below(1) == (1, "Till.static_below")
    assert till.static_above(1) == (1, "Till.static_above")
    assert till.class_below() == Till.class_below() == (Till, "Till.class_below")
    assert asyncio.run(till.static_coroutine()) == "Till.static_coroutine"


def test_what_has_no_name_is_named_by_its_kind(seen):
    """A partial function has none of its own."""
    assert traced(functools.partial(here))() == "partial"


@pytest.mark.parametrize("kind", ["function", "coroutine", "generator", "async generator"])
def test_an_error_is_recorded_and_raised_on(kind, seen):
    """Type, message, stack and status, whatever the function is."""

    @traced("work")
    def function():
        raise KeyError("card")

    @traced("work")
    async def coroutine():
        raise KeyError("card")

    @traced("work")
    def generator():
        yield
        raise KeyError("card")

    @traced("work")
    async def async_generator():
        yield
        raise KeyError("card")

    async def drain():
        return [item async for item in async_generator()]

    run = {
        "function": function,
        "coroutine": lambda: asyncio.run(coroutine()),
        "generator": lambda: list(generator()),
        "async generator": lambda: asyncio.run(drain()),
    }[kind]
    with pytest.raises(KeyError, match="card"):
        run()
    (span,) = seen.spans
    assert error_of(span) == (StatusCode.ERROR, "KeyError: 'card'", "KeyError", ["KeyError"])
    assert 'raise KeyError("card")' in span.events[0].attributes["exception.stacktrace"]
    assert span.events[0].attributes["exception.message"] == "'card'"


def test_an_error_that_cannot_speak_hides_nothing(seen):
    """The caller gets the application's exception, never one of telemetry."""

    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    @traced("work")
    def work():
        raise MuteError

    with pytest.raises(MuteError):
        work()
    assert seen.spans[0].status.description == "MuteError"


def test_a_span_that_nobody_records_takes_errors():
    """Without a setup there is nothing to write on."""
    record_error(trace.INVALID_SPAN, ValueError("x"))


def test_a_cancelled_coroutine_is_an_error_of_its_span(seen):
    """And it stays cancelled."""

    async def main():
        started = asyncio.Event()

        @traced("wait")
        async def wait():
            started.set()
            await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(wait())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    cancelled = "asyncio.exceptions.CancelledError"
    assert error_of(seen.spans[0])[2:] == (cancelled, [cancelled])


def test_a_coroutine_that_is_thrown_away_ends_its_span_quietly(seen):
    """It is closed outside of its task, in a context that is not its own."""

    @traced("wait")
    async def wait():
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()

    async def main():
        task = loop.create_task(wait())
        task._log_destroy_pending = False
        await asyncio.sleep(0)
        return task.get_coro()

    coroutine = loop.run_until_complete(main())
    loop.close()
    coroutine.close()
    assert error_of(seen.spans[0])[0] is StatusCode.UNSET


def test_a_coroutine_closed_where_it_ran_gives_its_context_back(seen):
    """Driving it by hand is allowed."""

    class Pause:
        def __await__(self):
            yield

    @traced("wait")
    async def wait():
        await Pause()

    coroutine = wait()
    coroutine.send(None)
    assert here() == "wait"  # a coroutine runs in the context of who drives it
    coroutine.close()
    assert here() is None
    assert span_tree(seen.spans) == "wait"


@traced("rows")
def rows(log):
    """Say what is sent and thrown in, and where it runs."""
    log.append(here())
    try:
        got = None
        while got != "stop":
            try:
                got = yield got
            except LookupError as error:
                got = f"caught {error}"
            log.append(here())
    finally:
        log.append(f"end in {here()}")
    return "result"


def test_a_generator_is_current_only_while_it_runs(seen):
    """Its consumer never sees its span, whatever it sends or throws."""
    log = []
    consumer = rows(log)
    assert (next(consumer), here()) == (None, None)
    assert (consumer.send("a"), here()) == ("a", None)
    assert (consumer.throw(LookupError("b")), here()) == ("caught b", None)
    with pytest.raises(StopIteration) as stop:
        consumer.send("stop")
    assert stop.value.value == "result"
    assert log == ["rows"] * 4 + ["end in rows"]
    assert error_of(seen.spans[0])[0] is StatusCode.UNSET


@pytest.mark.parametrize("leave", ["close", "break", "drop"])
def test_a_consumer_that_stops_early_ends_the_span_without_an_error(leave, seen):
    """Closed, left or forgotten: the body is closed in its own context."""
    log = []
    consumer = rows(log)
    for _ in consumer:
        break
    if leave == "close":
        consumer.close()
    del consumer
    gc.collect()
    assert log == ["rows", "end in rows"]
    assert [error_of(span)[0] for span in seen.spans] == [StatusCode.UNSET]


def test_a_generator_delegates():
    """`yield from` gets its result."""

    def outer():
        return (yield from rows([]))

    consumer = outer()
    next(consumer)
    with pytest.raises(StopIteration) as stop:
        consumer.send("stop")
    assert stop.value.value == "result"


def test_a_generator_keeps_the_spans_it_opens_over_a_yield(seen):
    """What is open inside is still the parent after the consumer had its turn."""

    @traced("outer")
    def outer():
        with trace.get_tracer("t").start_as_current_span("inner"):
            yield
            with trace.get_tracer("t").start_as_current_span("child"):
                yield
        assert here() == "outer"

    for _ in outer():
        assert here() is None
    assert span_tree(seen.spans) == "outer\n  inner\n    child"


def test_two_generators_in_step_do_not_mix(seen):
    """Each has its own context, in any order of turns."""
    one, two = [], []
    for _ in zip(rows(one), rows(two), range(3), strict=False):
        assert here() is None
    assert set(one) == set(two) == {"rows", "end in rows"}


def test_an_asynchronous_generator_is_current_only_while_it_runs(seen):
    """As its plain sister; send, throw, close and early leaving."""
    log, ended = [], asyncio.Event()

    @traced("stream")
    async def stream():
        got = None
        try:
            while True:
                await asyncio.sleep(0)
                log.append(here())
                try:
                    got = yield got
                except LookupError as error:
                    got = f"caught {error}"
        finally:
            await asyncio.sleep(0)
            log.append(f"end in {here()}")
            ended.set()

    async def main():
        consumer = stream()
        assert await anext(consumer) is None
        assert here() is None
        assert await consumer.asend("a") == "a"
        assert await consumer.athrow(LookupError("b")) == "caught b"
        assert here() is None
        await consumer.aclose()
        ended.clear()
        async for _ in stream():
            assert here() is None
            break
        await ended.wait()

    asyncio.run(main())
    assert log == ["stream"] * 3 + ["end in stream", "stream", "end in stream"]
    assert [error_of(span)[0] for span in seen.spans] == [StatusCode.UNSET] * 2


def test_an_asynchronous_generator_ends(seen):
    """Exhausted, it is a span like any other."""

    @traced("stream")
    async def stream():
        for number in range(3):
            yield number

    async def main():
        return [number async for number in stream()]

    assert asyncio.run(main()) == [0, 1, 2]
    assert span_tree(seen.spans) == "stream"


def test_the_kind_of_a_function_stays_visible():
    """Frameworks look at it to decide how to call."""

    @traced
    async def coroutine(): ...

    @traced
    def generator():
        yield

    @traced
    async def async_generator():
        yield

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert str(inspect.signature(traced(lambda a, *, b=1: a))) == "(a, *, b=1)"


def test_logs_inside_belong_to_the_span(seen):
    """One trace id in both."""

    @traced("work")
    def work():
        logging.getLogger("orders").info("working")

    work()
    assert seen.logs[0].log_record.trace_id == seen.spans[0].context.trace_id
    assert seen.logs[0].log_record.span_id == seen.spans[0].context.span_id
