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
_MOST = 20_000
#: Of a pattern that has more of these, or one within another, nobody knows how long it takes to match.
_MOST_REPEATS = 6
_REPEAT = re.compile(r"(?<!\\)[*+]|\{\d*,\d*\}")
_REPEAT_WITHIN = re.compile(r"[*+}][^()]*\)+[*+{]")
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
    if not all(map(_can_be_tried, (*part, *total))):
        return None
    kinds: dict[tuple[bool, ...], Labels] = {}
    for labels in itertools.islice(_possible((*part, *total)), _MOST):
        kinds.setdefault(tuple(_matches(term, labels) for term in (*part, *total)), labels)
    seen = [matched for matched in kinds if any(matched)]
    events: dict[tuple[int, int], tuple[Labels, ...]] = {}
    for several in itertools.islice(_combined(seen), _MOST):
        counts = (
            sum(_count(part, matched) for matched in several),
            sum(_count(total, matched[len(part) :]) for matched in several),
        )
        if counts not in events:
            events[counts] = tuple(kinds[matched] for matched in several)
    good, bad = events.get((0, 1)), events.get((1, 1))
    if good is None or bad is None:
        return None
    return Samples(bad, good) if queries.kind == "good" else Samples(good, bad)


def _combined(seen: list[tuple[bool, ...]]) -> Iterator[tuple[tuple[bool, ...], ...]]:
    for size in range(1, _MOST_SERIES + 1):
        yield from itertools.combinations(seen, size)


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


def _can_be_tried(term: Term) -> bool:
    return all(
        operator in ("=", "!=")
        or not (len(_REPEAT.findall(value)) > _MOST_REPEATS or _REPEAT_WITHIN.search(value))
        for _, operator, value in term.matchers
    )


def _is(text: str, operator: str, value: str) -> bool:
    if operator in ("=", "!="):
        return (text == value) == (operator == "=")
    try:
        return (re.fullmatch(value, text, re.DOTALL) is not None) == (operator == "=~")
    except re.error:  # Prometheus' expressions are not quite Python's.
        return False


def _count(terms: Iterable[Term], matched: Iterable[bool]) -> int:
    return sum(term.sign for term, is_one in zip(terms, matched, strict=False) if is_one)
