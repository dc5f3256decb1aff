"""`@observed`: a span and RED metrics around every kind of function."""

import asyncio
import os

import pytest
from opentelemetry import trace

from tercet import observed
from tercet.testing import span_tree


def durations(seen, name):
    """How often each outcome of an operation was measured, by the kind of error."""
    return {
        each.attributes.get("error.type"): each.count
        for each in seen.measured("tercet.operation.duration")
        if each.attributes["operation"] == name
    }


def active(seen, name):
    """How many of an operation are going on."""
    found = [e.value for e in seen.measured("tercet.operation.active") if e.attributes["operation"] == name]
    return sum(found)


def test_a_function_has_a_span_and_is_counted(seen):
    """Named as told; what goes on is counted while it does."""

    @observed("place order", channel="web")
    def place(fails=False):
        assert active(seen, "place order") == 1
        if fails:
            raise KeyError("no such thing")
        return "placed"

    assert place() == "placed"
    with pytest.raises(KeyError):
        place(fails=True)
    assert span_tree(seen.spans) == "place order\nplace order"
    assert seen.spans[1].attributes["error.type"] == "KeyError"
    assert durations(seen, "place order") == {None: 1, "KeyError": 1}
    assert active(seen, "place order") == 0
    mine = [
        e for e in seen.measured("tercet.operation.duration") if e.attributes["operation"] == "place order"
    ]
    assert {each.attributes["channel"] for each in mine} == {"web"}


def test_every_kind_of_function_is_observed(seen):
    """Coroutines, generators of both kinds, methods, and objects that can be called."""

    class Handler:
        @observed("method")
        def method(self):
            return 1

        @classmethod
        @observed("class method")
        def of_class(cls):
            return 2

        @observed("static method")
        @staticmethod
        def of_none():
            return 3

        async def __call__(self, message):
            return trace.get_current_span().name, message

    @observed("coroutine")
    async def work():
        await asyncio.sleep(0)
        return 4

    @observed("generator")
    def numbers():
        yield 5

    @observed("asynchronous generator")
    async def later():
        yield 6

    async def everything():
        handled = await observed("handler")(Handler())("hello")
        return [await work(), *numbers(), *[item async for item in later()], handled]

    assert asyncio.run(everything()) == [4, 5, 6, ("handler", "hello")]
    assert [Handler().method(), Handler.of_class(), Handler.of_none()] == [1, 2, 3]
    names = [span.name for span in seen.spans]
    assert sorted(names) == sorted(
        [
            "coroutine",
            "generator",
            "asynchronous generator",
            "handler",
            "method",
            "class method",
            "static method",
        ]
    )
    assert [durations(seen, name) for name in names] == [{None: 1}] * 7


def test_it_needs_no_name(seen):
    """The function has one."""

    @observed
    def charge():
        return trace.get_current_span().name

    assert charge() == "test_it_needs_no_name.charge"


def test_a_generator_that_is_left_early_is_no_error(seen):
    """Nor does it go on for ever."""

    @observed("endless")
    def endless():
        while True:
            yield 1

    for _ in endless():
        break
    assert (durations(seen, "endless"), active(seen, "endless")) == ({None: 1}, 0)


def test_a_cancelled_coroutine_is_counted_as_such(seen):
    """Who asks for errors can leave them out."""

    @observed("patient")
    async def wait():
        await asyncio.Event().wait()

    async def cancel():
        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert durations(seen, "patient") == {"asyncio.exceptions.CancelledError": 1}


def test_the_duration_leads_to_the_trace(seen):
    """Its exemplar is the span's."""
    from tercet.emit.observed import _DURATIONS

    @observed("traced job")
    def job():
        return trace.get_current_span().get_span_context().trace_id

    trace_id = job()
    exemplars = [
        exemplar[2]
        for attributes, cell in _DURATIONS.collect(0)
        if attributes.get("operation") == "traced job"
        for exemplar in cell.exemplars
        if exemplar is not None
    ]
    assert exemplars == [trace_id]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_forked_within_is_not_below_zero(seen):
    """It ends what its parent has begun."""
    from tercet.emit.observed import _ACTIVE

    @observed("forking")
    def fork():
        return os.fork()

    child = fork()
    if child == 0:
        (count,) = [cell.value for a, cell in _ACTIVE.collect(0) if a.get("operation") == "forking"]
        os._exit(0 if count == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert active(seen, "forking") == 0
