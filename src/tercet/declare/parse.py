"""Text to value: one small parser a shape, one error style for all of them.

A parser takes what the user gave, text from a variable or a value from Python or TOML, and returns the
value that the code uses. What it cannot use raises `Unusable`, which knows the rule and the mend but not
the name; whoever knows the name the user typed finishes the sentence.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

T = TypeVar("T")
Parser = Callable[[object], T]


@dataclass(frozen=True)
class Unusable(Exception):  # noqa: N818 - it never leaves this room: SettingsError does
    """Carry the rule that a value broke, and how to mend it."""

    rule: str
    mend: str


def text(value: object) -> str:
    """Take a word or a sentence as it stands.

    >>> text(" orders ")
    'orders'
    """
    if not isinstance(value, str):
        raise Unusable("text", "Put it in quotes.")
    return value.strip()


def boolean(value: object) -> bool:
    """Take true or false.

    >>> boolean("TRUE"), boolean(False)
    (True, False)
    """
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    word = str(value).strip().lower()
    if word not in words:
        raise Unusable("true or false", "Write true or false.")
    return words[word]


def number(low: float, high: float, mend: str) -> Parser[float]:
    """Make a parser for a number from `low` to `high`, both included.

    >>> number(0, 1, "Write 0.1 to keep one trace in ten.")("0.25")
    0.25
    """
    rule = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a number of {low:g} or more"

    def parse(value: object) -> float:
        try:
            parsed = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            parsed = math.nan
        if not (low <= parsed <= high and math.isfinite(parsed)):
            raise Unusable(rule, mend)
        return parsed

    return parse


def whole(low: int, high: int, mend: str) -> Parser[int]:
    """Make a parser for a whole number from `low` to `high`, both included.

    >>> whole(0, 65535, "Write 9464.")("9464")
    9464
    """

    def parse(value: object) -> int:
        try:
            parsed = number(low, high, mend)(value)
        except Unusable:
            parsed = math.nan
        if not parsed == parsed // 1:
            raise Unusable(f"a whole number from {low} to {high}", mend)
        return int(parsed)

    return parse


def optional(parse: Parser[T]) -> Parser[T | None]:
    """Make a parser that also takes nothing: None or empty text."""
    return lambda value: None if value in (None, "") else parse(value)


def choice(*options: str) -> Parser[str]:
    """Make a parser for one word of a few.

    >>> choice("json", "text")("JSON")
    'json'
    """

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in options:
            raise Unusable(f"one of {', '.join(options)}", f"Write {options[0]}.")
        return word

    return parse


def words(value: object) -> tuple[str, ...]:
    """Take a list, or text with commas.

    >>> words("tracecontext, baggage,")
    ('tracecontext', 'baggage')
    """
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(w, str) for w in value):
        raise Unusable("a list of words", "Separate them with commas.")
    return tuple(word.strip() for word in value if word.strip())


def pairs(value: object) -> Mapping[str, str]:
    """Take a mapping, or text like `key=value,key=value` with percent-encoded values (W3C baggage form).

    >>> dict(pairs("team=checkout,note=a%20b"))
    {'team': 'checkout', 'note': 'a b'}
    """
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): str(item) for key, item in value.items()})
    split = [pair.partition("=") for pair in words(value)]
    if not all(key.strip() and equals for key, equals, _ in split):
        raise Unusable("a list of key=value pairs", "Write key=value,other=value.")
    return MappingProxyType({unquote(key.strip()): unquote(item.strip()) for key, _, item in split})


# A token, and visible text: what RFC 9110 lets a name and a value consist of.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_HEADER_VALUE = re.compile(r"[ -~\t]*").fullmatch


def headers(value: object) -> Mapping[str, str]:
    """Take pairs whose keys and values can be sent as HTTP headers.

    >>> dict(headers("authorization=Bearer%20abc"))
    {'authorization': 'Bearer abc'}
    """
    given = pairs(value)
    if not all(_HEADER_NAME(name) and _HEADER_VALUE(content) for name, content in given.items()):
        raise Unusable(
            "a list of key=value pairs that HTTP can send",
            "Write names of letters, digits and hyphens, and values of ASCII in one line.",
        )
    return given


LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LEVEL_ALIASES = {"WARN": "WARNING", "FATAL": "CRITICAL"}


def level(value: object) -> str:
    """Take the name of a log level.

    >>> level("warn")
    'WARNING'
    """
    name = str(value).strip().upper()
    name = _LEVEL_ALIASES.get(name, name)
    if name not in LEVELS:
        raise Unusable(f"one of {', '.join(LEVELS)}", "Write INFO.")
    return name


def levels(value: object) -> Mapping[str, str]:
    """Take a level for each logger.

    >>> dict(levels("orders=debug,sqlalchemy.engine=WARN"))
    {'orders': 'DEBUG', 'sqlalchemy.engine': 'WARNING'}
    """
    try:
        return MappingProxyType({logger: level(name) for logger, name in pairs(value).items()})
    except Unusable:
        rule = f"a list of logger=level pairs, each level one of {', '.join(LEVELS)}"
        raise Unusable(rule, "Write orders=DEBUG,sqlalchemy.engine=WARNING.") from None


def buckets(value: object) -> tuple[float, ...]:
    """Take a histogram's upper bounds: finite, above zero and rising.

    >>> buckets("0.1, 0.5, 1")
    (0.1, 0.5, 1.0)
    """
    if isinstance(value, str):
        value = [bound for bound in value.replace(",", " ").split() if bound]
    try:
        bounds = tuple(float(bound) for bound in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        bounds = ()
    rising = all(low < high for low, high in itertools.pairwise(bounds))
    if not (bounds and rising and bounds[0] > 0 and math.isfinite(bounds[-1])):
        raise Unusable("rising seconds above 0", "Write 0.1, 0.5, 1.")
    return bounds


def endpoint(value: object) -> str:
    """Take an http or https URL, or a host and a port, which is all that gRPC needs.

    >>> endpoint("http://collector:4318/"), endpoint("collector:4317")
    ('http://collector:4318/', 'collector:4317')
    """
    address = str(value).strip()
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        usable = bool(parts.hostname) and (parts.port or 1) > 0 and _is_complete(parts)
    except ValueError:
        usable = False
    if not usable:
        raise Unusable("an http or https URL, or host:port for gRPC", "Write http://localhost:4318.")
    return address


def _is_complete(parts: SplitResult) -> bool:
    """Say whether an address has all that its form must have, and no more."""
    if parts.scheme:
        return parts.scheme in {"http", "https"}
    return parts.port is not None and not (parts.path or parts.query or parts.fragment)


def is_loopback(url: str) -> bool:
    """Say whether an address leads back to this machine, by its name alone.

    >>> is_loopback("http://localhost:4318"), is_loopback("http://127.0.0.2"), is_loopback("http://collector")
    (True, True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


# `user:password@` in front of a host, with the scheme or without it.
_CREDENTIALS = re.compile(r"(?<=://)\S*@|^[^/@\s:]+:(?!//)\S*@")
# The query of a URL may hold a key, and is no part of what identifies a collector.
_SECRET_QUERY = re.compile(r"(?<=\?)\S*=\S*")


def shown(value: Any, *, secret: bool = False) -> str:
    """Show a value in a message or a listing, with what is secret hidden.

    >>> shown("lots"), shown({"authorization": "Bearer 1"}, secret=True), shown("http://me:pw@host:1")
    ("'lots'", '<hidden>', "'http://<hidden>@host:1'")
    >>> shown("https://host/v1?api_key=1")
    "'https://host/v1?<hidden>'"
    """
    if secret and value:
        return "<hidden>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        value = _SECRET_QUERY.sub("<hidden>", _CREDENTIALS.sub("<hidden>@", value))
    whole_text = repr(value)
    return whole_text if len(whole_text) <= 200 else f"{whole_text[:200]}…"  # noqa: PLR2004 - a line's worth
