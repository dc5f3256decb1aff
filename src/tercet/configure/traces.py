"""From settings to the pipeline of traces."""

import math
from importlib.metadata import entry_points

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, StaticSampler, TraceIdRatioBased

from tercet.configure.delivery import build_outbox
from tercet.declare.settings import Settings
from tercet.emit import correlation
from tercet.errors import SettingsError
from tercet.export.correlation import Correlated
from tercet.export.exporters import OTLP, build_exporter, exporter_names
from tercet.export.processors import BatchedSpans
from tercet.export.sampling import ParentDecides
from tercet.export.spans import LeanTracerProvider


def build_tracer_provider(settings: Settings, resource: Resource) -> TracerProvider:
    """Make the provider, still without processors; those that others add to it are guarded."""
    return LeanTracerProvider(build_sampler(settings), resource)


def add_processor(provider: TracerProvider, processor: SpanProcessor) -> None:
    """Add one of our own processors to a provider of ours, or of whoever made it."""
    if isinstance(provider, LeanTracerProvider):
        provider.add_own(processor)
    else:
        provider.add_span_processor(processor)


def build_span_processors(settings: Settings) -> list[SpanProcessor]:
    """Make what sees each span: first who writes the correlation id, then who sends it away."""
    batches = [_build_batch(name, settings) for name in exporter_names("traces", settings)]
    return [Correlated(correlation.attribute), *batches]


def _build_batch(name: str, settings: Settings) -> SpanProcessor:
    if name == OTLP:
        return BatchedSpans(build_outbox("traces", settings))
    return BatchSpanProcessor(
        build_exporter(name, "traces"),
        max_queue_size=settings.span_queue_size,
        schedule_delay_millis=settings.span_export_delay * 1000,
        max_export_batch_size=min(settings.span_batch_size, settings.span_queue_size),
    )


def build_sampler(settings: Settings) -> Sampler:
    """Make the sampler of the specification, or an installed one, that the settings name.

    Raises:
        SettingsError: The name is unknown, or its argument is no share.
    """
    name = settings.traces_sampler
    parent_based = name.startswith("parentbased_")
    root: StaticSampler | TraceIdRatioBased | None = {"always_on": ALWAYS_ON, "always_off": ALWAYS_OFF}.get(
        name.removeprefix("parentbased_")
    )
    if name.removeprefix("parentbased_") == "traceidratio":
        root = TraceIdRatioBased(_share(settings.traces_sampler_arg))
    if root is None:
        return _installed(name, settings.traces_sampler_arg)
    return ParentDecides(root) if parent_based else root


def _share(argument: str) -> float:
    try:
        share = float(argument)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise SettingsError(
            f"traces_sampler_arg (OTEL_TRACES_SAMPLER_ARG) must be a number from 0 to 1, got {argument!r}. "
            "Write 0.1 to keep one trace in ten."
        )
    return share


def _installed(name: str, argument: str) -> Sampler:
    found = list(entry_points(group="opentelemetry_traces_sampler", name=name))
    if not found:
        raise SettingsError(
            "traces_sampler (OTEL_TRACES_SAMPLER) must be a sampler of the specification or installed, "
            f"got {name!r}. Write parentbased_traceidratio."
        )
    sampler: Sampler = found[0].load()(argument)
    return sampler
