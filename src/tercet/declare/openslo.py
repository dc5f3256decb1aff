"""OpenSLO v1 (https://github.com/OpenSLO/OpenSLO), read as drafts of objectives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from tercet.declare.draft import (
    Draft,
    Imported,
    Key,
    Losses,
    Taking,
    checked_query,
    checked_ratio,
    deaf_windows,
    percentage,
    place_of,
    ratio,
    runbook_of,
    told,
)
from tercet.declare.outline import Value
from tercet.declare.parse import Unusable, boolean
from tercet.declare.quantity import name, one_of
from tercet.declare.query import free_windows, rated

VERSIONS = ("openslo/v1", "openslo.com/v1")
#: What others than an SLO and its SLI are here.
_WHY_KINDS = {
    "Service": "a service has a team, a namespace and a runbook, and no description",
    "DataSource": "rules are evaluated by the Prometheus that loads them",
    "AlertPolicy": "four paces are watched in place of alert policies",
    "AlertCondition": "four paces are watched in place of alert policies",
    "AlertNotificationTarget": "who is told stands under contacts",
}
_KINDS = ("SLO", "SLI", *_WHY_KINDS)
_WHY = {
    "displayName": "objectives have a name and no other",
    "alertPolicies": _WHY_KINDS["AlertPolicy"],
    "labels": "alerts carry service, team, slo and severity, and no others",
    "annotations": "alerts say what is measured and what the runbook says",
    "metricSourceRef": _WHY_KINDS["DataSource"],
    "calendar": "a month begins on its first day, in UTC",
}
#: What answers in PromQL.
_PROMETHEUS = ("prometheus", "promql", "mimir", "thanos", "cortex", "victoriametrics")
_ROLLING = {"28d": "28d", "4w": "28d", "30d": "30d"}
_A_MINUTE = ("1m", "60s")
#: From the operator of what is good to that of what is bad.
_WORSE = {"lte": ">", "lt": ">=", "gte": "<", "gt": "<="}
_MOST_DIGITS = 30
_METHODS = ("Occurrences", "Timeslices", "RatioTimeslices")

#: Documents by kind and name.
_Library = Mapping[tuple[str, str], Value]
_Queries = tuple[tuple[Key, str], ...]


class _Elsewhere(Exception):  # noqa: N818 - it never leaves this file
    """Say that something cannot be computed by Prometheus."""


def read_openslo(documents: list[Value], imported: Imported) -> None:
    """Read documents that refer to each other.

    Args:
        documents: All of them, of whatever kind.
        imported: Where objectives, teams and losses go.

    Raises:
        ObjectivesError: Something in one cannot be used; the message names the line.
    """
    library: dict[tuple[str, str], Value] = {}
    for document in documents:
        key = _key(document)
        if key in library:
            raise document.refused(f"the only {key[0]} named {key[1]}", "Rename one of the two.")
        library[key] = document
    for (kind, named), document in library.items():
        if kind == "Service":
            imported.answer_for(named, document.fields()["metadata"].fields().get("labels"))
        if kind in _WHY_KINDS:
            imported.losses.tell(document, f"{kind}: {_WHY_KINDS[kind]}")
    used: set[str] = set()
    for (kind, named), document in library.items():
        if kind == "SLO":
            _Slo(document, named, library, used, imported).read()
    for (kind, named), document in library.items():
        if kind == "SLI" and named not in used:
            imported.losses.tell(document, "SLI: no SLO refers to it")


def _key(document: Value) -> tuple[str, str]:
    fields = document.fields()
    kind = fields.needed("kind", "Write SLO.").read(one_of({kind: kind for kind in _KINDS}))
    metadata = fields.needed("metadata", "Write name below it.").fields()
    return kind, metadata.needed("name", "Write the name.").read(name)


class _Slo:
    """Read one SLO, and what it refers to."""

    def __init__(
        self, document: Value, named: str, library: _Library, used: set[str], imported: Imported
    ) -> None:
        self._document, self._name, self._imported = document, named, imported
        self._library, self._used, self._losses = library, used, imported.losses

    def read(self) -> None:
        top = Taking(self._document)
        for key in ("apiVersion", "kind"):
            top.take(key)
        metadata = Taking(top.needed("metadata", "Write name below it."))
        metadata.take("name")
        spec = Taking(top.needed("spec", "Write service, indicator and objectives below it."))
        service = spec.needed("service", "Write the service's name.").read(name)
        self._imported.answer_for(service, metadata.take("labels"))
        annotations = metadata.part("annotations")
        runbook, impact = runbook_of(annotations, self._losses), told(spec.take("description"), self._losses)
        period = self._period(spec)
        method = self._method(spec)
        indicator = self._indicator(spec)
        items = spec.needed("objectives", "Write one.").some()
        for position, item in enumerate(items, 1):
            objective = Taking(item)
            try:
                queries = self._queries(indicator, method, objective)
            except _Elsewhere as elsewhere:
                self._losses.leave_out(item, str(elsewhere))
                continue
            target, share = self._target(objective)
            self._imported.add(
                item,
                Draft(
                    place=place_of(item),
                    service=service,
                    name=self._name if len(items) == 1 else f"{self._name}-{position}",
                    queries=queries,
                    target=share,
                    period=period,
                    off=tuple(deaf_windows(target, share, period, self._losses)),
                    impact=impact,
                    runbook=runbook,
                ),
            )
            objective.tell_rest(self._losses, _WHY)
        if "alertPolicies" not in spec.names():
            self._losses.tell(
                self._document, "no alertPolicies: somebody is told all the same, at four paces"
            )
        for part in filter(None, (top, metadata, annotations, spec)):
            part.tell_rest(self._losses, _WHY)

    def _period(self, spec: Taking) -> str:
        given = spec.take("timeWindow")
        if given is None:
            self._losses.tell(self._document, "no timeWindow: 30d stands for it")
            return "30d"
        window = Taking(given.some()[0])
        length = window.needed("duration", "Write 30d.")
        rolls = window.take("isRolling")
        window.tell_rest(self._losses, _WHY)
        is_rolling, given_length = rolls is None or rolls.read(boolean), length.read(str)
        if given_length == "1M" and (rolls is None or not is_rolling):
            return "month"
        if given_length not in _ROLLING or not is_rolling:
            self._losses.tell(
                length, "timeWindow: periods are 28d, 30d or a calendar month; 30d stands for it"
            )
        return _ROLLING.get(given_length, "30d")

    def _method(self, spec: Taking) -> str:
        given = spec.take("budgetingMethod")
        return given.read(one_of({method: method for method in _METHODS})) if given else _METHODS[0]

    def _indicator(self, spec: Taking) -> Taking | None:
        inline, reference = spec.take("indicator"), spec.take("indicatorRef")
        if reference is not None:
            inline = self._library.get(("SLI", str(reference.node.value)))
            if inline is None:
                known = ", ".join(named for kind, named in self._library if kind == "SLI") or "none is there"
                raise reference.refused(f"the name of an SLI ({known})", "Give its file, too.")
            self._used.add(str(reference.node.value))
        if inline is None:
            return None
        indicator = Taking(inline.fields().needed("spec", "Write ratioMetric or thresholdMetric below it."))
        if (description := indicator.take("description")) is not None:
            self._losses.tell(description, "description of an SLI: the runbook tells what its SLO says")
        return indicator

    def _target(self, objective: Taking) -> tuple[Value, Decimal]:
        percent = objective.take("targetPercent")
        if percent is not None:
            return percent, percent.read(percentage)
        target = objective.needed("target", "Write 0.999.")
        return target, target.read(ratio)

    def _queries(self, indicator: Taking | None, method: str, objective: Taking) -> _Queries:
        if indicator is None or any(key.startswith("indicator") for key in objective.names()):
            raise _Elsewhere("objectives made of several indicators: each has one here")
        ratio_metric, threshold_metric = indicator.look("ratioMetric"), indicator.look("thresholdMetric")
        least_good = self._least_good(method, objective)
        if threshold_metric is not None:
            return (("ratio", self._beyond(threshold_metric, objective)),)
        if ratio_metric is None:
            raise indicator.whole.refused("with a ratioMetric or a thresholdMetric", "Write one.")
        metric = _Metric(Taking(ratio_metric), self._library, self._losses)
        return metric.sliced(method, least_good, objective)

    def _least_good(self, method: str, objective: Taking) -> Decimal | None:
        length, target = objective.take("timeSliceWindow"), objective.take("timeSliceTarget")
        if length is not None and length.node.value not in _A_MINUTE:
            self._losses.tell(length, "timeSliceWindow: a slice is a minute")
        if target is not None and method != "Timeslices":
            self._losses.tell(target, "timeSliceTarget: the budgeting method has no use for it")
        return None if target is None else target.read(ratio)

    def _beyond(self, metric: Value, objective: Taking) -> str:
        text = _Metric(Taking(metric), self._library, self._losses).query(None, checked_ratio)
        operator = objective.needed("op", "Write lte.").read(one_of(_WORSE))
        limit = objective.needed("value", "Write the threshold.").read(_any_number)
        return checked_ratio(f"{_inside(text)} {operator} bool {limit:f}")


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric of an indicator, and where its queries are."""

    fields: Taking
    library: _Library
    losses: Losses

    def sliced(self, method: str, least_good: Decimal | None, objective: Taking) -> _Queries:
        """Read the queries of a ratio, as the budgeting method has them."""
        counter = self.fields.take("counter")
        counts = counter is not None and counter.read(boolean)
        raw = self.fields.take("raw")
        if raw is not None:
            text = _Metric(Taking(raw), self.library, self.losses).query(counts, checked_ratio)
            kind = self.fields.needed("rawType", "Write success, or failure.")
            is_bad = kind.read(one_of({"failure": True, "success": False}))
            bad_share = text if is_bad else f"1 - {_inside(text)}"
            return (("ratio", self._of_slices(bad_share, method, least_good, objective)),)
        key: Key = "bad" if self.fields.look("bad") is not None else "good"
        part, total = (
            _Metric(
                Taking(self.fields.needed(each, "Write metricSource below it.")), self.library, self.losses
            ).query(counts, checked_query)
            for each in (key, "total")
        )
        self.fields.tell_rest(self.losses, _WHY)
        if method == "Occurrences":
            return ((key, part), ("total", total))
        every = _inside(total)
        share = f"({_inside(part)} or 0 * {every}) / ({every} > 0)"
        bad_share = f"{share if key == 'bad' else f'1 - {share}'} or 0 * {every}"
        return (("ratio", self._of_slices(bad_share, method, least_good, objective)),)

    def _of_slices(self, bad_share: str, method: str, least_good: Decimal | None, objective: Taking) -> str:
        if method != "Timeslices":
            return checked_ratio(bad_share)
        if least_good is None:
            objective.needed("timeSliceTarget", "Write 0.95: the share that makes a slice a good one.")
        assert least_good is not None
        return checked_ratio(f"{_inside(bad_share)} > bool {1 - least_good:f}")

    def query(self, counts: bool | None, check: Callable[[str], str]) -> str:
        """Read a query, with the window's place where it has windows of its own."""
        source = Taking(self.fields.needed("metricSource", "Write type and spec below it."))
        self._refuse_others(source)
        spec = Taking(source.needed("spec", "Write query below it."))
        query = spec.take("promql") or spec.needed("query", "Write the query.")
        text, windows = free_windows(query.read(str))
        if windows:
            self.losses.tell(query, "windows of their own: rules look at several, and begin with 5m")
        checked = query.read(lambda _: check(rated(text.strip()) if counts else text))
        for part in (spec, source, self.fields):
            part.tell_rest(self.losses, _WHY)
        return checked

    def _refuse_others(self, source: Taking) -> None:
        kind, reference = source.take("type"), source.look("metricSourceRef")
        if kind is None and reference is not None:
            there = self.library.get(("DataSource", str(reference.node.value)))
            spec = there.fields().get("spec") if there is not None else None
            kind = spec.fields().get("type") if spec is not None else None
        if kind is not None and str(kind.node.value).lower() not in _PROMETHEUS:
            raise _Elsewhere(f"objectives of {kind.node.value}: only Prometheus is asked")


def _any_number(text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
        is_usable = value.is_finite() and abs(value.adjusted()) < _MOST_DIGITS
    except ArithmeticError:
        is_usable = False
    if not is_usable:
        raise Unusable(f"a number of at most {_MOST_DIGITS} digits", "Write 0.5.")
    return value


def _inside(text: str) -> str:
    """Keep what belongs together together, and a comment from taking what follows into it."""
    return f"(\n{text}\n)" if "\n" in text or "#" in text else f"({text})"
