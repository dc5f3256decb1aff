"""PromQL as text, built so that no value can break out of its place."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

# Go's shortest format, which scrapes carry, takes exponents beyond these.
_PLAIN_FROM, _PLAIN_TO = -4, 6
_SPECIAL = frozenset("\\.+*?()|[]{}^$")


@dataclass(frozen=True, slots=True)
class Match:
    r"""What a label must be.

    >>> str(Match("job", "=", 'a"b'))
    'job="a\\"b"'
    """

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{quoted(self.value)}"


def equal(label: str, value: str) -> Match:
    """Match one value."""
    return Match(label, "=", value)


def one_of(label: str, values: Iterable[str]) -> Match:
    r"""Match any of a few values.

    >>> str(one_of("route", ("/a", "/b.c"))), str(one_of("route", ("/a",)))
    ('route=~"/a|/b\\\\.c"', 'route="/a"')
    """
    listed = tuple(values)
    return equal(label, listed[0]) if len(listed) == 1 else Match(label, "=~", _any_of(listed))


def none_of(label: str, values: Iterable[str]) -> Match:
    """Match everything but a few values; without the label, a series has the empty one.

    >>> str(none_of("error_type", ("",))), str(none_of("error_type", ("", "gone")))
    ('error_type!=""', 'error_type!~"|gone"')
    """
    listed = tuple(values)
    return Match(label, "!=", listed[0]) if len(listed) == 1 else Match(label, "!~", _any_of(listed))


def bound(threshold: Decimal) -> Match:
    r"""Match a bucket by its upper bound, in each way that Prometheus comes to write it.

    >>> str(bound(Decimal("0.5"))), str(bound(Decimal(1))), str(bound(Decimal("2.5E6")))
    ('le="0.5"', 'le=~"1|1\\\\.0"', 'le=~"2500000|2500000\\\\.0|2\\\\.5e\\\\+06"')
    """
    text, exponent = number(threshold), threshold.adjusted()
    ways = [text] if "." in text else [text, f"{text}.0"]
    if not _PLAIN_FROM <= exponent < _PLAIN_TO:
        ways.append(f"{number(threshold.scaleb(-exponent))}e{exponent:+03d}")
    return one_of("le", ways)


def select(name: str, *matches: Match) -> str:
    """Select series.

    >>> select("up", equal("job", "orders"))
    'up{job="orders"}'
    """
    return f"{name}{{{','.join(map(str, matches))}}}"


def rate(selected: str, window: str = "5m") -> str:
    """Take events a second."""
    return f"rate({selected}[{window}])"


def summed(expression: str, *by: str) -> str:
    """Sum over everything but the named labels.

    >>> summed("up", "job")
    'sum by (job) (up)'
    """
    return f"sum by ({', '.join(by)}) ({expression})"


def ratio(part: str, whole: str) -> str:
    r"""Divide a part by its whole: 0, and no NaN or gap, where there is no whole, or no part yet.

    >>> ratio("bad", "all")
    'bad / (all > 0)\nor 0 * all'
    """
    return f"{part} / ({whole} > 0)\nor 0 * {whole}"


def number(value: Decimal | Fraction | int) -> str:
    """Write a number as short as it is exact.

    >>> number(Decimal("0.00050")), number(Fraction(72, 5)), number(Decimal("1E+4")), number(Fraction(1, 3))
    ('0.0005', '14.4', '10000', '0.333333333333')
    """
    if isinstance(value, Fraction):
        value = round(Decimal(value.numerator) / Decimal(value.denominator), 12)
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quoted(value: str) -> str:
    r"""Quote a string.

    >>> quoted('a"b')
    '"a\\"b"'
    """
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def literal(value: str) -> str:
    r"""Write a value as a regular expression that matches nothing else.

    >>> literal("/orders/{id}")
    '/orders/\\{id\\}'
    """
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in value)


def _any_of(values: Iterable[str]) -> str:
    return "|".join(map(literal, values))
