"""Each twin in C says the same as its twin in Python, of all that there is."""

import logging
import math
import string
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercet.emit import correlation, distributions, exchange, headers, records, tracecontext
from tercet.export import attributes, encode, text, wire
from tercet.fast import stand_in

pytestmark = pytest.mark.skipif(not stand_in.is_compiled(), reason="There is no compiler here.")

TEXTS = st.text(st.characters(codec=None), max_size=20)  # lone surrogates too
NUMBERS = st.integers(-(2**64), 2**64)
FLOATS = st.floats()


class Text(str):
    """A text of another type."""


class Number(int):
    """A number of another type."""


SCALARS = st.one_of(
    TEXTS, NUMBERS, FLOATS, st.booleans(), st.none(), st.builds(Text, TEXTS), st.builds(Number)
)
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=2) | st.dictionaries(TEXTS, each, max_size=2), max_leaves=3
)
FIELDS = st.dictionaries(TEXTS, VALUES, max_size=5)
UNSIGNED = st.none() | st.integers(-1, 2**64)


def same(name, *arguments):
    """Ask both twins; what they return, or the kind of error they raise, must be the same."""

    def asked(function):
        try:
            answer = function(*arguments)
        except Exception as error:
            return type(error)
        return type(answer), repr(answer)

    in_c, in_python = asked(getattr(stand_in.twins, name)), asked(stand_in.in_python[name])
    assert in_c == in_python
    return in_c


@given(
    st.floats(-(2**40), 2**40) | st.sampled_from([0.5e-6, 1.5e-6, 253402300799.0, math.nan, math.inf, 7]),
    st.tuples(*[TEXTS | st.none()] * 4),
    st.tuples(*[st.text(string.hexdigits, max_size=32)] * 2, TEXTS),
    FIELDS,
)
@example(
    1764355200.0000005, ("INFO", "shop", 'a "b"\\\n\x00\x7f\U0001f600é', "orders"), ("", "", ""), {"ä": -0.0}
)
def test_a_line_is_the_same(seconds, who, ids, own):
    """Also of texts that must be escaped, and of times at the edge of a microsecond."""
    same("json_line", (seconds, *who, *ids), own)


@given(
    st.tuples(
        UNSIGNED,
        UNSIGNED,
        st.tuples(
            st.none() | st.integers(-1, 2**128),
            UNSIGNED,
            st.booleans(),
            st.none() | st.integers(-1, 2**32) | st.builds(Number, st.integers(0, 255)),
        ),
        st.tuples(st.integers(0, 24), st.none() | TEXTS),
        VALUES,
        st.none() | FIELDS,
    )
)
def test_a_log_record_is_the_same(record):
    """Byte for byte."""
    same("encode_log_fields", *record)


@given(VALUES, st.sampled_from([(), None, ("three",), [], {}, ""]), FIELDS, st.booleans())
@example("%d items", ("three",), {}, False)
@example("paid", None, {"order": 1}, False)
def test_what_a_record_says_is_the_same(message, arguments, fields, is_failing):
    """Whatever its caller has added, and whatever it says."""
    cause = (ValueError, ValueError("no"), None) if is_failing else None
    record = logging.LogRecord("shop", logging.INFO, "shop.py", 1, message, (), cause)
    record.args = arguments
    vars(record).update({**fields, "_tercet_taken": True})
    same("said_by", record)


def test_a_record_that_was_made_otherwise_has_the_same_fields():
    """As by those that unpickle records: their order is another one."""
    state = dict(reversed(vars(logging.makeLogRecord({"msg": "a", "mine": 1})).items()))
    record = logging.makeLogRecord({})
    vars(record).clear()
    vars(record).update(state)
    assert same("said_by", record) == (tuple, "('a', {'mine': 1})")


class Record(logging.LogRecord):
    """One that answers otherwise than its `__dict__` says."""

    exc_text = property(lambda self: "from elsewhere", lambda self, value: None)


class Key:
    """A key that has a text's hash, and raises when it is compared."""

    def __hash__(self):
        return hash("_tercet_fields")

    def __eq__(self, other):
        raise ZeroDivisionError


class State(dict):
    """The state of a record that somebody has exchanged."""

    def __getitem__(self, name):
        return "computed"


def test_a_record_of_another_state_has_the_same_fields():
    """Its dictionary may compute what it says, too."""
    record = logging.makeLogRecord({"msg": "paid", "mine": 1})
    record.__dict__ = State(vars(record))
    assert same("said_by", record) == (tuple, "('paid', {'mine': 'computed'})")


class Replacing(str):
    """A key that has a text's hash, and takes itself and the message away when it is compared."""

    def __new__(cls, record):
        key = super().__new__(cls, "mine")
        key.record = record
        return key

    def __hash__(self):
        return hash("_tercet_fields")

    def __eq__(self, other):
        self.record.msg = None
        vars(self.record).pop(self, None)
        return False


def test_a_message_that_is_taken_away_meanwhile_is_whole():
    """Nobody else holds it by the time it is returned."""
    record = logging.makeLogRecord({"msg": "".join(["pa", "id"])})
    vars(record)[Replacing(record)] = 1
    assert stand_in.twins.said_by(record) == ("paid", {})


@pytest.mark.parametrize("kind", [logging.LogRecord, Record])
@pytest.mark.parametrize(
    "extra", [{}, {"_tercet_fields": None}, {"_tercet_fields": {"a": 1}}, {Key(): 1}], ids=repr
)
def test_a_record_of_another_kind_has_the_same_fields(kind, extra):
    """Its class may compute what it says; and what it holds may be hostile."""
    record = kind("shop", logging.INFO, "shop.py", 1, "paid", (), None)
    vars(record).update({"mine": 1, **extra})
    same("said_by", record)


@given(FIELDS | st.dictionaries(st.integers() | st.builds(Text), SCALARS, max_size=2))
def test_what_is_simple_is_the_same(fields):
    """For both."""
    same("is_simple", fields)


PARTS = st.tuples(
    st.sampled_from(["00", "01", "ff", "0", "0g"]),
    st.text("0123456789abcdefABC", min_size=31, max_size=33) | st.just("0" * 32) | st.just("a" * 32),
    st.just("0" * 16) | st.just("b" * 16) | st.text("0123456789abcdef", min_size=16, max_size=16),
    st.sampled_from(["00", "01", "03", "ff", "0", "01-more", "01 "]),
)


@given(st.lists(PARTS.map("-".join) | TEXTS, max_size=2) | TEXTS.map(lambda text: [text, 1]))
def test_the_callers_ids_are_the_same(headers):
    """However much they break the rules."""
    same("parse_traceparent", headers)


NAMES = st.binary(max_size=16) | st.sampled_from(
    [b"x-trace-id", b"X-Correlation-ID", b"TraceResponse", b"set-cookie"]
)


IDS = st.tuples(
    st.integers(-1, 2**128),
    st.integers(-1, 2**64),
    st.booleans(),
    st.integers(-1, 256),
    st.none(),
    st.booleans(),
)
CARRIED = TEXTS | st.text(string.ascii_letters, min_size=1) | st.none() | st.builds(Text, TEXTS) | st.just(7)


@given(IDS | st.tuples(st.integers(), st.text()), CARRIED)
@example((2**127, 2**63, True, 1, None, True), None)
@example((0, 0, False, 0, None, False), "mine")
def test_ids_are_shown_alike(ids, carried):
    """Also those that are out of range."""
    same("shown_ids", ids, carried)


@given(
    st.lists(st.tuples(NAMES | NAMES.map(bytearray), st.binary()) | st.lists(NAMES, max_size=3), max_size=3),
    IDS,
    CARRIED,
)
@example([(b"content-length", b"2")], (1, 2, True, 3, None, True), "")
@example([(b"traceresponse", b"")], (1, 2, True, 3, None, True), "mine")
@example(((b"date", b""),), (2**127, 2**63, True, 1, None, True), "mine")
def test_the_headers_of_a_response_are_the_same(given_by_the_application, ids, carried):
    """With an id that was carried, or without; and whatever else the response bears."""
    same("id_headers", given_by_the_application, ids, carried)


@given(
    st.lists(st.tuples(NAMES | NAMES.map(bytearray), st.binary()) | st.lists(NAMES, max_size=3), max_size=3)
)
@example([(b"host", b"shop"), (b"accept", b"*/*")])
@example([(b"baggage", b"a=1"), (b"baggage", b"b=2")])
@example([])
def test_the_headers_of_a_request_are_the_same(came_with_it):
    """By name, in the order they came; repeated ones, and those that are no headers at all."""
    same("by_name", came_with_it)


MEASURED = FLOATS | st.integers() | st.sampled_from([0.5, 1, 10.0, 2**53, True, "much"])
BOUNDS = (
    st.lists(st.floats(allow_nan=False) | st.integers(-(2**60), 2**60), max_size=4).map(sorted).map(tuple)
)
EMPTY = [0, math.inf, -math.inf, *[0] * 5]


def doubles(numbers):
    """What stands in shared memory."""
    return memoryview(array("d", numbers))


@given(MEASURED, BOUNDS, st.lists(MEASURED, max_size=9) | st.sampled_from([EMPTY, [*map(float, EMPTY)]]))
@example(0.5, (0.25, 0.5, 1), EMPTY)
@example(0.5, (0.25,), [0.5, 0.5, 0.5, 0, 2**63 - 1])
def test_a_measurement_is_sorted_in_alike(value, bounds, numbers):
    """Into the same bucket, and what the histogram says then is the same."""
    assert sorted_in(stand_in.twins.sort_in, value, bounds, [*numbers]) == sorted_in(
        stand_in.in_python["sort_in"], value, bounds, [*numbers]
    )


@given(MEASURED, BOUNDS, st.lists(FLOATS, max_size=9) | st.just(EMPTY))
def test_a_measurement_is_sorted_alike_into_shared_memory(value, bounds, numbers):
    """The same; also into some that nobody may write to, that are not floats, or that are gone."""
    gone = doubles(numbers)
    gone.release()
    kinds = (doubles, array_of_doubles, unwritable, every_second, lambda _: gone)
    for kind in kinds:
        assert sorted_in(stand_in.twins.sort_in, value, bounds, kind(numbers)) == sorted_in(
            stand_in.in_python["sort_in"], value, bounds, kind(numbers)
        )


def array_of_doubles(numbers):
    """The same without a view."""
    return array("d", numbers)


def unwritable(numbers):
    """A view that can only be read."""
    return doubles(numbers).toreadonly()


def every_second(numbers):
    """A view with gaps."""
    return doubles([*numbers, *numbers])[::2]


def sorted_in(sort_in, value, bounds, numbers):
    """Say which bucket it is, or what is wrong, and what the numbers are then."""
    try:
        bucket = sort_in(value, bounds, numbers)
    except (IndexError, TypeError, ValueError) as error:
        bucket = type(error)
    try:
        return bucket, repr(list(numbers))
    except ValueError:
        return bucket, "gone"


@given(
    st.binary(max_size=3), st.lists(st.binary(max_size=300) | st.builds(bytearray, st.binary()), max_size=4)
)
@example(b"\x12", [b"x" * 127, b"", b"x" * 20_000])
def test_bodies_in_fields_of_their_own_are_the_same(tag, bodies):
    """Of any length."""
    same("delimited_each", tag, bodies)


def test_each_interpreter_has_its_own(monkeypatch):
    """As those of mod_wsgi, in one process: what one leaves to Python, none of the others answers."""
    interpreters = pytest.importorskip("_xxsubinterpreters", reason="Later Pythons call it otherwise.")
    other = interpreters.create(isolated=False)
    interpreters.run_string(other, "import tercet.emit.records")
    monkeypatch.setattr(records, "plain", lambda value: "from here")
    record = logging.makeLogRecord({"msg": "paid", "mine": [1]})
    assert records.said_by(record) == ("paid", {"mine": "from here"})
    interpreters.destroy(other)


def test_each_is_in_use():
    """Where a twin is there, it stands in."""
    users = (exchange.id_headers, records.said_by, tracecontext.parse_traceparent, correlation.shown_ids)
    users += (attributes.is_simple, encode.encode_log_fields, text.json_line)
    users += (headers.by_name, wire.delimited_each, distributions.sort_in)
    assert {user.__name__ for user in users} == set(stand_in.in_python)
    assert all(user is getattr(stand_in.twins, user.__name__) for user in users)
