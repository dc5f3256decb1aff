"""The whole pipeline on one page: from settings to a running process."""

import logging
import os
import threading
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from tercet.configure.delivery import observe_delivery, unusable_proxies
from tercet.configure.edges import Edges, build_edges, install_edges, setup_instrumentors
from tercet.configure.exit import setup_exit
from tercet.configure.handle import Observability, Pipeline
from tercet.configure.logs import build_log_processors, build_log_stream, build_logger_provider, setup_levels
from tercet.configure.metrics import build_meter_provider, build_metric_readers
from tercet.configure.program import is_server_program, is_started_by_another
from tercet.configure.propagation import build_propagator
from tercet.configure.resource import build_resource
from tercet.configure.traces import add_processor, build_span_processors, build_tracer_provider
from tercet.configure.usage import Usage
from tercet.declare.settings import Settings, unknown_variables
from tercet.emit import complaints, gunicorn, logs
from tercet.emit.propagate import propagate
from tercet.emit.registry import REGISTRY
from tercet.errors import SettingsError, SetupError
from tercet.export.forked import renew_in_children
from tercet.export.metered import adopt
from tercet.export.scrape import PrometheusApp

logger = logging.getLogger("tercet")
_lock = threading.RLock()
_handle: Observability | None = None


def setup_observability(
    service_name: str,
    *,
    service_version: str | None = None,
    environment: str | None = None,
    **settings: Any,
) -> Observability:
    """Set up traces, metrics and logs for this process, and return the handle to them.

    Calling it again with the same settings returns the same handle. In a process that `tercet run` or
    `opentelemetry-instrument` has set up already, it returns that handle.

    >>> observability = setup_observability("orders", environment="staging")  # doctest: +SKIP

    Args:
        service_name: Name of the service, the same in all its processes.
        service_version: Version of the running code.
        environment: Deployment environment, such as production.
        settings: Any other setting by its name; docs/settings.md lists them all.

    Raises:
        SettingsError: A setting cannot be used.
        UnknownSettingError: A setting does not exist.
        SetupError: The process is set up otherwise already.
    """
    if not str(service_name).strip():
        raise SettingsError("service_name must be a name, got ''. Write the name of the service.")
    arguments = {
        "service_name": service_name,
        "service_version": service_version,
        "environment": environment,
        **settings,
    }
    if _handle is not None and _handle.by_agent:
        return _already_set_up(_handle, arguments)
    return setup_process(Settings.load(os.environ, **arguments))


def _already_set_up(handle: Observability, arguments: dict[str, Any]) -> Observability:
    """Return what an agent has set up, also where it could not: the service must start."""
    try:
        return _same(handle, Settings.load(os.environ, **arguments))
    except SettingsError:
        return handle  # The agent has said it.


def setup_process(settings: Settings, *, by_agent: bool = False) -> Observability:
    """Set up this process once; both doors lead here.

    Raises:
        SettingsError: A setting cannot be used.
        SetupError: The process is set up otherwise already.
    """
    global _handle  # noqa: PLW0603 - OpenTelemetry's providers are global, and kept for the life of the process
    with _lock:
        if _handle is not None:
            return _same(_handle, settings)
        if settings.disabled:
            _handle = Observability(settings, None, by_agent=by_agent)
            return _handle
        # Contrib instrumentors read it once, when the first of them is made.
        os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")
        pipeline = build_pipeline(settings)
        handle = Observability(settings, pipeline, by_agent=by_agent)
        usage = Usage(settings)

        def begin() -> None:
            handle.begin()
            usage.begin()

        def end() -> None:
            usage.end()
            handle.flush_at_end()

        edges = build_edges(settings, pipeline.tracer_provider, pipeline.meter_provider, begin, end)
        _handle = handle
        _install(pipeline, edges, handle)
        usage.install()
        setup_exit(handle.shutdown, handle.flush_on_the_way)
        _say_what_is_odd(settings, pipeline)
    if not by_agent:
        setup_instrumentors(settings)
    return handle


def give_up() -> None:
    """Take note that an agent could not set this process up, so that calls in its code do not fail either."""
    global _handle  # noqa: PLW0603 - see setup_process
    with _lock:
        if _handle is None:
            _handle = Observability(Settings(disabled=True), None, by_agent=True)


def _same(handle: "Observability", settings: Settings) -> Observability:
    differences = ", ".join(handle.settings.differences(settings))
    if handle.is_shut_down:
        raise SetupError(
            "setup_observability() must not follow shutdown(), for OpenTelemetry keeps its first providers. "
            "Shut down last, when the process ends."
        )
    if differences and handle.by_agent:
        logger.warning(
            "This process was set up when it started; its settings stay, also for: %s.", differences
        )
    elif differences:
        raise SetupError(
            f"setup_observability() must get the same settings each time, got others for: {differences}. "
            "Call it once, when the process starts."
        )
    return handle


def build_pipeline(settings: Settings) -> Pipeline:
    """Make the whole pipeline and touch nothing global."""
    resource = build_resource(settings)
    earlier = {
        TracerProvider: _earlier(trace.get_tracer_provider(), TracerProvider),
        MeterProvider: _earlier(metrics.get_meter_provider(), MeterProvider),
        LoggerProvider: _earlier(_logs.get_logger_provider(), LoggerProvider),
    }
    propagator, tracer_provider = build_propagator(settings), build_tracer_provider(settings, resource)
    logger_provider = earlier[LoggerProvider] or build_logger_provider(resource)
    exports_logs = any(name != "none" for name in settings.logs_exporter)
    # Last of all, for they start threads, and what is before them can fail.
    readers = build_metric_readers(settings)
    return Pipeline(
        tracer_provider=earlier[TracerProvider] or tracer_provider,
        meter_provider=earlier[MeterProvider] or build_meter_provider(settings, resource, readers),
        logger_provider=logger_provider,
        span_processors=build_span_processors(settings),
        metric_readers=readers,
        log_processors=build_log_processors(settings),
        propagator=propagator,
        log_stream=build_log_stream(
            settings,
            str(resource.attributes["service.name"]),
            logger_provider if exports_logs else None,
            os.environ,
        ),
        adopted=tuple(kind.__name__ for kind, provider in earlier.items() if provider is not None),
    )


def _earlier(provider: Any, kind: type) -> Any:
    """Return a provider that can be adopted, or None where nobody set one.

    Raises:
        SetupError: Somebody set one that takes no processors.
    """
    if isinstance(provider, kind):
        return provider
    if "Proxy" in type(provider).__name__ and type(provider).__module__.startswith("opentelemetry."):
        return None
    name = f"{type(provider).__module__}.{type(provider).__qualname__}"
    raise SetupError(
        f"The global {kind.__name__} must be unset or the SDK's, got {name}, which tercet cannot extend. "
        "Set up tercet first, or remove what sets it."
    )


def _install(pipeline: Pipeline, edges: Edges, handle: Observability) -> None:
    """Put the pipeline in place; everything that is global is touched here, or in the edges' `install`."""
    for span_processor in pipeline.span_processors:
        add_processor(pipeline.tracer_provider, span_processor)
    for log_processor in pipeline.log_processors:
        pipeline.logger_provider.add_log_record_processor(log_processor)
    if "MeterProvider" in pipeline.adopted:
        adopt(pipeline.meter_provider, handle.settings.metric_series_limit)
        for reader in pipeline.metric_readers:
            pipeline.meter_provider.add_metric_reader(reader)
    if "TracerProvider" not in pipeline.adopted:
        trace.set_tracer_provider(pipeline.tracer_provider)
    if "MeterProvider" not in pipeline.adopted:
        metrics.set_meter_provider(pipeline.meter_provider)
    if "LoggerProvider" not in pipeline.adopted:
        _logs.set_logger_provider(pipeline.logger_provider)
    propagate.set_global_textmap(pipeline.propagator)
    renew_in_children(pipeline.providers(), pipeline.metric_readers)
    observe_delivery(metrics.get_meter("tercet"), handle.exporters())
    declared = pipeline.meter_provider.get_meter("tercet.declared")
    REGISTRY.bind(declared, raises=handle.settings.raises_metric_errors)
    REGISTRY.objectives.bind(handle.settings.service_name)
    setup_levels(handle.settings)
    logs.install(pipeline.log_stream)
    complaints.install()
    install_edges(edges)
    gunicorn.install(handle.begin)
    if is_started_by_another():
        handle.begin()
    elif not is_server_program():
        handle.serve_prometheus()


def _say_what_is_odd(settings: Settings, pipeline: Pipeline) -> None:
    for name in pipeline.adopted:
        logger.warning("A %s was set earlier; tercet adopts it, and its own resource and rules stay.", name)
    if not settings.service_name:
        logger.warning("This service has no name. Set OTEL_SERVICE_NAME.")
    for variable, meaning in unknown_variables(os.environ).items():
        logger.warning("%s has no effect. %s", variable, meaning)
    for variable in unusable_proxies(settings):
        logger.warning("%s has no effect. It must be the address of a proxy that speaks HTTP.", variable)
    if os.environ.get("FASTAPI_OTEL_AUTO_CONFIGURE", "").lower() == "true":
        logger.warning("FASTAPI_OTEL_AUTO_CONFIGURE=true exports everything a second time. Unset it.")
    names = other_distributions()
    if names:
        logger.warning(
            "Another distribution is installed: %s. Set OTEL_PYTHON_DISTRO=tercet to choose.", names
        )


def other_distributions() -> str:
    """Name the distributions that upstream may run instead of tercet; "" where the user has chosen tercet."""
    others = [entry.name for entry in entry_points(group="opentelemetry_distro") if entry.name != "tercet"]
    return "" if os.environ.get("OTEL_PYTHON_DISTRO") == "tercet" else ", ".join(others)


def current() -> Observability | None:
    """Return the handle of this process, if it is set up."""
    return _handle


def metrics_app() -> PrometheusApp:
    """Return an ASGI application that answers Prometheus, for a process that either door has set up.

    Raises:
        SetupError: The process is not set up.
    """
    if _handle is None:
        raise SetupError("metrics_app() must follow setup_observability(). Call that first.")
    return _handle.metrics_app()
