"""What Grafana calls a unit."""

from tercet.declare.metric import Metric

_GRAFANA = {
    "1": "short",
    "": "short",
    "%": "percent",
    "ns": "ns",
    "us": "µs",
    "ms": "ms",
    "s": "s",
    "min": "m",
    "h": "h",
    "d": "d",
    "By": "bytes",
    "KiBy": "kbytes",
    "MiBy": "mbytes",
    "GiBy": "gbytes",
    "TiBy": "tbytes",
    "By/s": "binBps",
    "Hz": "hertz",
    "V": "volt",
    "A": "amp",
    "W": "watt",
    "J": "joule",
    "Cel": "celsius",
}
_A_SECOND = {"1": "cps", "": "cps", "By": "binBps", "{request}": "reqps", "{operation}": "ops"}


def unit_of(metric: Metric) -> str:
    """Name the unit of a metric's values.

    >>> unit_of(Metric("queue.age", "gauge", "s", ""))
    's'
    >>> unit_of(Metric("basket.value", "histogram", "EUR", "")), unit_of(Metric("q", "gauge", "{order}", ""))
    ('count:EUR', 'count:order')
    """
    return _GRAFANA.get(metric.unit) or f"count:{metric.unit.strip('{}')}"


def flow_unit_of(metric: Metric) -> str:
    """Name the unit of how much of it there is a second.

    >>> flow_unit_of(Metric("orders", "counter", "{order}", ""))
    'count:order/s'
    """
    return _A_SECOND.get(metric.unit) or f"count:{metric.unit.strip('{}')}/s"
