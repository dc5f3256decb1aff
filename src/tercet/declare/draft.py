"""Promises that others wrote in their own form, as drafts of objectives, and what is lost on the way."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from tercet.declare.burn_rate import PERIODS, WINDOWS, burn_rate, duration
from tercet.declare.objective import shown_share
from tercet.declare.outline import Value
from tercet.declare.parse import Unusable
from tercet.declare.quantity import is_name, prose
from tercet.declare.query import parse_query, parse_ratio

Key = Literal["bad", "good", "total", "ratio"]
#: Labels under which people say who answers for a service.
_TEAMS = ("team", "owner")
_FIRST_ACTION = ("runbook", "runbook_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An objective as far as others have written it down.

    Attributes:
        place: The file and the line that it comes from.
        service: Who promises.
        name: Unique in its service.
        queries: The keys and texts of its queries.
        target: The share that must be good.
        period: Over which time.
        off: The windows of which nobody is told.
        impact: Who suffers, as far as they said; empty where they did not.
        runbook: Where they wrote down what to do; empty where they did not.
    """

    place: str
    service: str
    name: str
    queries: tuple[tuple[Key, str], ...]
    target: Decimal
    period: str
    off: tuple[str, ...] = ()
    impact: str = ""
    runbook: str = ""


@dataclass(frozen=True, slots=True)
class Losses:
    """What cannot be carried over: each thing once, with all the places where it was."""

    places: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def tell(self, value: Value, what: str) -> None:
        """Note that something of a place is lost."""
        places = self.places.setdefault(what, [])
        if (place := place_of(value)) not in places:
            places.append(place)

    def leave_out(self, value: Value, what: str) -> None:
        """Note that a whole objective is lost."""
        self.tell(value, what)
        self.left_out.append(place_of(value))


@dataclass(slots=True)
class Imported:
    """What was read from others' files.

    Attributes:
        sources: The names of the files.
        drafts: The objectives, in the order of the files.
        teams: Who answers for a service, where they said.
        losses: What could not be carried over.
    """

    sources: list[str] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    teams: dict[str, str] = field(default_factory=dict)
    losses: Losses = field(default_factory=Losses)

    def add(self, value: Value, draft: Draft) -> None:
        """Add an objective.

        Raises:
            ObjectivesError: Its service has one of that name already.
        """
        for other in self.drafts:
            if (other.service, other.name) == (draft.service, draft.name):
                raise value.refused(f"unique in {draft.service} ({other.place} is as well)", "Rename it.")
        self.drafts.append(draft)

    def answer_for(self, service: str, labels: Value | None) -> None:
        """Take from labels who answers for a service; what else they say is lost."""
        fields = labels.fields() if labels is not None and not _is_empty(labels) else {}
        for key, label in fields.items():
            team = str(label.each()[0].node.value) if key in _TEAMS and not _is_empty(label) else ""
            if not is_name(team) or self.teams.setdefault(service, team) != team:
                self.losses.tell(label, "labels: alerts carry service, team, slo and severity, and no others")


class Taking:
    """The values of a mapping, of which each that nobody takes is told as lost."""

    def __init__(self, value: Value) -> None:
        self.whole = value
        self._fields = value.fields()

    def take(self, key: str) -> Value | None:
        """Take a value that may not be there."""
        return self._fields.pop(key, None)

    def needed(self, key: str, mend: str) -> Value:
        """Take a value that must be there."""
        value = self._fields.needed(key, mend)
        del self._fields[key]
        return value

    def part(self, key: str) -> "Taking | None":
        """Take a mapping that may not be there."""
        value = self.take(key)
        return None if value is None or _is_empty(value) else Taking(value)

    def look(self, key: str) -> Value | None:
        """Look at a value without taking it."""
        return self._fields.get(key)

    def names(self) -> list[str]:
        """List the keys that nobody has taken yet."""
        return list(self._fields)

    def tell_rest(self, losses: Losses, why: Mapping[str, str]) -> None:
        """Tell what was not taken, and why, as far as that is known."""
        for key, value in self._fields.items():
            if not _is_empty(value):
                losses.tell(value, f"{key}: {why.get(key, 'nothing stands for it here')}")
        self._fields.clear()


def place_of(value: Value) -> str:
    """Name the file and the line of a value."""
    return f"{value.source}:{value.line}"


def _is_empty(value: Value) -> bool:
    return value.node.value in ([], "", "~", "null")


def told(value: Value | None, losses: Losses) -> str:
    """Take a text for people, unless it is a template, which only others can fill in."""
    if value is None or _is_empty(value):
        return ""
    try:
        return prose(value.node.value if value.node.id == "scalar" else "")
    except Unusable:
        losses.tell(value, "texts that are templates, or no texts: nobody can fill them in here")
        return ""


def runbook_of(annotations: Taking | None, losses: Losses) -> str:
    """Take from annotations where somebody wrote down what to do."""
    given = [told(annotations.take(key), losses) for key in _FIRST_ACTION] if annotations else []
    return next(filter(None, given), "")


def percentage(text: str) -> Decimal:
    """Take a target in percent, without a sign.

    >>> percentage("99.9")
    Decimal('0.999')
    """
    try:
        share = Decimal(text.strip()) / 100
        is_share = 0 < share < 1
    except ArithmeticError:  # it is no number, or the one that is none
        is_share = False
    if not is_share:
        raise Unusable("a percentage above 0 and below 100", "Write 99.9.")
    return share


def ratio(text: str) -> Decimal:
    """Take a target as a share."""
    try:
        return percentage(str(Decimal(text.strip()) * 100))
    except (Unusable, ArithmeticError):
        raise Unusable("a share above 0 and below 1", "Write 0.999.") from None


def checked_query(text: str) -> str:
    """Take a query over a window."""
    return parse_query(text).text


def checked_ratio(text: str) -> str:
    """Take a query that may be over a window."""
    return parse_ratio(text).text


def deaf_windows(target: Value, share: Decimal, period: str, losses: Losses) -> Iterator[str]:
    """List the windows that could never tell anybody, even if everything were bad."""
    for window in WINDOWS:
        factor = burn_rate(window, PERIODS[period])
        if (bad := factor * Fraction(1 - share)) >= 1:
            named = duration(window.long)
            arithmetic = f"{float(factor):g} times {shown_share(1 - share)} is {shown_share(bad)}"
            losses.tell(target, f"the alert of {named}: {arithmetic}, which never happens")
            yield named
