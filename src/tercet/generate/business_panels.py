"""A panel for each metric that a document or a module declares, as its kind wants to be seen."""

from collections.abc import Callable, Iterator

from tercet.declare.metric import METRICS, Kind, Metric
from tercet.declare.names import label_name
from tercet.declare.objective import Catalog
from tercet.declare.usage import USAGE
from tercet.generate import chosen, names, rules
from tercet.generate.chosen import QUANTILES, flow, quantile, quantile_name, value
from tercet.generate.client_panels import is_of_clients
from tercet.generate.panels import Panel, Query, graph, legend_of
from tercet.generate.promql import none_of, rate, ratio, select, summed
from tercet.generate.units import flow_unit_of, unit_of

_OWN = frozenset(metric.name for metric in (*METRICS, *USAGE))
#: How a gauge of several processes is seen as one: as a scrape of all of them shows it, or else the highest.
_ACROSS = {"sum": "sum", "min": "min"}
_OF_ALL = {"sum": "The sum", "min": "The lowest", "max": "The highest"}


def business_panels(catalog: Catalog) -> Iterator[Panel]:
    """Show what services declare themselves."""
    for metric in sorted(catalog.metrics.values(), key=lambda metric: metric.name):
        if metric.name not in _OWN and not is_of_clients(metric):
            yield _PANELS[metric.kind](metric, catalog)


def lines(catalog: Catalog, *series: str) -> Iterator[Query]:
    """Draw where objectives draw their line through a panel, if any does."""
    there = {rules.line(each.indicator) for each in catalog.objectives if each.indicator.kind != "query"}
    for name in series:
        if name in there:
            yield Query(
                expression=f"max by ({names.SERVICE}, {names.SLO}) ({select(name, chosen.SERVICE)})",
                legend="{{service}} {{slo}}: objective",
                is_line=True,
            )


def _counter(metric: Metric, catalog: Catalog) -> Panel:
    by = _labels(metric)
    lowest = names.line(names.series(metric), "throughput")
    return graph(
        metric.name,
        f"{_sentence(metric)} How many a second.",
        flow_unit_of(metric),
        Query(expression=summed(flow(metric), *by), legend=_legend(metric)),
        *lines(catalog, lowest),
    )


def _amount(metric: Metric, catalog: Catalog) -> Panel:
    return _state(metric, catalog, "sum")


def _gauge(metric: Metric, catalog: Catalog) -> Panel:
    return _state(metric, catalog, _ACROSS.get(metric.across, "max"))


def _state(metric: Metric, catalog: Catalog, across: str) -> Panel:
    by = ", ".join(_labels(metric))
    line = list(lines(catalog, names.line(names.series(metric), "level")))
    in_all = Query(expression=summed(value(metric), names.JOB), legend="{{job}} in all")
    return graph(
        metric.name,
        f"{_sentence(metric)} {_OF_ALL[across]} of all processes.",
        unit_of(metric),
        Query(expression=f"{across} by ({by}) ({value(metric)})", legend=_legend(metric)),
        # The line is drawn for the sum of all series, not for each.
        *([in_all] if line and metric.kind == "up_down_counter" and metric.attributes else []),
        *line,
    )


def _histogram(metric: Metric, catalog: Catalog) -> Panel:
    return graph(
        metric.name,
        f"{_sentence(metric)} What half, five in a hundred and one in a hundred exceed.",
        unit_of(metric),
        *(
            Query(
                expression=quantile(share, metric, (names.JOB,)),
                legend=f"{quantile_name(share)} {{{{job}}}}",
                exemplars=True,
            )
            for share in QUANTILES
        ),
        *lines(catalog, names.line(names.series(metric), "latency")),
    )


def _summary(metric: Metric, catalog: Catalog) -> Panel:
    total, count = (
        summed(rate(select(names.series(metric) + suffix, *chosen.RAW), chosen.INTERVAL), names.JOB)
        for suffix in ("_sum", "_count")
    )
    highest = value(metric, none_of("quantile", ("",)))
    return graph(
        metric.name,
        f"{_sentence(metric)} The highest quantile of any process, and the mean of all.",
        unit_of(metric),
        Query(expression=f"max by ({names.JOB}, quantile) ({highest})", legend="{{quantile}} {{job}}"),
        Query(expression=ratio(total, count), legend="mean {{job}}"),
    )


_PANELS: dict[Kind, Callable[[Metric, Catalog], Panel]] = {
    "counter": _counter,
    "up_down_counter": _amount,
    "gauge": _gauge,
    "histogram": _histogram,
    "summary": _summary,
}


def _sentence(metric: Metric) -> str:
    text = metric.help.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _labels(metric: Metric) -> tuple[str, ...]:
    return (names.JOB, *dict.fromkeys(map(label_name, metric.attributes)))


def _legend(metric: Metric) -> str:
    return legend_of(*_labels(metric)[1:], names.JOB)
