"""Log fields to one line: JSON for machines, columns and colour for people."""

import functools
import json
import math
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tercet.fast.stand_in import has_twin

Fields = dict[str, Any]
#: Time in seconds since 1970, level, logger, message, service, and the ids of trace, span and correlation.
Standard = tuple[float, str, str, str, str, str, str, str]

_COLOURS = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_DIM = "2"
# What has lines of its own.
_BELOW = ("exception.stacktrace", "stack")


@functools.lru_cache(maxsize=8)
def _second(whole: int) -> str:
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(seconds: float) -> str:
    """Render a time as UTC with microseconds.

    >>> rfc3339(0.25)
    '1970-01-01T00:00:00.250000Z'
    """
    # Of a thousand lines a second, each asks for the same one.
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return f"{_second(whole)}.{micros:06d}Z"


class _Texts(dict[str, str]):
    """Keys, levels and names of loggers, quoted; a service uses the same few again and again."""

    _MOST = 1_024

    def __missing__(self, text: str) -> str:
        quoted = _quoted(str(text))
        if len(self) < self._MOST:
            self[text] = quoted
        return quoted


_quoted = json.encoder.encode_basestring_ascii
_texts = _Texts()


@has_twin()
def json_line(standard: Standard, own: Fields) -> str:
    r"""Render a log record as one line of valid JSON, whatever it holds.

    >>> line = json_line((0, "INFO", "orders", "two\nlines", "shop", "", "", ""), {"ratio": float("nan")})
    >>> json.loads(line)["message"], json.loads(line)["ratio"]
    ('two\nlines', 'nan')

    Args:
        standard: What stands on every line: time, level, logger, message, service, and the three ids.
        own: What one record has beside it.
    """
    seconds, level, logger, message, service, trace_id, span_id, correlation_id = standard
    # What `json.dumps` makes of it, which takes three times as long to set itself up for one small object.
    line = (
        f'{{"timestamp": "{rfc3339(seconds)}", "level": {_texts[level]}, "logger": {_texts[logger]}, '
        f'"message": {_quoted(message)}, "service": {_texts[service]}, "trace_id": "{trace_id}", '
        f'"span_id": "{span_id}", "correlation_id": {_quoted(correlation_id)}'
    )
    for key, value in own.items():
        line += f", {_texts[key]}: {_json(value)}"
    return line + "}"


def _json(value: Any) -> str:
    if type(value) is str:
        return _quoted(value)
    return repr(value) if type(value) is int else json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    """Write as text the numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def console_line(standard: Standard, own: Fields, *, colour: bool) -> str:
    """Render a log record for a person: time, level, logger, message, then the rest.

    >>> standard = (0, "INFO", "orders", "paid", "shop", "", "", "")
    >>> console_line(standard, {"total": 1}, colour=False)[14:]
    'INFO     orders  paid  total=1'
    """
    seconds, level, logger, message, _, trace_id, _, correlation_id = standard
    level = str(level)  # whatever somebody has called it
    paint = _painted if colour else _unpainted
    time = datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")[:-3]  # the reader's own clock
    shown = {"trace_id": trace_id, "correlation_id": correlation_id, **own}
    rest = "  ".join(
        f"{_harmless(key)}={_shown(value)}"
        for key, value in shown.items()
        if key not in _BELOW and value not in ("", None)
    )
    head = f"{paint(time, _DIM)}  {paint(f'{level:<8}', _COLOURS.get(level, '0'))} {_harmless(logger)}"
    line = f"{head}  {_harmless(message)}" + (f"  {paint(rest, _DIM)}" if rest else "")
    below = [str(own[key]).rstrip() for key in _BELOW if own.get(key)]
    return "\n".join([line, *(_harmless(block, keep="\n\t") for block in below)])


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return _harmless(text)


def _harmless(value: Any, keep: str = "") -> str:
    """Escape what could forge a line or drive a terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _unpainted(text: str, _code: str) -> str:
    return text


def line_renderer(log_format: str, environ: Mapping[str, str]) -> Callable[[Standard, Fields], str] | None:
    """Choose how lines are rendered: None for no lines, colour only on a terminal that wants it."""
    if log_format == "off":
        return None
    terminal = _is_terminal(sys.stdout)
    if log_format == "json" or (log_format == "auto" and not terminal):
        return json_line
    colour = terminal and not environ.get("NO_COLOR")
    return functools.partial(console_line, colour=colour)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, it is a stand-in, or it is closed
        return False
