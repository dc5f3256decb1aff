"""Error budgets as Prometheus has recorded them, and whether enough of them is left."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal

from tercet.ask.prometheus import Sample
from tercet.declare.burn_rate import RESPONSES
from tercet.declare.objective import Objective, shown_share
from tercet.errors import SettingsError
from tercet.generate import names, rules
from tercet.generate.promql import Match, one_of, select

Health = Literal["GREEN", "YELLOW", "RED", "NO DATA"]
#: From a PromQL expression to what it is now.
Query = Callable[[str], Sequence[Sample]]

#: The share of the budget below which somebody should look ahead.
SCARCE = 0.25
_ALERTS, _FIRING = "ALERTS", "firing"
_NOW = names.bad_ratio(rules.RAW)
_READ = (names.REMAINING, names.REMAINING_MINUTES, names.PERIOD_RATIO, names.TARGET, _NOW, _ALERTS)
# What one event moves a budget by is more, and what sums of floating-point numbers leave is less.
_NOISE = 1e-9


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert on an objective that somebody is told of right now."""

    alert: str
    severity: str

    @property
    def is_page(self) -> bool:
        """Whether it wakes somebody."""
        response = RESPONSES.get(self.severity)
        return response is not None and response.notify == "page"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is left of an objective's budget in one environment; None is what nobody knows.

    Attributes:
        objective: What was promised.
        environment: Where; empty where telemetry does not say.
        remaining: The share of the budget that is left; negative when more than all of it is gone.
        minutes: The same as minutes in which everything may be bad.
        error_ratio: The share of bad events over the period.
        burn_rate: How many times too fast the budget went in the last five minutes.
        watched: The target that Prometheus' rules were generated for.
        firing: The alerts on it that fire.
        seen_in: The environments that have data.
    """

    objective: Objective
    environment: str
    remaining: float | None = None
    minutes: float | None = None
    error_ratio: float | None = None
    burn_rate: float | None = None
    watched: float | None = None
    firing: tuple[Firing, ...] = ()
    seen_in: tuple[str, ...] = ()

    @property
    def is_outdated(self) -> bool:
        """Whether Prometheus' rules were generated for another target than the document has."""
        return self.watched is not None and not math.isclose(
            self.watched, self.objective.target, abs_tol=1e-9
        )

    @property
    def unknown(self) -> str:
        """Say why nobody can tell how much is left; empty when it is known."""
        if self.is_outdated and self.watched is not None:
            watched = shown_share(Decimal(repr(self.watched)))
            return f"Prometheus watches {watched}: load what `tercet generate` wrote"
        if self.remaining is None:
            elsewhere = ", ".join(each or "none" for each in self.seen_in)
            return f"no data here, but in: {elsewhere}" if elsewhere else "no data"
        return ""

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left for sure."""
        return not self.unknown and not self.has(2 * _NOISE)

    @property
    def health(self) -> Health:
        """How it is, in a word: RED is out of budget or pages, YELLOW is scarce or has a ticket."""
        if self.remaining is None or self.unknown:
            return "NO DATA"
        if self.is_spent or any(each.is_page for each in self.firing):
            return "RED"
        return "YELLOW" if self.remaining < SCARCE or self.firing else "GREEN"

    def has(self, share: float) -> bool:
        """Say whether at least a share of the budget is known to be left."""
        return self.remaining is not None and not self.unknown and self.remaining >= share - _NOISE


def choose(
    objectives: Iterable[Objective], services: Sequence[str], wanted: Sequence[str]
) -> list[Objective]:
    """Choose objectives by the names of their services and their own; all of them by none.

    Raises:
        SettingsError: A name chooses nothing.
    """
    everything = list(objectives)
    chosen = [one for one in everything if not services or one.service.name in services]
    _refuse_unknown("--service", services, [one.service.name for one in everything])
    _refuse_unknown("--objective", wanted, [one.name for one in chosen])
    return [one for one in chosen if not wanted or one.name in wanted]


def _refuse_unknown(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            close = get_close_matches(name, known, n=1) or sorted(set(known))
            raise SettingsError(
                f"{option} must be in the document, got {name!r}. Write {close[0]}, for example."
            )


def read_budgets(
    query: Query, objectives: Sequence[Objective], environments: Sequence[str] = ()
) -> list[Budget]:
    """Read what Prometheus has recorded of objectives, in one question.

    Args:
        query: Asks Prometheus.
        objectives: Which of them.
        environments: Where; without any, wherever there is data.

    Returns:
        One for each objective and environment, the worst first; without data where there is none.

    Raises:
        PrometheusError: Prometheus cannot be asked.
    """
    services = sorted({objective.service.name for objective in objectives})
    matches = one_of("__name__", _READ), one_of(names.SERVICE, services), Match(names.SLO, "!=", "")
    recorded = _by_place(query(select("", *matches)))
    found = [each for one in objectives for each in _of(one, recorded[_key(one)], environments)]
    return sorted(found, key=_urgency)


def _key(objective: Objective) -> tuple[str, str]:
    return objective.service.name, objective.name


# What is recorded of an objective, by environment.
_Recorded = Mapping[str, list[Sample]]


def _by_place(samples: Iterable[Sample]) -> Mapping[tuple[str, str], _Recorded]:
    places: dict[tuple[str, str], dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in samples:
        labels = sample.labels
        key = labels.get(names.SERVICE, ""), labels.get(names.SLO, "")
        places[key][labels.get(names.ENVIRONMENT, "")].append(sample)
    return places


def _of(objective: Objective, recorded: _Recorded, environments: Sequence[str]) -> Iterator[Budget]:
    known = tuple(
        sorted(where for where, samples in recorded.items() if _least(samples, names.REMAINING) is not None)
    )
    for where in environments or known or ("",):
        here = recorded.get(where, [])
        now = _most(here, _NOW)
        # Targets and some alerts are not of one environment.
        everywhere = recorded.get("", [])
        yield Budget(
            objective=objective,
            environment=where,
            remaining=_least(here, names.REMAINING),
            minutes=_least(here, names.REMAINING_MINUTES),
            error_ratio=_most(here, names.PERIOD_RATIO),
            burn_rate=None if now is None else now / float(objective.budget),
            watched=_least(everywhere, names.TARGET),
            firing=tuple(_firing((*here, *everywhere))),
            seen_in=known,
        )


def _values(samples: Iterable[Sample], name: str) -> list[float]:
    return [
        sample.value
        for sample in samples
        if sample.labels.get("__name__") == name and math.isfinite(sample.value)
    ]


# Where replicas of Prometheus differ, the worst counts.


def _least(samples: Iterable[Sample], name: str) -> float | None:
    return min(_values(samples, name), default=None)


def _most(samples: Iterable[Sample], name: str) -> float | None:
    return max(_values(samples, name), default=None)


def _firing(samples: Iterable[Sample]) -> Iterator[Firing]:
    alerts = {
        Firing(sample.labels.get("alertname", ""), sample.labels.get("severity", ""))
        for sample in samples
        if sample.labels.get("__name__") == _ALERTS and sample.labels.get("alertstate") == _FIRING
    }
    yield from sorted(alerts, key=lambda each: (each.severity, each.alert))


_WORST_FIRST: tuple[Health, ...] = ("RED", "NO DATA", "YELLOW", "GREEN")


def _urgency(budget: Budget) -> tuple[int, float]:
    return _WORST_FIRST.index(budget.health), budget.remaining or 0.0
