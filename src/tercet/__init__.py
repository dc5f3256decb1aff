"""Traces, metrics and logs that belong together: one call, three signals, one id."""

from tercet.configure.handle import Observability
from tercet.configure.setup import metrics_app, setup_observability
from tercet.declare.settings import Settings
from tercet.declare.version import VERSION
from tercet.emit.asgi import ObservabilityMiddleware
from tercet.emit.correlation import correlation_id
from tercet.emit.declared import Counter, Gauge, Histogram, Summary, UpDownCounter
from tercet.emit.objective import Objective
from tercet.emit.observed import observed
from tercet.emit.runtime import watch_event_loop
from tercet.emit.traces import traced
from tercet.emit.waiting import ObservedLock, observe_queue
from tercet.errors import MetricError, SettingsError, SetupError, TercetError, UnknownSettingError

__version__ = VERSION
__all__ = [
    "Counter",
    "Gauge",
    "Histogram",
    "MetricError",
    "Objective",
    "Observability",
    "ObservabilityMiddleware",
    "ObservedLock",
    "Settings",
    "SettingsError",
    "SetupError",
    "Summary",
    "TercetError",
    "UnknownSettingError",
    "UpDownCounter",
    "correlation_id",
    "metrics_app",
    "observe_queue",
    "observed",
    "setup_observability",
    "traced",
    "watch_event_loop",
]
