"""What people write for shares, numbers, times and texts in an objectives document, to exact values."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import TypeVar

from tercet.declare.burn_rate import DAY, HOUR
from tercet.declare.parse import Unusable

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}").fullmatch
# Line ends of any kind are folded before; what is left would end a line of YAML or of a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]").search
_LONGEST_TEXT = 2000
#: More digits than a floating-point number tells apart, which is what Prometheus computes with.
_MOST_DIGITS = 18
_SHARE = re.compile(r"([0-9]*\.?[0-9]+)\s*(%?)").fullmatch
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+|[0-9]{1,3}(,[0-9]{3})+").fullmatch
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?").fullmatch
_TIME = re.compile(r"([0-9]*\.?[0-9]+)\s*(ms|s|m|h|)").fullmatch
_HOURS = re.compile(r"(\d{1,2})(?::00)?\s*-\s*(\d{1,2})(?::00)?").fullmatch
_SECONDS = {"ms": Decimal("0.001"), "": Decimal(1), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}


def name(text: str) -> str:
    """Take a name that can stand in a path, an address and an alert's name.

    >>> name("order-service")
    'order-service'
    """
    if not is_name(text):
        raise Unusable("a name that begins with a letter", "Write letters, digits, dots and hyphens.")
    return text


def is_name(text: str) -> bool:
    """Say whether a text is such a name."""
    return bool(_NAME(text))


def prose(text: str) -> str:
    r"""Take a sentence or a few, on one line.

    >>> prose("Customers cannot\n  pay.")
    'Customers cannot pay.'
    """
    line = " ".join(text.split())
    # Alerts are templates, and nobody who is woken should read that one cannot be expanded.
    if not line or "{{" in line or _CONTROL(line) or len(line) > _LONGEST_TEXT:
        rule = f"a text of at most {_LONGEST_TEXT} characters without {{{{ and without control characters"
        raise Unusable(rule, "Say it in a sentence.")
    return line


def exact(text: str) -> str:
    """Take a text as it stands, to the last space.

    >>> exact("a  b "), exact("")
    ('a  b ', '')
    """
    if _CONTROL(text) or len(text) > _LONGEST_TEXT:
        rule = f"a text of at most {_LONGEST_TEXT} characters without control characters"
        raise Unusable(rule, "Write the value of the attribute.")
    return text


def share(text: str) -> Decimal:
    """Take a share between 0 and 1, or a percentage.

    >>> share("99.95 %"), share("0.999")
    (Decimal('0.9995'), Decimal('0.999'))
    """
    match = _SHARE(text.strip())
    if match is None:
        raise Unusable("a share below 1, or a percentage", "Write 0.999 or 99.9%.")
    value = _exactly(match[1])
    given = value / 100 if match[2] else value
    if given >= 1:
        meant = value if 1 < value < 100 else Decimal("99.9")  # noqa: PLR2004 - a percentage without its sign
        raise Unusable("below 1", f"Write {meant / 100} or {meant}%.")
    if not given:
        raise Unusable("above 0", "Write 0.999 or 99.9%.")
    return given


def number(text: str) -> Decimal:
    """Take a number above zero, as it stands.

    >>> number("10000"), number("10,000")
    (Decimal('10000'), Decimal('10000'))
    """
    digits = text.strip().replace("_", "")
    value = _exactly(digits.replace(",", "")) if _NUMBER(digits) else Decimal(0)
    if not value:
        raise Unusable("a number above 0", "Write 100.")
    return value


def _exactly(digits: str) -> Decimal:
    if len(digits) > _MOST_DIGITS:
        raise Unusable(f"of at most {_MOST_DIGITS} digits", "Round it.")
    return Decimal(digits)


def seconds(text: str) -> Decimal:
    """Take a time; without a unit it is in seconds.

    >>> seconds("500ms"), seconds("2.5"), seconds("5m")
    (Decimal('0.500'), Decimal('2.5'), Decimal('300'))
    """
    match = _TIME(text.strip())
    value = _exactly(match[1]) * _SECONDS[match[2]] if match else Decimal(0)
    if not value:
        raise Unusable("a time above 0", "Write 500ms, 2.5s or 5m.")
    return value


def whole_seconds(text: str) -> int:
    """Take whole seconds, a day at most.

    >>> whole_seconds("5m")
    300
    """
    given = seconds(text)
    if given % 1 or given > DAY:
        raise Unusable("whole seconds, a day at most", "Write 5m.")
    return int(given)


def hours(text: str) -> tuple[int, int]:
    """Take the hours of a day, in UTC, from the first up to the last.

    >>> hours("8-20"), hours("08:00-24:00")
    ((8, 20), (8, 24))
    """
    match = _HOURS(text.strip())
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 <= first < last <= DAY // HOUR:
        raise Unusable("full hours of one day, in UTC", "Write 8-20.")
    return first, last


def one_of(options: Mapping[str, T]) -> Callable[[str], T]:
    """Make a parser for one word of a few.

    >>> one_of({"one": 1, "two": 2})("two")
    2
    """

    def parse_one(text: str) -> T:
        if text not in options:
            close = get_close_matches(text, options, n=1)
            mend = f"Did you mean {close[0]}?" if close else f"Write {next(iter(options), 'one first')}."
            raise Unusable(f"one of {', '.join(options)}", mend)
        return options[text]

    return parse_one


def address(text: str) -> str:
    """Take the address of something on the web, without secrets in it.

    >>> address("https://grafana.example.com/")
    'https://grafana.example.com'
    """
    url = text.strip().rstrip("/")
    if not _ADDRESS(url):
        rule = "an http or https address without password, query and spaces"
        raise Unusable(rule, "Write https://grafana.example.com; what is secret stays in a file.")
    return url
