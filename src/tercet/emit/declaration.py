"""What all kinds of declared metrics have in common."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from operator import itemgetter
from typing import Any, Generic, TypeVar

from tercet.declare.metric import LONGEST_VALUE, Kind, Metric, Values
from tercet.emit.ledger import Gauges, Ledger, Sums
from tercet.emit.registry import Registry
from tercet.emit.series import Series, cleaned

#: Combinations of attributes: each key with its values, or each combination by itself.
Ready = Mapping[str, Iterable[object]] | Iterable[Mapping[str, object]]
#: What is asked at each collection: a number, or pairs of attributes and a number.
Observe = Callable[[], "float | Iterable[tuple[Mapping[str, object], float]]"]
L = TypeVar("L", bound=Ledger)

_PLAIN = frozenset({int, float})
#: Floats hold each whole number up to here; what is beyond is made one with care.
MOST = 2**53


class Declared(Generic[L]):
    """What all kinds have in common: a declaration, its ledger, and the way from keywords to a series."""

    _least = 0

    def __init__(self, metric: Metric, registry: Registry, ready: Ready = ()) -> None:
        self._registry = registry
        ledger, self._other = registry.declare(metric)
        self._ledger: L = ledger  # type: ignore[assignment] # each kind has its own
        # A number of attributes that none has leads to the way where all is looked at.
        self._count = -1 if self._other is not None else len(metric.attributes)
        self._pick = _picker(metric.attributes)
        for attributes in _combinations(ready):
            self._series(attributes, is_kept=True)

    @property
    def metric(self) -> Metric:
        """The declaration."""
        return self._ledger.metric

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.metric.name}>"

    def _series(self, attributes: Mapping[str, object], *, is_kept: bool = False) -> Series:
        try:
            if len(attributes) == self._count:
                return self._ledger.series(self._pick(attributes), is_kept=is_kept)
        except Exception:  # noqa: S110 - a key is missing, or a value is none that can be looked up: see below
            pass
        return self._ledger.series(self._values(attributes), is_kept=is_kept)

    def _values(self, attributes: Mapping[str, object]) -> Values:
        metric = self.metric
        if self._other is not None:
            other = self._other
            message = (
                f"name must be its own, but {other.name} is declared already, as {other.kind} with "
                f"{other.attributes!r}. Choose another name, or declare it once and import it."
            )
            self._registry.refuse(metric, "name_clash", message)
        unknown = attributes.keys() - set(metric.attributes)
        if unknown:
            got = ", ".join(sorted(map(repr, unknown)))[:LONGEST_VALUE]
            message = (
                f"attributes must be among {metric.attributes!r}, got {got}. Declare it, or leave it out."
            )
            self._registry.refuse(metric, "unknown_attribute", message)
        return tuple(cleaned(attributes.get(key)) for key in metric.attributes)

    def _number(self, value: Any) -> float | None:
        """Return a value as a number, or None where it is none that this metric can measure."""
        if type(value) in _PLAIN and self._least <= value <= MOST:
            return value  # type: ignore[no-any-return] # one of the plain types
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except Exception:  # Not a number at all, or one too large.
            number = math.nan
        if not math.isfinite(number):
            message = f"a measurement must be a finite number, got {cleaned(value)!r}. Leave it out."
            self._registry.refuse(self.metric, "not_a_number", message)
            return None
        if number < 0 <= self._least:
            mend = "Use an UpDownCounter." if self.metric.kind == "counter" else "Leave it out."
            message = f"a measurement must be zero or more, got {number:g}. {mend}"
            self._registry.refuse(self.metric, "negative", message)
            return None
        return number


A = TypeVar("A", Sums, Gauges)


class Asked(Declared[A]):
    """A kind whose values can be asked for, when metrics are collected."""

    def _ask_with(self, observe: Observe | None) -> None:
        if observe is not None and self._other is None:
            self._observe = observe
            self._ledger.ask = self._ask

    def _ask(self) -> None:
        try:
            told = self._observe()
            pairs = told if isinstance(told, Iterable) else [({}, told)]
            self._ledger.keep_only({id(self._take(dict(attributes), value)) for attributes, value in pairs})
        except Exception as error:  # It is the application's, and the other metrics want to be collected.
            message = f"observe must return a number, but failed with {error!r}. Mend it."
            self._registry.count(self.metric, "callback_failed", message)

    def _take(self, attributes: Mapping[str, object], value: float) -> Series | None:
        number = self._number(value)
        if number is None:
            return None
        series = self._series(attributes)
        self._ledger.reach(series, number)
        return series


def build_metric(
    kind: Kind, name: str, meaning: str, unit: str, attributes: Sequence[str], **traits: Any
) -> Metric:
    """Put a declaration together."""
    # A text is a sequence, too; as it stands, it breaks the rule for attributes, which says so.
    keys: Any = attributes if isinstance(attributes, str) else tuple(attributes)
    return Metric(name, kind, unit, meaning, keys, **traits)


def _picker(keys: Sequence[str]) -> Callable[[Mapping[str, object]], Any]:
    """Return what takes the values of some keys out of a mapping, as fast as can be."""
    if not keys:
        return lambda attributes: ()
    pick = itemgetter(*keys)
    return pick if len(keys) > 1 else lambda attributes: (pick(attributes),)


def at_once(attributes: Sequence[str], observe: Observe | None = None) -> Ready:
    """Say that the only series is there from the declaration on, where there can be but one."""
    return () if attributes or observe is not None else ({},)


def _combinations(ready: Ready) -> Iterator[Mapping[str, object]]:
    if not isinstance(ready, Mapping):
        yield from ready
    else:
        for values in product(*ready.values()):
            yield dict(zip(ready, values, strict=True))
