"""From settings to the pipeline of metrics."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    ExemplarFilter,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
from opentelemetry.sdk.metrics.view import DefaultAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from tercet.configure.delivery import build_posted_points
from tercet.declare.metric import HTTP_CLIENT_DURATION, HTTP_SERVER_DURATION, METRICS, Metric
from tercet.declare.settings import Settings
from tercet.export.exporters import OTLP, build_exporter, exporter_names
from tercet.export.forked import PeriodicReader
from tercet.export.metered import LeanMeterProvider
from tercet.export.views import build_views_of_others

_EXEMPLAR_FILTERS: dict[str, Callable[[], ExemplarFilter]] = {
    "trace_based": TraceBasedExemplarFilter,
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
}


def build_meter_provider(
    settings: Settings, resource: Resource, readers: list[MetricReader]
) -> MeterProvider:
    """Make the provider, with a view for each declared metric, whoever emits it."""
    exemplar_filter = _EXEMPLAR_FILTERS[settings.exemplar_filter]()
    views, most_series = list(build_views(settings)), settings.metric_series_limit
    return LeanMeterProvider(readers, resource, exemplar_filter, views, most_series)


def build_metric_readers(settings: Settings) -> list[MetricReader]:
    """Make what collects: one reader for each exporter."""
    return [
        PeriodicReader(
            _build_exporter(name, settings),
            interval=settings.metric_export_interval,
            timeout=settings.metric_export_timeout,
        )
        for name in exporter_names("metrics", settings)
    ]


def _build_exporter(name: str, settings: Settings) -> MetricExporter:
    if name == OTLP:
        return build_posted_points(settings)
    exporter: MetricExporter = build_exporter(name, "metrics")
    return exporter


def build_views(settings: Settings) -> Iterator[View]:
    """Hold each metric to its limit, and each declared one to its buckets and its attributes.

    Hosts and raw paths never get through, whoever emits them.
    """
    limit = settings.metric_series_limit
    for metric in _with_buckets(settings):
        bounds = metric.buckets
        yield View(
            instrument_name=metric.name,
            attribute_keys=set(metric.attributes),
            aggregation=ExplicitBucketHistogramAggregation(bounds) if bounds else DefaultAggregation(),
            aggregation_cardinality_limit=limit,
        )
    yield from build_views_of_others({metric.name for metric in METRICS}, limit)


def _with_buckets(settings: Settings) -> Iterator[Metric]:
    for metric in METRICS:
        is_duration = metric in (HTTP_SERVER_DURATION, HTTP_CLIENT_DURATION)
        yield replace(metric, buckets=settings.duration_buckets) if is_duration else metric
