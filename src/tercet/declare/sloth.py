"""Specifications for sloth (`prometheus/v1`), read as drafts of objectives."""

from collections.abc import Iterator

from tercet.declare.burn_rate import RESPONSES, WINDOWS
from tercet.declare.draft import (
    Draft,
    Imported,
    Key,
    Losses,
    Taking,
    checked_query,
    deaf_windows,
    percentage,
    place_of,
    runbook_of,
    told,
)
from tercet.declare.outline import Fields, Value
from tercet.declare.parse import boolean
from tercet.declare.quantity import name

VERSION = "prometheus/v1"
#: The only one that can tell somebody of any target.
_LONGEST = "3d"
_PAGES, _TICKETS = ("1h", "6h"), ("1d", _LONGEST)
_LABELS = "alerts carry service, team, slo and severity, and no others"
_PLUGINS = "what a plugin does is code, which is not read here"
_WHY = {
    "slo_plugins": _PLUGINS,
    "plugins": _PLUGINS,
    "name": "alerts are named by their service and objective",
    "labels": _LABELS,
    "annotations": "alerts say what is measured and what the runbook says",
}


def read_sloth(document: Value, period: str, imported: Imported) -> None:
    """Read a specification.

    Args:
        document: The specification.
        period: What sloth is run with.
        imported: Where objectives, teams and losses go.

    Raises:
        ObjectivesError: Something in it cannot be used; the message names the line.
    """
    top = Taking(document)
    top.take("version")
    service = top.needed("service", "Write the service's name.").read(name)
    imported.answer_for(service, top.take("labels"))
    for item in top.needed("slos", "Write one.").some():
        slo = Taking(item)
        sli = slo.needed("sli", "Write events with error_query and total_query.")
        if "plugin" in sli.fields("events", "raw", "plugin"):
            imported.losses.leave_out(item, f"objectives whose sli is a plugin: {_PLUGINS}")
            continue
        imported.answer_for(service, slo.take("labels"))
        imported.add(item, _draft(slo, sli.fields(), service, period, imported.losses))
        slo.tell_rest(imported.losses, _WHY)
    top.tell_rest(imported.losses, _WHY)


def _draft(slo: Taking, sli: Fields, service: str, period: str, losses: Losses) -> Draft:
    objective = slo.needed("objective", "Write 99.9.")
    target = objective.read(percentage)
    alerting = slo.part("alerting")
    annotations = alerting.part("annotations") if alerting else None
    silenced = dict(_silenced(alerting, losses))
    off = dict.fromkeys((*silenced, *deaf_windows(objective, target, period, losses)))
    if len(off) == len(WINDOWS):
        disable = silenced[_LONGEST]
        losses.tell(disable, f"disable: somebody is always told, if only of what goes within {_LONGEST}")
        del off[_LONGEST]
    draft = Draft(
        place=place_of(slo.whole),
        service=service,
        name=slo.needed("name", "Write what is promised.").read(name),
        queries=tuple(_queries(sli)),
        target=target,
        period=period,
        off=tuple(off),
        impact=_impact(slo, annotations, losses),
        runbook=runbook_of(annotations, losses),
    )
    for part in filter(None, (alerting, annotations)):
        part.tell_rest(losses, _WHY)
    return draft


def _impact(slo: Taking, annotations: Taking | None, losses: Losses) -> str:
    summary = told(annotations.take("summary"), losses) if annotations else ""
    description = slo.take("description")
    words = told(description, losses)
    if description is not None and summary and summary not in words:
        losses.tell(description, "description: the summary of the alerts stands for the impact")
    return summary or words


def _queries(sli: Fields) -> Iterator[tuple[Key, str]]:
    if "raw" in sli:
        raw = sli["raw"].fields("error_ratio_query")
        yield "ratio", raw.needed("error_ratio_query", "Write the query.").read(checked_query)
        return
    events = sli.needed("events", "Write error_query and total_query.").fields("error_query", "total_query")
    yield "bad", events.needed("error_query", "Write the query of the bad events.").read(checked_query)
    yield "total", events.needed("total_query", "Write the query of all events.").read(checked_query)


def _silenced(alerting: Taking | None, losses: Losses) -> Iterator[tuple[str, Value]]:
    """List the windows of which sloth tells nobody, each with what says so."""
    for key, windows in (("page_alert", _PAGES), ("ticket_alert", _TICKETS)):
        alert = alerting.part(key) if alerting else None
        if alert is None:
            continue
        if (disable := alert.take("disable")) is not None and disable.read(boolean):
            yield from ((window, disable) for window in windows)
        if (labels := alert.part("labels")) is not None:
            severity = labels.take("severity")
            if severity is not None and str(severity.node.value) not in RESPONSES:
                losses.tell(severity, "severity: it is SEV-1 to SEV-4, by how fast the budget goes")
            labels.tell_rest(losses, dict.fromkeys(labels.names(), _LABELS))
        alert.tell_rest(losses, _WHY)
