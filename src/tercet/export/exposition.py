"""The text that Prometheus scrapes: families of series, merged so that no series appears twice, and rendered.

Two formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4, called classic here) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0, which alone has units and exemplars).
Pure: knows nothing of the SDK that measured, nor of the HTTP that serves.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from operator import add
from typing import Literal

from tercet.declare.layout import BUCKETS, COUNT, QUANTILES, SET_AT, TOTAL
from tercet.declare.metric import Across, Kind

FamilyKind = Kind | Literal["info"]
#: One measurement that leads to a trace: value, time in nanoseconds, trace id, span id.
Measured = tuple[float, int, int, int]

_SAMPLE_SUFFIX: Mapping[FamilyKind, str] = {"counter": "_total", "info": "_info"}
_OPENMETRICS_TYPE: Mapping[FamilyKind, str] = {
    "counter": "counter",
    "up_down_counter": "gauge",
    "gauge": "gauge",
    "histogram": "histogram",
    "summary": "summary",
    "info": "info",
}
_RESERVED_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_CLASSIC_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_EXPONENT_FROM = 1e6  # as Go's shortest format, which OpenMetrics makes canonical for `le`
_SIGNIFICANT_DIGITS = 17


#: What one label set has measured: its numbers as `declare.layout` has them, the upper bounds of its buckets
#: (ascending, without infinity) and measurements that lead to a trace. A summary has quantiles for bounds and
#: their values behind its numbers. Plain tuples, for the collector of garbage soon leaves them alone: for ten
#: thousand more objects it would stop the process for too long.
Series = tuple[tuple[float, ...], tuple[float, ...], tuple[Measured, ...]]


class Rounded(float):
    """A sum that has lost something to rounding, and remembers of what it is the sum.

    Workers add up in different orders. A last digit that differed from scrape to scrape would be a counter
    that goes backwards, for which Prometheus counts all of it once more.
    """

    __slots__ = ("parts",)
    parts: Sequence[float]

    def __new__(cls, parts: Sequence[float]) -> "Rounded":
        """Add up, in whatever order they are, to the number that is nearest to their sum."""
        total = super().__new__(cls, math.fsum(parts))
        total.parts = parts
        return total

    def rests(self) -> Iterator[float]:
        """Walk through what is missing to the exact sum, from the largest to the smallest."""
        told = [-float(self)]
        while rest := math.fsum((*self.parts, *told)):
            told.append(-rest)
            yield rest


def total(a: float, b: float) -> float:
    """Add two numbers so that it does not matter in which order numbers are added.

    >>> total(total(0.1, 0.2), 0.3) == total(0.1, total(0.2, 0.3)) == 0.6
    True
    """
    simple = a + b
    is_exact = simple - a == b and simple - b == a
    if not math.isfinite(simple) or (is_exact and Rounded not in (a.__class__, b.__class__)):
        return simple
    return Rounded((*getattr(a, "parts", (a,)), *getattr(b, "parts", (b,))))


def plus(mine: Series, theirs: Series) -> Series:
    """Add up two sums or histograms; of other bounds, those stay that both have, where counts are exact."""
    shared = mine[1]
    if shared != theirs[1]:
        shared = tuple(bound for bound in shared if bound in theirs[1])
        mine, theirs = _narrowed(mine, shared), _narrowed(theirs, shared)
    a, b = mine[0], theirs[0]
    if len(a) <= BUCKETS:
        return (total(a[TOTAL], b[TOTAL]),), (), mine[2] + theirs[2]
    counts = map(add, a[BUCKETS:], b[BUCKETS:])
    return (total(a[TOTAL], b[TOTAL]), *a[TOTAL + 1 : BUCKETS], *counts), shared, mine[2] + theirs[2]


def _narrowed(series: Series, shared: tuple[float, ...]) -> Series:
    numbers, bounds, exemplars = series
    counts = [0.0] * (len(shared) + 1)
    for bound, count in zip((*bounds, math.inf), numbers[BUCKETS:], strict=True):
        counts[bisect_left(shared, bound)] += count
    return (*numbers[:BUCKETS], *counts), shared, exemplars


def without_quantiles(mine: Series, theirs: Series) -> Series:
    """Add up what two summaries have counted; quantiles of one process say nothing about both."""
    a, b = mine[0], theirs[0]
    return (total(a[TOTAL], b[TOTAL]), a[COUNT] + b[COUNT]), (), ()


def chosen(mine: Series, theirs: Series, across: Across) -> Series:
    """Choose between two values of a gauge, by its rule."""
    a, b = mine[0], theirs[0]
    latest = max(a[SET_AT], b[SET_AT])
    if across == "sum":
        return (total(a[TOTAL], b[TOTAL]), latest), (), ()
    if across == "max":
        return (max(a[TOTAL], b[TOTAL]), latest), (), ()
    if across == "min":
        return (min(a[TOTAL], b[TOTAL]), latest), (), ()
    return theirs if b[SET_AT] >= a[SET_AT] else mine


def exemplar_by_bucket(series: Series) -> dict[int, Measured]:
    """Place each exemplar on the bucket whose range holds its value; the latest one stays."""
    _, bounds, exemplars = series
    return {bisect_left(bounds, exemplar[0]): exemplar for exemplar in sorted(exemplars, key=_time)}


def _time(exemplar: Measured) -> int:
    return exemplar[1]


@dataclass(frozen=True, slots=True)
class Heading:
    """Say what the series of a family have in common.

    Attributes:
        name: Without the suffixes that its kind adds.
        kind: What they measure.
        help: What they mean.
        unit: In words.
        across: Which value of a gauge stands for all that set it.
    """

    name: str
    kind: FamilyKind
    help: str = ""
    unit: str = ""
    across: Across = "last"

    @property
    def type(self) -> str:
        """Name the OpenMetrics type."""
        return _OPENMETRICS_TYPE[self.kind]


@dataclass(frozen=True, slots=True)
class Family:
    """Hold the series that share a name, by the text of their labels."""

    heading: Heading
    series: dict[str, Series] = field(default_factory=dict)

    def add(self, labels: str, series: Series) -> None:
        """Add a series; of a gauge that is there already, the rule says which value stays."""
        known = self.series.get(labels)
        if known is None:
            self.series[labels] = series
        elif self.heading.kind == "gauge":
            self.series[labels] = chosen(known, series, self.heading.across)
        elif self.heading.kind == "summary":
            self.series[labels] = without_quantiles(known, series)
        else:
            self.series[labels] = plus(known, series)


class Exposition:
    """Gather families for one scrape, each name once."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._owners: dict[str, str] = {}

    @property
    def families(self) -> Iterable[Family]:
        """List the families in the order they came."""
        return self._families.values()

    def open(self, heading: Heading) -> Family | None:
        """Return the family to add series to.

        Args:
            heading: Families of one name and type are one; the first one's help, unit and rule stay.

        Returns:
            None when its names belong to another family or to another type.
        """
        known = self._families.get(heading.name)
        if known is not None:
            return known if known.heading.type == heading.type else None
        names = [heading.name + suffix for suffix in _RESERVED_SUFFIXES[heading.type]]
        if any(name in self._owners for name in names):
            return None
        self._owners.update(dict.fromkeys(names, heading.name))
        self._families[heading.name] = family = Family(heading)
        return family

    def render(self, *, openmetrics: bool, pause: Callable[[], object] = lambda: None) -> str:
        """Write the families as text, in OpenMetrics or in the classic format.

        Args:
            openmetrics: Which format.
            pause: Called after each series, to let others have their turn.
        """
        lines: list[str] = []
        for family in self.families:
            if family.series:
                lines.extend(_metadata_lines(family.heading, openmetrics=openmetrics))
                write = _WRITERS.get(family.heading.kind, _number_line)
                for labels, series in family.series.items():
                    write(family.heading, labels, series, lines, openmetrics)
                    pause()
        lines.append("# EOF\n" if openmetrics else "")
        return "\n".join(lines)


def _metadata_lines(heading: Heading, *, openmetrics: bool) -> Iterator[str]:
    name = heading.name if openmetrics else heading.name + _SAMPLE_SUFFIX.get(heading.kind, "")
    if heading.help:
        escapes = _LABEL_ESCAPES if openmetrics else _CLASSIC_HELP_ESCAPES
        yield f"# HELP {name} {heading.help.translate(escapes)}"
    yield f"# TYPE {name} {'gauge' if heading.kind == 'info' and not openmetrics else heading.type}"
    if openmetrics and heading.unit and name.endswith(f"_{heading.unit}"):
        yield f"# UNIT {name} {heading.unit}"


def _number_line(heading: Heading, labels: str, series: Series, lines: list[str], openmetrics: bool) -> None:
    braces = f"{{{labels}}}" if labels else ""
    line = f"{heading.name}{_SAMPLE_SUFFIX.get(heading.kind, '')}{braces} {_number(series[0][TOTAL])}"
    if openmetrics and series[2] and heading.kind == "counter":
        line += _exemplar_suffix(max(series[2], key=_time))
    lines.append(line)


def _histogram_lines(
    heading: Heading, labels: str, series: Series, lines: list[str], openmetrics: bool
) -> None:
    numbers, bounds, exemplars = series
    head = f"{heading.name}_bucket{{{labels},le=" if labels else f"{heading.name}_bucket{{le="
    counts = list(accumulate(map(int, numbers[BUCKETS:])))
    first = len(lines)
    lines.extend([f"{head}{le}{n}" for le, n in zip(_bound_texts(bounds), counts, strict=True)])
    if openmetrics and exemplars:
        for bucket, exemplar in exemplar_by_bucket(series).items():
            lines[first + bucket] += _exemplar_suffix(exemplar)
    # Both formats want a sum that only grows, and OpenMetrics no count without one.
    if not bounds or bounds[0] >= 0:
        braces = f"{{{labels}}}" if labels else ""
        lines.append(f"{heading.name}_sum{braces} {_number(numbers[TOTAL])}")
        lines.append(f"{heading.name}_count{braces} {counts[-1]}")


def _summary_lines(
    heading: Heading, labels: str, series: Series, lines: list[str], _openmetrics: bool
) -> None:
    numbers, quantiles, _ = series
    head = f"{heading.name}{{{labels},quantile=" if labels else f"{heading.name}{{quantile="
    values = numbers[QUANTILES:]
    lines.extend([f'{head}"{q!r}"}} {_number(value)}' for q, value in zip(quantiles, values, strict=True)])
    braces = f"{{{labels}}}" if labels else ""
    lines.append(f"{heading.name}_sum{braces} {_number(numbers[TOTAL])}")
    lines.append(f"{heading.name}_count{braces} {int(numbers[COUNT])}")


_WRITERS: Mapping[FamilyKind, Callable[[Heading, str, Series, list[str], bool], None]] = {
    "histogram": _histogram_lines,
    "summary": _summary_lines,
}


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Write labels as they stand in braces."""
    return ",".join(f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels)


def _exemplar_suffix(exemplar: Measured) -> str:
    value, time_unix_nano, trace_id, span_id = exemplar
    labels = f'trace_id="{trace_id:032x}",span_id="{span_id:016x}"'
    return f" # {{{labels}}} {_number(value)} {time_unix_nano / 1e9:.3f}"


def _number(value: float) -> str:
    if value - value == 0:  # neither NaN nor infinite
        return repr(float(value))
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


# Bounds are declared, so few; each costs up to seventeen attempts.
@lru_cache(maxsize=256)
def _bound_texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f'"{_bound(bound)}"}} ' for bound in (*bounds, math.inf))


def _bound(bound: float) -> str:
    if math.isinf(bound) or abs(bound) < _EXPONENT_FROM:
        return _number(bound)
    attempts = (f"{bound:.{digits}e}" for digits in range(_SIGNIFICANT_DIGITS))
    return next(text for text in attempts if float(text) == bound)
