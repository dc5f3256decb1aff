"""`tercet run -- COMMAND`: any Python command with telemetry, without a change to its code."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable

from tercet.configure.propagation import build_propagator
from tercet.declare import parse
from tercet.declare.settings import Settings, Slot, slots
from tercet.errors import SettingsError

HELP = "Run a command with traces, metrics and logs, without changing its code."
_NOT_FOUND = 127
_PROPAGATORS = "OTEL_PROPAGATORS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take every setting as an option, then the command."""
    for slot in slots():
        about = f"for {slot.signal} alone" if slot.signal else slot.row.help
        parser.add_argument(
            f"--{slot.name.replace('_', '-')}", metavar="VALUE", help=f"{about} ({slot.variables[0]})"
        )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command, after --")


def run(arguments: argparse.Namespace) -> int:
    """Become the command, in an environment that sets it up when Python starts.

    The launcher is upstream's, so both ways to start a service are the same way.
    """
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("tercet run needs a command. Write: tercet run -- uvicorn app:app", file=sys.stderr)
        return 2
    if shutil.which(command[0]) is None:
        print(f"tercet run: {command[0]}: command not found", file=sys.stderr)
        return _NOT_FOUND
    for slot in slots():
        value = getattr(arguments, slot.name)
        if value is not None:
            os.environ[slot.variables[0]] = _as_variable(value, slot)
    try:
        build_propagator(Settings(propagators=parse.words(os.environ.get(_PROPAGATORS) or "none")))
    except SettingsError as error:
        return _become_without_telemetry(command, error)
    os.environ |= {"OTEL_PYTHON_DISTRO": "tercet", "OTEL_PYTHON_CONFIGURATOR": "tercet"}
    return _become(command)


def _as_variable(value: str, slot: Slot) -> str:
    """Options are in seconds throughout; some variables of the specification are not."""
    try:
        return str(float(value) * 1000) if slot.row.milliseconds else value
    except ValueError:
        return value  # The service says what is wrong with it, and starts.


def _become_without_telemetry(command: list[str], error: SettingsError) -> int:
    """Start the service all the same; upstream's API, which FastAPI imports, fails on a wrong propagator."""
    print(f"tercet run: Telemetry is off: {error}", file=sys.stderr)
    del os.environ[_PROPAGATORS]
    replace: Callable[[str, list[str]], object] = os.execvp
    replace(command[0], command)
    return 0


def _become(command: list[str]) -> int:
    from opentelemetry.instrumentation import auto_instrumentation

    sys.argv = ["opentelemetry-instrument", *command]
    auto_instrumentation.run()
    return 0
