"""Series to try queries with: those that a good event adds to, and those that a bad one adds to."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tercet.declare.query import Queries, Term

#: A series by its labels, its name among them.
Labels = Mapping[str, str]
#: What a label may be when nothing says what it must be: what codes, methods and outcomes are.
_USUAL = ("", "200", "500", "404", "429", "301", "GET", "POST", "ok", "error", "0.1", "+Inf", "x")
_MOST = 5000
#: A request adds to a count, to its bucket and to one more, at most.
_MOST_SERIES = 3


@dataclass(frozen=True, slots=True)
class Samples:
    """The series that one event adds to."""

    good: tuple[Labels, ...]
    bad: tuple[Labels, ...]


@lru_cache(maxsize=16)
def find_samples(queries: Queries) -> Samples | None:
    """Find series with which countable queries can be tried; None where there are none to guess."""
    if queries.total is None or not queries.are_countable:
        return None
    part, total = queries.part.terms, queries.total.terms
    kinds: dict[tuple[bool, ...], Labels] = {}
    for labels in itertools.islice(_possible((*part, *total)), _MOST):
        kinds.setdefault(tuple(_matches(term, labels) for term in (*part, *total)), labels)
    seen = [labels for matched, labels in kinds.items() if any(matched)]
    events: dict[tuple[int, int], tuple[Labels, ...]] = {}
    for size in range(1, _MOST_SERIES + 1):
        for series in itertools.combinations(seen, size):
            events.setdefault((_count(part, series), _count(total, series)), series)
    good, bad = events.get((0, 1)), events.get((1, 1))
    if good is None or bad is None:
        return None
    return Samples(bad, good) if queries.kind == "good" else Samples(good, bad)


def _possible(terms: Iterable[Term]) -> Iterator[Labels]:
    """List combinations of values that make a difference to terms, the plainest first."""
    matchers: dict[str, list[tuple[str, str]]] = {}
    for label, operator, value in itertools.chain.from_iterable(term.matchers for term in terms):
        matchers.setdefault(label, []).append((operator, value))
    choices = [_values(label, asked) for label, asked in matchers.items()]
    for combination in itertools.product(*choices):
        yield {label: value for label, value in zip(matchers, combination, strict=True) if value}


def _values(label: str, asked: list[tuple[str, str]]) -> Iterable[str]:
    """List values of a label of which no two are the same to all that is asked of it."""
    known = [] if label == "__name__" else [""]
    for operator, value in asked:
        known += [value] if operator in ("=", "!=") else _examples(value)
    known += [] if label == "__name__" else _USUAL
    differing: dict[tuple[bool, ...], str] = {}
    for text in known:
        differing.setdefault(tuple(_is(text, *each) for each in asked), text)
    return differing.values()


def _examples(pattern: str) -> Iterator[str]:
    """Guess at texts that a regular expression matches."""
    simple = pattern.removeprefix("^").removesuffix("$")
    while (plainer := re.sub(r"\((?:\?[:i]+\)?)?([^()|]*)(?:\|[^()]*)?\)", r"\1", simple)) != simple:
        simple = plainer
    for branch in simple.split("|"):
        text = re.sub(r"\[([^]^])[^]]*\]", r"\1", branch)
        text = re.sub(r"\\d|\.(?![*+])(?<!\\\.)", "0", text)
        text = re.sub(r"(?<!\\)\.[*+]", "x", text)
        text = re.sub(r"(?<!\\)[*+?]|\{[^}]*\}", "", text)
        yield re.sub(r"\\(.)", r"\1", text)


def _matches(term: Term, labels: Labels) -> bool:
    return all(_is(labels.get(label, ""), operator, value) for label, operator, value in term.matchers)


def _is(text: str, operator: str, value: str) -> bool:
    try:
        same = text == value if operator in ("=", "!=") else re.fullmatch(value, text, re.DOTALL) is not None
    except re.error:  # Prometheus' expressions are not quite Python's.
        return False
    return same == (operator in ("=", "=~"))


def _count(terms: Iterable[Term], series: Iterable[Labels]) -> int:
    return sum(term.sign for labels in series for term in terms if _matches(term, labels))
