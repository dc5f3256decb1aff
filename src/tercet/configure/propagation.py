"""How context crosses processes."""

import logging
from importlib.metadata import entry_points

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from tercet.declare.pace import Pace
from tercet.declare.settings import Settings
from tercet.emit.correlation import ALIAS, HEADER, CorrelationPropagator
from tercet.emit.headers import Propagators
from tercet.emit.tracecontext import TraceContextPropagator
from tercet.errors import SettingsError

# Ours for `tracecontext` too: upstream's breaks four cases of the public validation suite.
_OWN: dict[str, type[TextMapPropagator]] = {
    "tracecontext": TraceContextPropagator,
    "baggage": W3CBaggagePropagator,
    "correlation": CorrelationPropagator,
}
# The headers without which there is nothing for these to read.
_READ: dict[str, frozenset[str]] = {
    "tracecontext": frozenset({"traceparent"}),
    "baggage": frozenset({"baggage"}),
    "correlation": frozenset({HEADER, ALIAS}),
}


def build_propagator(settings: Settings) -> TextMapPropagator:
    """Make the propagator that the settings name; `none` makes one that does nothing.

    Raises:
        SettingsError: A name is not installed.
    """
    names = [name for name in settings.propagators if name != "none"]
    return Propagators([(_build(name), _READ.get(name, frozenset())) for name in names])


class Guarded(TextMapPropagator):
    """Let a foreign propagator fail without failing the request that it is asked about."""

    def __init__(self, propagator: TextMapPropagator) -> None:
        self._propagator = propagator
        self._minutely = Pace()

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read what the propagator finds; nothing when it fails."""
        try:
            return self._propagator.extract(carrier, context, getter)
        except Exception as error:
            self._tell(error)
            return Context() if context is None else context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Write what the propagator writes, as far as it comes."""
        try:
            self._propagator.inject(carrier, context, setter)
        except Exception as error:
            self._tell(error)

    @property
    def fields(self) -> set[str]:
        """Name the fields of the propagator."""
        return self._propagator.fields

    def _tell(self, error: Exception) -> None:
        if self._minutely.allows():
            name = type(self._propagator).__qualname__
            logging.getLogger("tercet").warning("The propagator %s failed: %r", name, error)


def _build(name: str) -> TextMapPropagator:
    if name in _OWN:
        return _OWN[name]()
    found = list(entry_points(group="opentelemetry_propagator", name=name))
    if not found:
        raise SettingsError(
            f"propagators (OTEL_PROPAGATORS) must be {', '.join(_OWN)}, none or installed ones, "
            f"got {name!r}. Correct the name, or install it."
        )
    return Guarded(found[0].load()())
