"""The text that Prometheus scrapes: families of series, merged so that no series appears twice, and rendered.

Two formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4, called classic here) and
https://prometheus.io/docs/specs/om/open_metrics_spec/ (OpenMetrics 1.0, which alone has units and exemplars).
Pure: knows nothing of the SDK that measured, nor of the HTTP that serves.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from tercet.declare.metric import Kind

FamilyKind = Kind | Literal["info"]
Labels = tuple[tuple[str, str], ...]

_SAMPLE_SUFFIX: Mapping[FamilyKind, str] = {"counter": "_total", "info": "_info"}
_OPENMETRICS_TYPE: Mapping[FamilyKind, str] = {
    "counter": "counter",
    "up_down_counter": "gauge",
    "gauge": "gauge",
    "histogram": "histogram",
    "info": "info",
}
_RESERVED_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_CLASSIC_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_EXPONENT_FROM = 1e6  # as Go's shortest format, which OpenMetrics makes canonical for `le`
_SIGNIFICANT_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Exemplar:
    """Hold one measurement and the span it was taken in."""

    value: float
    time_unix_nano: int
    trace_id: str
    span_id: str


@dataclass(frozen=True, slots=True)
class Series:
    """Hold what one label set measured.

    Attributes:
        value: The number; for a histogram the sum of its measurements.
        buckets: For a histogram, upper bound to cumulative count, ascending, with infinity last.
        exemplars: Measurements that lead to a trace, in any order.
    """

    value: float
    buckets: Mapping[float, int] = field(default_factory=dict)
    exemplars: tuple[Exemplar, ...] = ()

    def plus(self, other: "Series") -> "Series":
        """Add both up; histograms keep the bounds that both have, where cumulative counts stay exact."""
        shared = {
            bound: n + other.buckets[bound] for bound, n in self.buckets.items() if bound in other.buckets
        }
        return Series(self.value + other.value, shared, self.exemplars + other.exemplars)

    def exemplar_by_bound(self) -> dict[float, Exemplar]:
        """Place each exemplar on the bucket whose range holds its value; the latest one stays."""
        bounds = tuple(self.buckets) or (math.inf,)
        ordered = sorted(self.exemplars, key=lambda exemplar: exemplar.time_unix_nano)
        return {bounds[bisect_left(bounds, exemplar.value)]: exemplar for exemplar in ordered}


@dataclass(frozen=True, slots=True)
class Family:
    """Hold the series that share a name, without the suffixes that its kind adds."""

    name: str
    kind: FamilyKind
    help: str = ""
    unit: str = ""
    series: dict[Labels, Series] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """Name the OpenMetrics type."""
        return _OPENMETRICS_TYPE[self.kind]

    def add(self, labels: Labels, series: Series) -> None:
        """Add a series; one that exists already is replaced in a gauge and added to in every other kind."""
        known = self.series.get(labels)
        self.series[labels] = series if known is None or self.kind == "gauge" else known.plus(series)


class Exposition:
    """Gather families for one scrape, each name once."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._owners: dict[str, str] = {}

    @property
    def families(self) -> Iterable[Family]:
        """List the families in the order they came."""
        return self._families.values()

    def add(self, family: Family) -> bool:
        """Merge a family in.

        Args:
            family: Families of one name and type become one; the first one's help and unit stay.

        Returns:
            False, with nothing added, when its names belong to another family or to another type.
        """
        names = [family.name + suffix for suffix in _RESERVED_SUFFIXES[family.type]]
        if any(self._owners.get(name, family.name) != family.name for name in names):
            return False
        known = self._families.setdefault(family.name, family)
        if known.type != family.type:
            return False
        self._owners.update(dict.fromkeys(names, family.name))
        if known is not family:
            for labels, series in family.series.items():
                known.add(labels, series)
        return True

    def render(self, *, openmetrics: bool) -> str:
        """Write the families as text, in OpenMetrics or in the classic format."""
        lines = [line for family in self.families for line in _family_lines(family, openmetrics=openmetrics)]
        if openmetrics:
            lines.append("# EOF")
        return "".join(f"{line}\n" for line in lines)


def _family_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    yield from _metadata_lines(family, openmetrics=openmetrics)
    sample_lines = _histogram_lines if family.kind == "histogram" else _number_lines
    for labels, series in family.series.items():
        yield from sample_lines(family, labels, series, series.exemplar_by_bound() if openmetrics else {})


def _metadata_lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    name = family.name if openmetrics else family.name + _SAMPLE_SUFFIX.get(family.kind, "")
    if family.help:
        escapes = _LABEL_ESCAPES if openmetrics else _CLASSIC_HELP_ESCAPES
        yield f"# HELP {name} {family.help.translate(escapes)}"
    yield f"# TYPE {name} {'gauge' if family.kind == 'info' and not openmetrics else family.type}"
    if openmetrics and family.unit and name.endswith(f"_{family.unit}"):
        yield f"# UNIT {name} {family.unit}"


def _number_lines(
    family: Family, labels: Labels, series: Series, exemplars: Mapping[float, Exemplar]
) -> Iterator[str]:
    name = family.name + _SAMPLE_SUFFIX.get(family.kind, "")
    exemplar = exemplars.get(math.inf) if family.kind == "counter" else None
    yield f"{name}{_braces(_pairs(labels))} {_number(series.value)}{_exemplar_suffix(exemplar)}"


def _histogram_lines(
    family: Family, labels: Labels, series: Series, exemplars: Mapping[float, Exemplar]
) -> Iterator[str]:
    pairs = _pairs(labels)
    for bound, count in series.buckets.items():
        braces = _braces([*pairs, f'le="{_bound(bound)}"'])
        yield f"{family.name}_bucket{braces} {count}{_exemplar_suffix(exemplars.get(bound))}"
    # Both formats want a sum that only grows, and OpenMetrics no count without one.
    if min(series.buckets) >= 0:
        yield f"{family.name}_sum{_braces(pairs)} {_number(series.value)}"
        yield f"{family.name}_count{_braces(pairs)} {series.buckets[math.inf]}"


def _pairs(labels: Labels) -> list[str]:
    return [f'{name}="{value.translate(_LABEL_ESCAPES)}"' for name, value in labels]


def _braces(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _exemplar_suffix(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    labels = _braces(_pairs((("trace_id", exemplar.trace_id), ("span_id", exemplar.span_id))))
    return f" # {labels} {_number(exemplar.value)} {exemplar.time_unix_nano / 1e9:.3f}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


# Bounds are declared, so few; each costs up to seventeen attempts.
@lru_cache(maxsize=1024)
def _bound(bound: float) -> str:
    if math.isinf(bound) or abs(bound) < _EXPONENT_FROM:
        return _number(bound)
    attempts = (f"{bound:.{digits}e}" for digits in range(_SIGNIFICANT_DIGITS))
    return next(text for text in attempts if float(text) == bound)
