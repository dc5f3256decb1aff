"""What the variables of a dashboard choose, as PromQL; Grafana fills them in."""

from tercet.declare.metric import Metric
from tercet.generate import names
from tercet.generate.promql import Match, rate, select, summed

#: As long as Grafana finds that a rate must look back: four times what lies between two samples, or a pixel.
INTERVAL = "$__rate_interval"
#: `service` is a `service.name`; a `service.namespace` stands before it in `job`.
JOB = Match(names.JOB, "=~", "(.+/)?$service")
#: The value for all environments also matches series that have none.
ENVIRONMENT = Match(names.ENVIRONMENT, "=~", "$environment")
#: Alerts on silence know no environment, and concern each of them.
ENVIRONMENT_OR_NONE = Match(names.ENVIRONMENT, "=~", "$environment|")
#: The raw series that a dashboard is about.
RAW = (JOB, ENVIRONMENT, Match(names.INSTANCE, "=~", "$instance"))
SERVICE = Match(names.SERVICE, "=~", "$service")
#: The recorded series that a dashboard is about.
RECORDED = (SERVICE, ENVIRONMENT)
QUANTILES = ("0.5", "0.95", "0.99")


def value(metric: Metric, *matches: Match) -> str:
    """Select a metric's own series."""
    return select(names.series(metric), *RAW, *matches)


def flow(metric: Metric, *matches: Match) -> str:
    """Take what a counter counts a second, or a histogram's measurements."""
    suffix = "_count" if metric.kind in ("histogram", "summary") else ""
    return rate(select(names.series(metric) + suffix, *RAW, *matches), INTERVAL)


def grown(metric: Metric, *matches: Match) -> str:
    """Take by how much a counter grew from one point of a graph to the next."""
    return f"increase({value(metric, *matches)}[{INTERVAL}])"


def buckets(metric: Metric, by: tuple[str, ...], *matches: Match) -> str:
    """Take a histogram's buckets, summed but for some labels."""
    return summed(rate(select(f"{names.series(metric)}_bucket", *RAW, *matches), INTERVAL), *by, "le")


def quantile_name(share: str) -> str:
    """Name a quantile as people do.

    >>> quantile_name("0.5"), quantile_name("0.99")
    ('p50', 'p99')
    """
    return f"p{float(share) * 100:g}"


def quantile(share: str, metric: Metric, by: tuple[str, ...] = (), *matches: Match) -> str:
    """Estimate below what a share of a histogram's measurements are."""
    return f"histogram_quantile({share}, {buckets(metric, by, *matches)})"
