"""Log fields to one line, for machines and for people."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.export.text import console_line, json_line, line_renderer

FIELDS = {
    "timestamp": 0.5,
    "level": "INFO",
    "logger": "orders",
    "message": "paid",
    "service": "shop",
    "trace_id": "",
    "span_id": "",
    "correlation_id": "abc",
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def standard(**fields):
    """What stands on every line, but for these."""
    return tuple((FIELDS | fields).values())


def picture(fields, colour=False):
    """Draw a console line without its time, which is the reader's own."""
    own = {key: value for key, value in fields.items() if key not in FIELDS}
    known = {key: value for key, value in fields.items() if key in FIELDS}
    return console_line(standard(**known), own, colour=colour)[14:]


def test_a_line_of_json_is_golden():
    """Order, types and time are what readers of logs build on."""
    assert json_line(standard(), {"amount": 5, "ok": True, "note": None, "tags": ["é"]}) == (
        '{"timestamp": "1970-01-01T00:00:00.500000Z", "level": "INFO", "logger": "orders", '
        '"message": "paid", "service": "shop", "trace_id": "", "span_id": "", "correlation_id": "abc", '
        '"amount": 5, "ok": true, '
        '"note": null, "tags": ["\\u00e9"]}'
    )


def test_numbers_that_json_does_not_have_become_text():
    """Strict readers refuse NaN."""
    line = json_line(standard(), {"a": float("nan"), "b": {"c": [float("inf"), 1.5]}})
    read = json.loads(line, parse_constant=pytest.fail)
    assert (read["a"], read["b"]) == ("nan", {"c": ["inf", 1.5]})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "INFO     orders  paid  correlation_id=abc"),
        ({"correlation_id": "", "total": 1}, "INFO     orders  paid  total=1"),
        ({"correlation_id": "", "a": None, "b": ""}, "INFO     orders  paid"),
        ({"correlation_id": "", "a": 0, "b": False, "c": [1]}, "INFO     orders  paid  a=0  b=false  c=[1]"),
        ({"correlation_id": "", "message": "one\ntwo\x1b[2J"}, "INFO     orders  one\\ntwo\\x1b[2J"),
        ({"correlation_id": "", "a": "x\ry"}, "INFO     orders  paid  a=x\\ry"),
        ({"correlation_id": "", "k\n\x1b[2J": "v"}, "INFO     orders  paid  k\\n\\x1b[2J=v"),
        ({"correlation_id": "", "logger": "a\x07"}, "INFO     a\\x07  paid"),
        (
            {"correlation_id": "", "exception.stacktrace": "Traceback\n\tx\x1b\n", "stack": "Stack\n"},
            "INFO     orders  paid\nTraceback\n\tx\\x1b\nStack",
        ),
    ],
)
def test_a_line_for_people_is_columns_then_fields(fields, expected):
    """What is empty is left out, and nothing forges a line or drives a terminal."""
    assert picture(fields) == expected


def test_colour_marks_the_level():
    """Red is an error; a level of one's own has no colour."""
    assert "\x1b[31mERROR   \x1b[0m" in console_line(standard(level="ERROR"), {}, colour=True)
    assert "\x1b[0mSUCCESS \x1b[0m" in console_line(standard(level="SUCCESS"), {}, colour=True)


@given(st.text(), st.text(), st.text())
def test_whatever_is_said_stays_on_its_line(message, key, value):
    """One record, one line, no control characters."""
    line = console_line(standard(message=message), {f"x{key}": value}, colour=False)
    assert line.isprintable()


@pytest.mark.parametrize(
    ("log_format", "stdout", "environ", "kind"),
    [
        ("off", Terminal(), {}, "none"),
        ("json", Terminal(), {}, "json"),
        ("auto", io.StringIO(), {}, "json"),
        ("auto", None, {}, "json"),
        ("auto", closed(), {}, "json"),
        ("auto", object(), {}, "json"),
        ("auto", Terminal(), {}, "colour"),
        ("auto", Terminal(), {"NO_COLOR": "1"}, "text"),
        ("text", io.StringIO(), {}, "text"),
    ],
)
def test_the_form_follows_the_setting_and_the_terminal(log_format, stdout, environ, kind, monkeypatch):
    """JSON for a pipe, columns for a terminal, colour where it is wanted."""
    monkeypatch.setattr(sys, "stdout", stdout)
    render = line_renderer(log_format, environ)
    line = render(standard(), {}) if render else ""
    kinds = {"json": line.startswith("{"), "colour": "\x1b[" in line, "none": not line}
    assert next((name for name, holds in kinds.items() if holds), "text") == kind
