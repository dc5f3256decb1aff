"""How context crosses processes."""

from importlib.metadata import entry_points

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

from tercet.declare.settings import Settings
from tercet.emit.correlation import CorrelationPropagator
from tercet.emit.tracecontext import TraceContextPropagator
from tercet.errors import SettingsError

# Ours for `tracecontext` too: upstream's breaks four cases of the public validation suite.
_OWN: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextPropagator,
    "baggage": W3CBaggagePropagator,
    "correlation": CorrelationPropagator,
}


def build_propagator(settings: Settings) -> TextMapPropagator:
    """Make the propagator that the settings name; `none` makes one that does nothing.

    Raises:
        SettingsError: A name is not installed.
    """
    names = [name for name in settings.propagators if name != "none"]
    return CompositePropagator([_build(name) for name in names])


def _build(name: str) -> TextMapPropagator:
    if name in _OWN:
        return _OWN[name]()
    found = list(entry_points(group="opentelemetry_propagator", name=name))
    if not found:
        raise SettingsError(
            f"propagators (OTEL_PROPAGATORS) must be {', '.join(_OWN)}, none or installed ones, "
            f"got {name!r}. Correct the name, or install it."
        )
    propagator: TextMapPropagator = found[0].load()()
    return propagator
