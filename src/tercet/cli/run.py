"""`tercet run -- COMMAND`: any Python command with telemetry, without a change to its code."""

import argparse
import os
import shutil
import sys

from tercet.declare.settings import Row, rows

HELP = "Run a command with traces, metrics and logs, without changing its code."
_NOT_FOUND = 127


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take every setting as an option, then the command."""
    for name, row in rows():
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="VALUE", help=f"{row.help} ({row.variables[0]})"
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
    for name, row in rows():
        value = getattr(arguments, name)
        if value is not None:
            os.environ[row.variables[0]] = _as_variable(value, row)
    os.environ |= {"OTEL_PYTHON_DISTRO": "tercet", "OTEL_PYTHON_CONFIGURATOR": "tercet"}
    return _become(command)


def _as_variable(value: str, row: Row) -> str:
    """Options are in seconds throughout; some variables of the specification are not."""
    try:
        return str(float(value) * 1000) if row.milliseconds else value
    except ValueError:
        return value  # The service says what is wrong with it, and starts.


def _become(command: list[str]) -> int:
    from opentelemetry.instrumentation import auto_instrumentation

    sys.argv = ["opentelemetry-instrument", *command]
    auto_instrumentation.run()
    return 0
