"""A summary's data, which the SDK has no class for: on its way to those that know it, and on the wire."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb2
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData

from tercet.export.attributes import attributes_field

#: The tag of a summary point's attributes, as opentelemetry/proto/metrics/v1/metrics.proto numbers them.
_ATTRIBUTES = b"\x3a"


@dataclass(frozen=True)
class SummaryDataPoint:
    """One series: all that it has counted, and the quantiles of the latest.

    Attributes:
        attributes: Of the series.
        start_time_unix_nano: From when it counts.
        time_unix_nano: When it was collected.
        count: How many measurements there were since the start.
        sum: Their sum.
        quantiles: Pairs of a quantile, from 0 to 1, and its value; not a number without recent measurements.
    """

    attributes: dict[str, str | int | bool]
    start_time_unix_nano: int
    time_unix_nano: int
    count: int
    sum: float
    quantiles: list[tuple[float, float]]


@dataclass(frozen=True)
class Summary:
    """The series of a summary, as `Histogram` and the like are those of others."""

    data_points: Sequence[SummaryDataPoint]

    def to_json(self, indent: int | None = 4) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), indent=indent)


def takes_summaries(reader: MetricReader) -> bool:
    """Say whether a reader, or what it exports with, knows what to do with a summary."""
    exporter = getattr(reader, "_exporter", None)
    return bool(getattr(reader, "takes_summaries", False) or getattr(exporter, "takes_summaries", False))


def encode(data: MetricsData) -> ExportMetricsServiceRequest:
    """Encode a collection as upstream does, and the summaries that it leaves out."""
    others, summaries = _parted(data)
    if not any(metrics for found in summaries for metrics in found):
        return encode_metrics(data)
    request = encode_metrics(others)
    for resource, found in zip(request.resource_metrics, summaries, strict=True):
        for scope, metrics in zip(resource.scope_metrics, found, strict=True):
            scope.metrics.extend(map(_encoded, metrics))
    return request


def _parted(data: MetricsData) -> tuple[MetricsData, list[list[list[Any]]]]:
    """Take the summaries out, and keep in which resource and scope each of them was."""
    resources = [
        replace(each, scope_metrics=[replace(s, metrics=_only(s.metrics, False)) for s in each.scope_metrics])
        for each in data.resource_metrics
    ]
    summaries = [[_only(s.metrics, True) for s in each.scope_metrics] for each in data.resource_metrics]
    return MetricsData(resources), summaries


def _only(metrics: Sequence[Any], is_summary: bool) -> list[Any]:
    return [metric for metric in metrics if isinstance(metric.data, Summary) is is_summary]


def _encoded(metric: Any) -> pb2.Metric:
    summary = pb2.Summary(data_points=map(_point, metric.data.data_points))
    return pb2.Metric(name=metric.name, description=metric.description, unit=metric.unit, summary=summary)


def _point(point: SummaryDataPoint) -> pb2.SummaryDataPoint:
    quantiles = [
        pb2.SummaryDataPoint.ValueAtQuantile(quantile=quantile, value=value)
        for quantile, value in point.quantiles
    ]
    encoded = pb2.SummaryDataPoint(
        start_time_unix_nano=point.start_time_unix_nano,
        time_unix_nano=point.time_unix_nano,
        count=point.count,
        sum=point.sum,
        quantile_values=quantiles,
    )
    encoded.MergeFromString(attributes_field(_ATTRIBUTES, point.attributes))
    return encoded
