"""Text to value: what each parser takes, and what it says about the rest."""

import contextlib
import math
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.declare import parse

share = parse.number(0, 1, "Write 0.1.")
port = parse.whole(0, 65_535, "Write 9464.")
PARSERS = [
    parse.text,
    parse.boolean,
    share,
    port,
    parse.optional(parse.endpoint),
    parse.choice("json", "text"),
    parse.words,
    parse.pairs,
    parse.headers,
    parse.level,
    parse.levels,
    parse.buckets,
    parse.endpoint,
]
ANYTHING = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.none(),
    st.binary(),
    st.lists(st.one_of(st.text(), st.integers(), st.floats())),
    st.dictionaries(st.text(), st.text()),
    st.just(10**400),
    st.just(object()),
)


@pytest.mark.parametrize(
    ("parser", "given", "expected"),
    [
        (parse.text, "  two words ", "two words"),
        (parse.boolean, True, True),
        (parse.boolean, "yes", True),
        (parse.boolean, " No ", False),
        (parse.boolean, 1, True),
        (parse.boolean, "", False),
        (share, "0", 0.0),
        (share, 1, 1.0),
        (share, "1e-3", 0.001),
        (port, "65535", 65_535),
        (port, 9464.0, 9464),
        (parse.optional(port), "", None),
        (parse.optional(port), None, None),
        (parse.optional(port), 0, 0),
        (parse.choice("json", "text"), " TEXT", "text"),
        (parse.words, "", ()),
        (parse.words, ["a", " b "], ("a", "b")),
        (parse.words, ("a",), ("a",)),
        (parse.pairs, "", {}),
        (parse.pairs, "a=1=2, b=", {"a": "1=2", "b": ""}),
        (parse.pairs, {"a": 1}, {"a": "1"}),
        (parse.headers, "X-Token=a%20b", {"X-Token": "a b"}),
        (parse.level, "Fatal", "CRITICAL"),
        (parse.levels, {"orders": "debug"}, {"orders": "DEBUG"}),
        (parse.buckets, "0.1 0.5,1", (0.1, 0.5, 1.0)),
        (parse.buckets, [1, 2.5], (1.0, 2.5)),
        (parse.endpoint, " https://[::1]:4318/x ", "https://[::1]:4318/x"),
        (parse.endpoint, "[::1]:4317", "[::1]:4317"),
        (parse.endpoint, "me:pw@collector:4317", "me:pw@collector:4317"),
    ],
)
def test_usable_values_are_taken(parser, given, expected):
    """Text from a variable and values from Python or TOML lead to the same."""
    assert parser(given) == expected


@pytest.mark.parametrize(
    ("parser", "given", "rule"),
    [
        (parse.text, 5, "text"),
        (parse.boolean, "maybe", "true or false"),
        (share, "1.1", "a number from 0 to 1"),
        (share, True, "a number from 0 to 1"),
        (share, "nan", "a number from 0 to 1"),
        (share, 10**400, "a number from 0 to 1"),
        (share, None, "a number from 0 to 1"),
        (parse.number(0, math.inf, ""), "inf", "a number of 0 or more"),
        (port, "1.5", "a whole number from 0 to 65535"),
        (port, "65536", "a whole number from 0 to 65535"),
        (port, "", "a whole number from 0 to 65535"),
        (parse.choice("json", "text"), "xml", "one of json, text"),
        (parse.words, 5, "a list of words"),
        (parse.words, ["a", 5], "a list of words"),
        (parse.pairs, "novalue", "a list of key=value pairs"),
        (parse.pairs, "=1", "a list of key=value pairs"),
        (parse.headers, "novalue", "a list of key=value pairs"),
        (parse.headers, "my token=1", "a list of key=value pairs that HTTP can send"),
        (parse.headers, "a=b%0Ac", "a list of key=value pairs that HTTP can send"),
        (parse.headers, {"a": "schlüssel"}, "a list of key=value pairs that HTTP can send"),
        (parse.headers, {"a\r\nb": "c"}, "a list of key=value pairs that HTTP can send"),
        (parse.level, "LOUD", "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        (parse.level, 10, "one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        (
            parse.levels,
            "orders=LOUD",
            "a list of logger=level pairs, each level one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
        ),
        (
            parse.levels,
            "orders",
            "a list of logger=level pairs, each level one of DEBUG, INFO, WARNING, ERROR, CRITICAL",
        ),
        (parse.buckets, "", "rising seconds above 0"),
        (parse.buckets, "1,1", "rising seconds above 0"),
        (parse.buckets, "0,1", "rising seconds above 0"),
        (parse.buckets, "1,inf", "rising seconds above 0"),
        (parse.buckets, [10**400], "rising seconds above 0"),
        (parse.buckets, 5, "rising seconds above 0"),
        (parse.endpoint, "collector", "an http or https URL, or host:port for gRPC"),
        (parse.endpoint, "collector:4318/x", "an http or https URL, or host:port for gRPC"),
        (parse.endpoint, "ftp://collector:4318", "an http or https URL, or host:port for gRPC"),
        (parse.endpoint, "http://", "an http or https URL, or host:port for gRPC"),
        (parse.endpoint, "http://c:port", "an http or https URL, or host:port for gRPC"),
        (parse.endpoint, "http://[::1", "an http or https URL, or host:port for gRPC"),
    ],
)
def test_the_rest_is_told_its_rule_and_its_mend(parser, given, rule):
    """A value that cannot be used says what could."""
    with pytest.raises(parse.Unusable) as unusable:
        parser(given)
    assert unusable.value.rule == rule


@given(value=ANYTHING)
def test_no_value_breaks_a_parser(value):
    """Whatever is given, a parser takes it or says that it is unusable."""
    for parser in PARSERS:
        with contextlib.suppress(parse.Unusable):
            parser(value)


@pytest.mark.parametrize(
    ("value", "secret", "expected"),
    [
        ("lots", False, "'lots'"),
        ({"a": "1"}, True, "<hidden>"),
        ({}, True, "{}"),
        (MappingProxyType({"a": "1"}), False, "{'a': '1'}"),
        ("http://me:pw@host:1/p", False, "'http://<hidden>@host:1/p'"),
        ("http://me:p@w@host", False, "'http://<hidden>@host'"),
        ("me:pw@collector:4317", False, "'<hidden>@collector:4317'"),
        ("orders@eu", False, "'orders@eu'"),
        ("x" * 500, False, "'" + "x" * 199 + "…"),
    ],
)
def test_what_is_shown_hides_secrets(value, secret, expected):
    """A listing or a message shows no token and no password, and stays a line long."""
    assert parse.shown(value, secret=secret) == expected
