"""The second door: what `opentelemetry-instrument` and `tercet run` call in the process they start."""

import logging
import os
from typing import Any

from tercet.configure.edges import Instrumentors
from tercet.configure.program import is_tracker
from tercet.configure.setup import give_up, other_distributions, setup_process
from tercet.declare.settings import Settings
from tercet.errors import TercetError

logger = logging.getLogger("tercet")


class TercetDistro(Instrumentors):
    """The distribution, for the entry point `opentelemetry_distro`."""

    def _configure(self, **_kwargs: Any) -> None:
        """Choose our configurator, also when another distribution is installed."""
        os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "tercet")


class TercetConfigurator:
    """Set the process up from its environment, for the entry point `opentelemetry_configurator`."""

    def configure(self, **_kwargs: Any) -> None:
        """Set up, or say in one warning why not; the service starts either way."""
        if is_tracker():
            return
        try:
            handle = setup_process(Settings.load(os.environ), by_agent=True)
        except TercetError as error:
            give_up()
            logger.warning("Telemetry is off: %s%s", error, _suspects())
        except Exception:
            give_up()
            logger.warning("Telemetry is off: tercet failed to start.", exc_info=True)
        else:
            if not handle.settings.disabled:
                TercetDistro().settings = handle.settings  # upstream's class is a singleton


def _suspects() -> str:
    """Name the distributions that may have set what is wrong: upstream runs whichever it finds first."""
    names = other_distributions()
    if not names:
        return ""
    return f" Another distribution may have set it: {names}. Set OTEL_PYTHON_DISTRO=tercet to choose."
