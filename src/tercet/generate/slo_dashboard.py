"""The dashboard of objectives: what is promised, what is left of each budget, and how fast it goes."""

from collections.abc import Iterator

from tercet.declare.burn_rate import WINDOWS, Window, burn_rate, duration
from tercet.declare.objective import Catalog
from tercet.generate import alert_panels, chosen, dashboard, names, rules
from tercet.generate.dashboard import Dashboard
from tercet.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    Column,
    Json,
    Panel,
    Query,
    Row,
    Steps,
    graph,
    sized,
    table,
)
from tercet.generate.promql import Match, number, ratio, select
from tercet.generate.service_dashboard import budgets

_SLO = Match(names.SLO, "=~", "$slo")
_CHOSEN = (*chosen.RECORDED, _SLO)
_LEGEND = "{{service}} {{slo}} {{deployment_environment_name}}"
_LEFT: Steps = ((None, RED), (0, YELLOW), (0.25, GREEN))
_PER_OBJECTIVE = f"on ({names.SERVICE}, {names.SLO}) group_left ()"


def slo_dashboard(catalog: Catalog) -> Dashboard:
    """Lay out the dashboard of all objectives, and of those that are chosen."""
    return Dashboard(
        uid=names.SLO_DASHBOARD,
        title="Objectives",
        about="What services promise, what is left of each budget, and how fast it goes.",
        since="24h",
        variables=(
            dashboard.METRICS,
            dashboard.PROMISING,
            dashboard.environments(catalog.environment, recorded=True),
            dashboard.OBJECTIVES,
        ),
        annotations=(
            dashboard.DEPLOYMENTS,
            dashboard.pages(chosen.SERVICE, chosen.ENVIRONMENT_OR_NONE),
        ),
        rows=(
            Row("All services", [_overview()]),
            Row("Now", [sized(budgets(width=12), 12, 8), sized(_alerts(catalog), 12, 8)]),
            Row("Budget", list(_budget())),
            Row("Burn rate", [_burn(window, catalog) for window in WINDOWS]),
            Row("Events", list(_events())),
        ),
    )


def _alerts(catalog: Catalog) -> Panel:
    return alert_panels.firing(catalog.links, chosen.SERVICE, _SLO, chosen.ENVIRONMENT_OR_NONE)


def _overview() -> Panel:
    left, now = _everywhere(names.REMAINING), _everywhere(names.bad_ratio(rules.RAW))
    promised = f"0 * {left} + {_PER_OBJECTIVE} {names.TARGET}"
    of_all = f"max by ({names.SERVICE}, {names.SLO}) ({names.TARGET})"
    unmeasured = f"{of_all} unless on ({names.SERVICE}, {names.SLO}) {left}"
    return sized(
        table(
            "Objectives",
            "The one with the least budget left comes first. Without a budget, nothing was ever measured "
            "for it.",
            Column(title="Service", label=names.SERVICE, links=[alert_panels.to_service("__value.raw")]),
            Column(title="Objective", label=names.SLO, links=[_open()]),
            Column(title="Environment", label=names.ENVIRONMENT),
            # Grafana would round 99.95 % to 100 %.
            Column(title="Target", expression=f"{promised}\nor {unmeasured}", unit="percentunit", decimals=3),
            Column(title="Budget left", expression=left, unit="percentunit", decimals=1, steps=_LEFT),
            Column(title="Minutes left", expression=_everywhere(names.REMAINING_MINUTES), unit="m"),
            Column(title="Bad now", expression=now, unit="percentunit"),
            Column(
                title="Burn rate",
                expression=_burning(now),
                unit="suffix:x",
                steps=((None, "transparent"), (1, YELLOW), (6, RED)),
            ),
            order="Budget left",
            descending=False,
        ),
        24,
        9,
    )


def _everywhere(series: str) -> str:
    """Read a recorded series of all objectives, without its name, by which lines of a table would differ."""
    recorded = select(series, chosen.ENVIRONMENT)
    return f"max by ({names.SERVICE}, {names.SLO}, {names.ENVIRONMENT}) ({recorded})"


def _open() -> Json:
    url = f"/d/{names.SLO_DASHBOARD}?var-slo=${{__value.raw}}&{alert_panels.KEEP}"
    return {"title": "Only objectives of this name", "url": url}


def _budget() -> Iterator[Panel]:
    yield graph(
        "Budget left over time",
        "Share of what may be bad in the period that is left. Below 0, the promise is broken.",
        "percentunit",
        Query(expression=select(names.REMAINING, *_CHOSEN), legend=_LEGEND),
        steps=((None, RED), (0, GREEN)),
        least=None,
    )
    yield graph(
        "Minutes left",
        "The same as minutes in which everything would be bad.",
        "m",
        Query(expression=select(names.REMAINING_MINUTES, *_CHOSEN), legend=_LEGEND),
        steps=((None, RED), (0, GREEN)),
        least=None,
    )
    yield graph(
        "Bad events",
        "Share of events, or of minutes, that were bad in the last 5 minutes. Above the dashed line of its "
        "objective the budget goes faster than it may.",
        "percentunit",
        Query(expression=select(names.bad_ratio(rules.RAW), *_CHOSEN), legend=_LEGEND),
        Query(
            expression=f"1 - {select(names.TARGET, chosen.SERVICE, _SLO)}",
            legend="{{service}} {{slo}}: objective",
            is_line=True,
        ),
    )


def _burn(window: Window, catalog: Catalog) -> Panel:
    factors = {burn_rate(window, objective.period) for objective in catalog.objectives}
    limits = sorted(factors)
    long, short = duration(window.long), duration(window.short)
    above = " or ".join(map(number, limits))
    return sized(
        graph(
            f"Burn rate over {long}",
            f"How many times too fast the budget goes. {window.severity}, unless an objective says "
            f"otherwise, when both {long} and {short} are above {above}, the dashed line; it ends when "
            f"{short} is below. Counted one by one, it is minutes late, and knows those processes too that "
            "ended before a rate could see them.",
            "suffix:x",
            *(
                Query(
                    expression=_burning(select(names.bad_ratio(seconds), *_CHOSEN)),
                    legend=f"{duration(seconds)} {_LEGEND}",
                )
                for seconds in (window.long, window.short)
            ),
            Query(expression=_burning(_counted(window)), legend=f"{long} counted {_LEGEND}"),
            steps=((None, GREEN), *((float(limit), RED) for limit in limits)),
            most=float(limits[-1]),
        ),
        12,
        8,
    )


def _counted(window: Window) -> str:
    bad, all_of_them = (
        rules.over(select(name, *_CHOSEN), window.long)
        for name in (names.COUNTED_BAD_EVENTS, names.COUNTED_EVENTS)
    )
    return f"({ratio(bad, all_of_them)})"


def _burning(bad: str) -> str:
    return f"{bad} / {_PER_OBJECTIVE} (1 - {names.TARGET})"


def _events() -> Iterator[Panel]:
    for title, series, about in (
        (
            "Events",
            names.EVENTS,
            "What counts for each objective, a second; 1 of 60 a second where minutes count.",
        ),
        ("Bad events a second", names.BAD_EVENTS, "Those of them that are bad."),
    ):
        yield sized(
            graph(title, about, "cps", Query(expression=select(series, *_CHOSEN), legend=_LEGEND)), 12, 8
        )
