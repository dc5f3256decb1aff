"""Traces, metrics and logs that belong together: one call, three signals, one id."""

from tercet.configure.handle import Observability
from tercet.configure.setup import metrics_app, setup_observability
from tercet.declare.settings import Settings
from tercet.declare.version import VERSION
from tercet.emit.asgi import ObservabilityMiddleware
from tercet.emit.correlation import correlation_id
from tercet.emit.traces import traced
from tercet.errors import SettingsError, SetupError, TercetError, UnknownSettingError

__version__ = VERSION
__all__ = [
    "Observability",
    "ObservabilityMiddleware",
    "Settings",
    "SettingsError",
    "SetupError",
    "TercetError",
    "UnknownSettingError",
    "correlation_id",
    "metrics_app",
    "setup_observability",
    "traced",
]
