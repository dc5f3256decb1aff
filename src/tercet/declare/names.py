"""What Prometheus calls what OpenTelemetry names: one translation for all that write or read a series.

The rules are those of https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ and,
where it leaves a choice, of Prometheus' own OTLP receiver: a series has one name, whichever way it travels.
"""

import re
from functools import lru_cache

from tercet.declare.metric import Kind

_NOT_IN_A_METRIC_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_A_LABEL_NAME = re.compile(r"[^a-zA-Z0-9]+")

_UNITS = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tebibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}


def metric_name(name: str, unit: str, kind: Kind) -> str:
    """Translate an instrument's name to the name of its series.

    A histogram's series add `_bucket`, `_count` and `_sum` to it.

    >>> metric_name("http.server.request.duration", "s", "histogram")
    'http_server_request_duration_seconds'
    >>> metric_name("orders", "{order}", "counter")
    'orders_total'
    >>> metric_name("system.cpu.utilization", "1", "gauge")
    'system_cpu_utilization_ratio'

    Args:
        name: The OpenTelemetry name, dotted.
        unit: A UCUM code, an annotation in braces, or empty.
        kind: Which instrument measures it.

    Returns:
        A valid Prometheus name; empty when neither name nor unit holds a character that one may contain.
    """
    tokens = _tokens(name)
    tokens += [suffix for suffix in _unit_suffixes(unit) if suffix not in tokens]
    if kind == "counter":
        tokens = _ending_in("total", tokens)
    elif kind == "gauge" and unit == "1":
        tokens = _ending_in("ratio", tokens)
    joined = "_".join(tokens)
    return f"_{joined}" if joined[:1].isdigit() else joined


def unit_name(unit: str) -> str:
    """Translate a unit to the words that end a metric's name.

    >>> unit_name("By/s")
    'bytes_per_second'
    >>> unit_name("{request}")
    ''

    Args:
        unit: A UCUM code, an annotation in braces, or empty.

    Returns:
        Base unit in words; empty for counts and for the dimensionless `1`.
    """
    return "_".join(_unit_suffixes(unit))


# Attribute keys are few, and every series of every scrape asks for each of its own.
@lru_cache(maxsize=1024)
def label_name(key: str) -> str:
    """Translate an attribute's key to a label's name, never one that Prometheus reserves.

    >>> label_name("http.route")
    'http_route'
    >>> label_name("__name__")
    'key_name_'

    Args:
        key: The attribute's key.

    Returns:
        A valid label name; two keys may share one.
    """
    label = _NOT_IN_A_LABEL_NAME.sub("_", key)
    if label.startswith("_"):
        return f"key{label}"
    return label if label[:1].isalpha() else f"key_{label}"


def _tokens(text: str) -> list[str]:
    return [token for token in _NOT_IN_A_METRIC_NAME.split(text) if token]


def _ending_in(word: str, tokens: list[str]) -> list[str]:
    others = [token for token in tokens if token != word]
    return [*(others or tokens), word] if tokens else []


def _unit_suffixes(unit: str) -> list[str]:
    main, _, per = (part.strip() for part in unit.partition("/"))
    suffixes = ["_".join(_tokens(_UNITS.get(main, main)))] if _is_measured(main) else []
    if _is_measured(per):
        suffixes.append("_".join(["per", *_tokens(_PER_UNITS.get(per, per))]))
    return [suffix for suffix in suffixes if suffix not in {"", "per"}]


def _is_measured(unit: str) -> bool:
    return bool(unit) and "{" not in unit and "}" not in unit
