"""Objectives as specifications for sloth (`prometheus/v1`), for whoever generates rules with it."""

from collections.abc import Iterable, Iterator

from tercet.declare.objective import Catalog, Objective, Service, shown_share
from tercet.declare.query import PLACE, Queries
from tercet.generate import names, rules
from tercet.generate.promql import Match, bound, number, rate, select
from tercet.generate.rulefile import text


def render_sloth(header: str, service: Service, objectives: Iterable[Objective], catalog: Catalog) -> str:
    """Write the specification of a service.

    Sloth knows one page and one ticket, whatever the paces; which of them are told of is its own matter.
    """
    lines = [header, 'version: "prometheus/v1"', f"service: {text(service.name)}"]
    lines += [f"labels: {{team: {text(service.team)}}}", "slos:"]
    for objective in objectives:
        lines += _objective(objective, catalog)
    return "\n".join(lines) + "\n"


def _objective(objective: Objective, catalog: Catalog) -> Iterator[str]:
    yield f"- name: {text(objective.name)}"
    yield f"  objective: {number(objective.target * 100)}"
    yield f"  description: {text(f'{shown_share(objective.target)}: {objective.advice.impact}')}"
    yield "  sli:"
    yield from _indicator(objective, catalog)
    yield "  alerting:"
    yield f"    name: {names.words_joined(objective.service.name)}{names.words_joined(objective.name)}Burn"
    yield f"    annotations: {{summary: {text(objective.advice.impact)}}}"
    told = {severity for _, severity in objective.burns()}
    for alert, severities in (("page_alert", ("SEV-1", "SEV-2")), ("ticket_alert", ("SEV-3", "SEV-4"))):
        worst = next((severity for severity in severities if severity in told), None)
        yield (
            f"    {alert}: {{labels: {{severity: {worst}}}}}" if worst else f"    {alert}: {{disable: true}}"
        )


def _indicator(objective: Objective, catalog: Catalog) -> Iterator[str]:
    indicator, selected = objective.source, rules.source_selection(objective, catalog.environment)
    if indicator.queries is not None:
        yield from render_queries(indicator.queries)
        return
    if indicator.counts_minutes:
        (_, every), (_, bad) = rules.from_raw(objective, catalog.environment)
        bad_share = f"sum_over_time(sum({bad})[{PLACE}:1m]) / sum_over_time(sum({every})[{PLACE}:1m])"
        yield "    raw:"
        yield f"      error_ratio_query: {text(bad_share)}"
        return
    total = _sum(rules.counted(indicator), *selected)
    if indicator.kind == "latency":
        bucket = f"{names.series(indicator.metric)}_bucket"
        bad = f"{total} - {_sum(bucket, *selected, bound(indicator.threshold))}"
    else:
        bad = _sum(rules.counted(indicator), *selected, *rules.bad_selection(indicator))
    yield "    events:"
    yield f"      error_query: {text(bad)}"
    yield f"      total_query: {text(total)}"


def render_queries(queries: Queries) -> Iterator[str]:
    """Write queries that somebody brought along as sloth has them."""
    part, total = queries.part, queries.total
    if total is None:
        over_it = (
            _closed(part.text) if PLACE in part.text else f"avg_over_time((\n{part.text}\n)[{PLACE}:1m])"
        )
        yield "    raw:"
        yield f"      error_ratio_query: {text(over_it)}"
        return
    bad = _closed(part.text) if queries.kind == "bad" else f"(\n{total.text}\n) - (\n{part.text}\n)"
    yield "    events:"
    yield f"      error_query: {text(bad)}"
    yield f"      total_query: {text(_closed(total.text))}"


def _closed(query: str) -> str:
    """Keep a comment at the end from taking what sloth writes after it."""
    return f"{query}\n" if "#" in query.rpartition("\n")[2] else query


def _sum(series: str, *matches: Match) -> str:
    return f"sum({rate(select(series, *matches), PLACE)})"
