"""What a service needs from others, and what it does itself: how often, how well and how fast."""

from collections.abc import Iterable, Iterator

from tercet.declare.metric import HTTP_CLIENT_DURATION, OPERATION_DURATION, Metric
from tercet.declare.names import label_name
from tercet.generate.chosen import flow, quantile, quantile_name
from tercet.generate.panels import GREEN, RED, YELLOW, Panel, Query, Steps, graph, legend_of, sized, tiles
from tercet.generate.promql import none_of, ratio, summed

#: The attributes that say who is called; https://opentelemetry.io/docs/specs/semconv/ has them of each kind.
_PEER = (
    *("server.address", "server.port", "db.system.name", "db.namespace", "rpc.system.name", "rpc.service"),
    *("messaging.system", "messaging.destination.name", "gen_ai.provider.name"),
)
_ERROR = "error.type"
#: From one failing call of a hundred on, somebody should look; from one of twenty on, it does not work.
_FAILING: Steps = ((None, GREEN), (0.01, YELLOW), (0.05, RED))


def is_of_clients(metric: Metric) -> bool:
    """Say whether a metric times calls to others, as the semantic conventions name such metrics."""
    is_timed = metric.kind == "histogram" and metric.unit == "s" and metric.name.endswith(".duration")
    return is_timed and ".client." in metric.name and bool(_peer(metric))


def clients(metrics: Iterable[Metric]) -> list[Metric]:
    """List what times calls to others, HTTP first."""
    found = [metric for metric in metrics if is_of_clients(metric)]
    return sorted(found, key=lambda metric: (metric.name != HTTP_CLIENT_DURATION.name, metric.name))


def health_of_dependencies(metrics: Iterable[Metric]) -> Panel:
    """Show a light for each dependency, by how its callers fare."""
    return sized(
        tiles(
            "Dependencies",
            "Share of the calls of this service that failed. GREEN: less than 1 %. YELLOW: less than 5 %. "
            "RED: more.",
            "percentunit",
            *(
                Query(expression=_failed_share(metric, _peer(metric)), legend=legend_of(*_peer(metric)))
                for metric in clients(metrics)
            ),
            steps=_FAILING,
            nothing="Calls nobody",
        ),
        6,
        6,
    )


def dependency_panels(metrics: Iterable[Metric]) -> Iterator[Panel]:
    """Show each dependency as its callers see it, and the service's own operations."""
    called = clients(metrics)
    yield sized(
        tiles(
            "Latency of dependencies",
            "What five in a hundred calls to each exceed, right now.",
            "s",
            *(_timed(metric, "0.95") for metric in called),
            steps=((None, GREEN),),
            nothing="Calls nobody",
        ),
        24,
        4,
    )
    yield graph(
        "Calls",
        "Calls to each dependency a second.",
        "reqps",
        *(
            Query(expression=summed(flow(metric), *_peer(metric)), legend=legend_of(*_peer(metric)))
            for metric in called
        ),
    )
    yield graph(
        "Failed calls",
        "Share of the calls to each dependency that failed, by their callers' account.",
        "percentunit",
        *(
            Query(expression=_failed_share(metric, _peer(metric)), legend=legend_of(*_peer(metric)))
            for metric in called
        ),
    )
    yield graph(
        "Latency of calls",
        "What five, and what one in a hundred calls to each dependency exceed.",
        "s",
        *(_timed(metric, share, quantile_name(share)) for metric in called for share in ("0.95", "0.99")),
    )
    yield from _operations()


def _operations() -> Iterator[Panel]:
    by = (label_name("operation"),)
    legend = legend_of(*by)
    yield graph(
        "Operations",
        "What `@observed` marks in the code, a second.",
        "ops",
        Query(expression=summed(flow(OPERATION_DURATION), *by), legend=legend),
    )
    yield graph(
        "Failed operations",
        "Share of them that ended with an exception.",
        "percentunit",
        Query(expression=_failed_share(OPERATION_DURATION, by), legend=legend),
    )
    yield graph(
        "Latency of operations",
        "What five in a hundred of each exceed.",
        "s",
        Query(expression=quantile("0.95", OPERATION_DURATION, by), legend=legend, exemplars=True),
    )


def _peer(metric: Metric) -> tuple[str, ...]:
    return tuple(label_name(key) for key in _PEER if key in metric.attributes)


def _failed_share(metric: Metric, by: tuple[str, ...]) -> str:
    failed = summed(flow(metric, none_of(label_name(_ERROR), ("",))), *by)
    return ratio(failed, summed(flow(metric), *by))


def _timed(metric: Metric, share: str, prefix: str = "") -> Query:
    peer = _peer(metric)
    return Query(
        expression=quantile(share, metric, peer),
        legend=f"{prefix} {legend_of(*peer)}".strip(),
        exemplars=bool(prefix),
    )
