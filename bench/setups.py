"""How each variant dresses the service in code, as its documentation says, and sends what is waiting."""

import os
import sys
from collections.abc import Callable

from fastapi import FastAPI


def dress(app: FastAPI) -> None:
    """Set up what the environment asks for; nothing for those that are started by a launcher."""
    _SETUPS[os.environ.get("BENCH_SETUP", "")](app)


def flush(*, also_metrics: bool) -> None:
    """Send what is waiting, in whichever way the variant has."""
    from opentelemetry import _logs, metrics, trace

    providers = [trace.get_tracer_provider(), _logs.get_logger_provider()]
    for provider in [*providers, metrics.get_meter_provider()] if also_metrics else providers:
        if hasattr(provider, "force_flush"):
            provider.force_flush()
    if "ddtrace" in sys.modules:
        from ddtrace.trace import tracer

        tracer.flush()


def _by_launcher(_app: FastAPI) -> None:
    pass


def _prometheus(app: FastAPI) -> None:
    import logging

    from asgi_correlation_id import CorrelationIdFilter, CorrelationIdMiddleware
    from prometheus_fastapi_instrumentator import Instrumentator

    for handler in logging.getLogger().handlers:
        handler.addFilter(CorrelationIdFilter())
    app.add_middleware(CorrelationIdMiddleware)
    Instrumentator().instrument(app).expose(app)


def _native(_app: FastAPI) -> None:
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.logging import LoggingInstrumentor
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())]))
    _logs.set_logger_provider(loggers)
    LoggingInstrumentor().instrument()


def _logfire(app: FastAPI) -> None:
    import logging

    import logfire

    # The line on stdout is the service's own, as in every variant.
    logfire.configure(send_to_logfire=False, console=False, distributed_tracing=True)
    logfire.instrument_fastapi(app)
    logging.getLogger().addHandler(logfire.LogfireLoggingHandler())


_SETUPS: dict[str, Callable[[FastAPI], None]] = {
    "": _by_launcher,
    "prometheus": _prometheus,
    "native": _native,
    "logfire": _logfire,
}
