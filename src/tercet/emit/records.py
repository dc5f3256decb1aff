"""What a log record says: its message, and the fields that its caller added, as plain data."""

import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tercet.emit.http import error_type
from tercet.fast.stand_in import has_twin

Fields = dict[str, Any]

#: What each record says itself, so that structlog's processors need not.
SAID_BY_RECORDS = ("timestamp", "level", "logger")
#: The attribute of a record that holds fields whose names a record has for itself.
FIELDS = "_tercet_fields"
#: The attribute that says whether a line was written for a record; absent on records not taken yet.
TAKEN = "_tercet_taken"
# What the machinery of logging, uvicorn, structlog and contrib put on a record, and nobody wants to read.
_NOT_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message", "_logger", "_name", "_record", "_from_structlog",
    FIELDS, TAKEN, "otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName",
}  # fmt: skip
#: What stands first in the state of each record that `logging` made, before what the caller added.
_OWN_NAMES = list(vars(logging.makeLogRecord({})))
_OWN = len(_OWN_NAMES)
_DEEPEST, _MOST = 6, 1_000
_ELLIPSIS = "…"
_BIGGEST = 2**63 - 1  # whole number that OTLP has
_UNSHOWABLE = "<{} that cannot be shown>"


def message_of(record: logging.LogRecord) -> str:
    """Return the message with its arguments, or both side by side where they do not fit together.

    >>> message_of(logging.makeLogRecord({"msg": "%d items", "args": ("three",)}))
    "%d items ('three',)"
    """
    said = record.msg
    if type(said) is str and not record.args:
        return _sayable(said)
    if isinstance(said, dict) and "event" in said:  # structlog's wrap_for_formatter
        return _text(said["event"])
    try:
        return _sayable(record.getMessage())
    except Exception:
        return f"{_text(record.msg)} {_text(record.args)}"


@has_twin(_OWN_NAMES, _NOT_FIELDS, logging.LogRecord)
def said_by(record: logging.LogRecord) -> tuple[str, Fields]:
    """Return the message of a record, and what its caller added to it."""
    return message_of(record), own_fields(record)


def own_fields(record: logging.LogRecord) -> Fields:
    """Collect what the caller added to a record, and the exception it carries, as plain data."""
    state = vars(record)
    # Looked at one by one, the two dozen of each record's own cost more than all the rest here.
    names = list(state)
    added = names[_OWN:] if names[:_OWN] == _OWN_NAMES else names
    own = {_text(name): plain(state[name]) for name in added if name not in _NOT_FIELDS}
    if FIELDS in state:
        own |= {_text(key): plain(value) for key, value in state[FIELDS].items()}
    if type(record.msg) is not str and isinstance(record.msg, dict) and "event" in record.msg:
        said = record.msg.items()
        own |= {_text(key): plain(item) for key, item in said if key not in ("event", *SAID_BY_RECORDS)}
    if record.exc_info and record.exc_info[1] is not None:
        own |= exception_fields(record.exc_info[1])
    elif record.exc_text:
        own["exception.stacktrace"] = _text(record.exc_text)
    if record.stack_info:
        own["stack"] = _text(record.stack_info)
    return own


def exception_fields(error: BaseException) -> Fields:
    """Describe an exception under the names of the semantic conventions."""
    return {
        "exception.type": error_type(error),
        "exception.message": _text(error),
        "exception.stacktrace": _sayable("".join(traceback.format_exception(error))),
    }


def plain(value: Any) -> Any:
    """Turn any value into what both JSON and OTLP can say; what they cannot say becomes text.

    A value may hold others six deep, shown as an ellipsis beyond, and a thousand in all.

    >>> plain({"when": {1, 2}.__class__, 3: (True, None)})
    {'when': "<class 'set'>", '3': [True, None]}
    """
    kind = type(value)
    # Nearly all there is; the rest is asked one question after the other.
    if (kind is str and value.isascii()) or (kind is int and -_BIGGEST <= value <= _BIGGEST):
        return value
    return _plain(value, _DEEPEST, iter(range(_MOST)))


def _plain(value: Any, depth: int, budget: Iterator[int]) -> Any:
    if isinstance(value, str):
        return _sayable(value)
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) <= _BIGGEST):
        return value
    try:
        if depth and isinstance(value, Mapping):
            items = _affordable(value.items(), budget)
            return {_text(key): _plain(item, depth - 1, budget) for key, item in items}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, depth - 1, budget) for item in _affordable(value, budget)]
    except Exception:
        return _UNSHOWABLE.format(type(value).__qualname__)
    return _text(value) if depth else _ELLIPSIS


def _affordable(items: Iterable[Any], budget: Iterator[int]) -> Iterator[Any]:
    """Walk through the items while the budget of the whole value lasts."""
    for item in items:
        if next(budget, None) is None:
            return
        yield item


def _text(value: object) -> str:
    if type(value) is str and value.isascii():
        return value
    try:
        return _sayable(str(value))
    except Exception:
        return _UNSHOWABLE.format(type(value).__qualname__)


def _sayable(text: str) -> str:
    """Escape lone surrogates, such as those of undecodable file names, which UTF-8 cannot say."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
