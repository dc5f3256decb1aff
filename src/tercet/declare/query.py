"""Queries in PromQL that users bring along, looked at before anything is generated of them."""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from tercet.declare.burn_rate import duration
from tercet.declare.parse import Unusable
from tercet.errors import SetupError

#: What stands for the window that is looked at, as sloth writes it.
PLACE = "{{.window}}"
_PLACE = re.compile(r"\{\{\s*\.window\s*\}\}")
_LONGEST = 5_000
_DEEPEST = 30
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]").search
_STRING = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`"""
_RAW_STRING = re.compile(rf"({_STRING})|#[^\n]*")
_BRACES = rf"\{{(?:{_STRING}|[^\"'`{{}}])*\}}"
_SELECTOR = rf"(?:[a-zA-Z_:][\w:]*\s*(?:{_BRACES})?|{_BRACES})"
_FIXED = re.compile(rf"(\b(?:rate|increase)\s*\(\s*{_SELECTOR}\s*\[)\s*((?:\d+(?:ms|[smhdwy]))+)\s*(\])")
_GROUPING = r"(?:by|without)\s*\([^)]*\)"
_ALONE = re.compile(_SELECTOR)
_SUM_OF_ONE = re.compile(rf"^(sum\s*(?:{_GROUPING}\s*)?)\(\s*({_SELECTOR})\s*\)(\s*{_GROUPING})?$")
#: A counter over the window, in one of the two ways that counting it one by one can stand for.
_COUNTER = re.compile(rf"\b(?:rate|increase)\s*\(\s*({_SELECTOR})\s*\[\s*\{{\{{\.window\}}\}}\s*\]\s*\)")
#: Stands in for the window while a query is parsed; nobody writes this one.
_PROBE = 7919
_PER_WINDOW = frozenset(
    {"increase", "delta", "idelta", "sum_over_time", "count_over_time", "changes", "resets"}
)
_A_SECOND = frozenset({"rate", "irate", "deriv"})


@dataclass(frozen=True, slots=True)
class Term:
    """A counter that a sum adds or takes away.

    Attributes:
        sign: 1 or -1.
        matchers: What its series must match: label, operator and value.
    """

    sign: int
    matchers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A query over a window.

    Attributes:
        text: PromQL with `PLACE` where the window is.
        terms: The counters it adds up, when it does nothing else: such events can be counted one by one.
        is_per_window: Whether it counts what happened in the window, rather than a second.
    """

    text: str
    terms: tuple[Term, ...] = ()
    is_per_window: bool = False

    def at(self, window: int) -> str:
        """Write it for a window of some seconds."""
        return _whole(self.text.replace(PLACE, duration(window)))

    def with_counters(self, take: Callable[[str], str]) -> str:
        """Write it with another way to see each counter than by its window.

        >>> parse_query("sum(rate(a[{{.window}}]))").with_counters(lambda selected: f"idelta({selected}[1m])")
        'sum((idelta(a[1m])))'
        """
        return _whole(_COUNTER.sub(lambda found: f"({take(found[1].strip())})", self.text))


@dataclass(frozen=True, slots=True)
class Queries:
    """What an indicator is computed from.

    Attributes:
        kind: Whether `part` gives the bad events, the good ones, or the share of bad ones.
        part: The query for these.
        total: The query for all events; None beside a ratio.
    """

    kind: Literal["bad", "good", "ratio"]
    part: Query
    total: Query | None = None

    @property
    def are_countable(self) -> bool:
        """Whether events can be counted one by one, by the differences of counters."""
        return self.total is not None and bool(self.part.terms and self.total.terms)


def parse_query(text: str) -> Query:
    """Read a query that must be over a window.

    Raises:
        Unusable: It is no such query.
    """
    query = parse_ratio(text)
    if PLACE not in query.text:
        rule = f"a query over {PLACE}"
        raise Unusable(rule, f'Write sum(rate(http_requests_total{{code=~"5.."}}[{PLACE}])).')
    return query


def parse_ratio(text: str) -> Query:
    """Read a query that may be over a window, as the state of something is not.

    Raises:
        Unusable: It is no query, or has windows of its own.
    """
    written = _PLACE.sub(PLACE, text.strip())
    if not written or len(written) > _LONGEST or _CONTROL(written) or "```" in written:
        raise Unusable(f"PromQL of at most {_LONGEST} characters, without control characters", "Shorten it.")
    try:
        return _looked_at(written, parsed(written))
    except ValueError as error:
        raise Unusable(f"PromQL ({error})", "Try it in Prometheus, with 5m for the window.") from None
    except RecursionError:
        raise Unusable("PromQL of fewer parts", "Record some of it under a name of its own.") from None


def _looked_at(written: str, tree: Any) -> Query:
    fixed = [window for window in _windows(tree) if window != timedelta(seconds=_PROBE)]
    if fixed:
        rule = f"without windows of its own ([{duration(int(fixed[0].total_seconds()))}])"
        raise Unusable(rule, f"Write [{PLACE}] instead: rules look at several windows.")
    counts = set(_counts_windows(tree))
    return Query(written, _terms_of(written, tree), counts == {True})


def free_windows(text: str) -> tuple[str, tuple[str, ...]]:
    """Put the window's place where counters have windows of their own.

    >>> free_windows("sum(rate(a[5m])) - sum(rate(b[1m]))")
    ('sum(rate(a[{{.window}}])) - sum(rate(b[{{.window}}]))', ('5m', '1m'))

    Returns:
        The query, and the windows that were there.
    """
    found = tuple(dict.fromkeys(window for _, window, _ in _FIXED.findall(text)))
    return _FIXED.sub(rf"\1{PLACE}\3", text), found


def rated(text: str) -> str:
    """Make of a counter, or a sum of some, what it counts in a window; leave anything else as it is.

    >>> rated('hits{code="500"}'), rated("sum by (job) (hits)")
    ('sum(rate(hits{code="500"}[{{.window}}]))', 'sum by (job) (rate(hits[{{.window}}]))')
    """
    if _ALONE.fullmatch(text):
        return f"sum(rate({text}[{PLACE}]))"
    return _SUM_OF_ONE.sub(rf"\1(rate(\2[{PLACE}]))\3", text)


def parsed(text: str) -> Any:
    """Parse PromQL with `PLACE` in it to the parser's tree.

    Raises:
        ValueError: It is none, or no vector.
        SetupError: The parser is not installed.
    """
    try:
        import promql_parser  # an extra: services that only emit do without
    except ImportError:
        raise SetupError(
            'kind: query needs promql-parser. Install it with: pip install "tercet[generate]"'
        ) from None
    # The parser's time grows with the depth so fast that it may not end.
    if _depth(text) > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    probed = _RAW_STRING.sub(_quoted_for_parser, text).replace(PLACE, f"{_PROBE}s")
    tree = promql_parser.parse(probed)
    # A sum is of a vector only, so this tells scalars, strings and windows apart.
    promql_parser.parse(f"sum({probed}\n)")
    return tree


def _depth(text: str) -> int:
    bare = _RAW_STRING.sub("", text)
    steps = (1 if letter == "(" else -1 for letter in bare if letter in "()")
    signs = max((len(run) for run in re.findall("[-+]+", re.sub(r"\s", "", bare))), default=0)
    return max(*itertools.accumulate(steps), signs, 0)


def _quoted_for_parser(found: re.Match[str]) -> str:
    """Write a raw string as the parser reads it, which takes backslashes in those, too, for escapes."""
    if found[0].startswith("`"):
        escaped = found[0][1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return found[0] if found[1] else ""


def _below(node: Any) -> Iterator[Any]:
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (below := getattr(node, name, None)) is not None:
            yield below
    yield from getattr(node, "args", ())


def _windows(tree: Any) -> Iterator[timedelta]:
    """List the windows that must be the one that is asked for; within a look back over it, any may be."""
    window = getattr(tree, "range", None)
    if window is not None:
        yield window
    if window != timedelta(seconds=_PROBE):
        for below in _below(tree):
            yield from _windows(below)


def _counts_windows(node: Any) -> Iterator[bool]:
    """Tell of each call over the window whether it counts what happened within, or a second's share of it.

    What takes the worst or the mean of a window is one or the other by what stands in it.
    """
    if type(node).__name__ == "Call" and any(map(_is_over_window, node.args)):
        for functions, counts in ((_PER_WINDOW, True), (_A_SECOND, False)):
            if node.func.name in functions:
                yield counts
                return
    for below in _below(node):
        yield from _counts_windows(below)


def _is_over_window(argument: Any) -> bool:
    return getattr(argument, "range", None) == timedelta(seconds=_PROBE)


# Sums of counters.


class _NoSum(Exception):  # noqa: N818 - it never leaves this file
    pass


def _terms_of(text: str, tree: Any) -> tuple[Term, ...]:
    try:
        terms = tuple(_terms(tree, 1))
    except _NoSum:
        return ()
    # What the pattern does not find, in the text and in nothing else, cannot be replaced there.
    found = _COUNTER.findall(text)
    return terms if len(terms) == len(found) == text.count(PLACE) else ()


def _terms(node: Any, sign: int) -> Iterator[Term]:
    kind = type(node).__name__
    if kind == "ParenExpr" or (kind == "AggregateExpr" and str(node.op) == "sum"):
        yield from _terms(node.expr, sign)
    elif kind == "BinaryExpr" and "group" not in str(node.modifier):
        yield from _terms_of_both(node, sign)
    elif kind == "Call" and node.func.name in ("rate", "increase"):
        yield Term(sign, _matchers(node.args[0]))
    else:
        raise _NoSum


def _terms_of_both(node: Any, sign: int) -> Iterator[Term]:
    if str(node.op) == "or" and str(node.rhs) == "vector(0)":
        yield from _terms(node.lhs, sign)
    elif str(node.op) in ("+", "-"):
        yield from _terms(node.lhs, sign)
        yield from _terms(node.rhs, sign if str(node.op) == "+" else -sign)
    else:
        raise _NoSum


def _matchers(matrix: Any) -> tuple[tuple[str, str, str], ...]:
    selector = getattr(matrix, "vector_selector", None)
    if selector is None or selector.offset or selector.at or selector.matchers.or_matchers:
        raise _NoSum
    operators = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    listed = [
        (matcher.name, operators[str(matcher.op).rpartition(".")[2]], matcher.value)
        for matcher in selector.matchers.matchers
    ]
    return tuple([("__name__", "=", selector.name), *listed] if selector.name else listed)


def _whole(text: str) -> str:
    """Keep a comment from taking what follows into it."""
    return f"\n{text}\n" if "\n" in text or "#" in text else text
