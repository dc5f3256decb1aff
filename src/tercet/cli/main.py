"""The command `tercet`."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType

from tercet.cli import demo, generate, metrics, run, settings, slo
from tercet.declare.version import VERSION
from tercet.errors import TercetError
from tercet.fast.stand_in import is_compiled

_COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "demo": demo,
    "generate": generate,
    "slo": slo,
    "settings": settings,
    "metrics": metrics,
}
_EXIT_CODES = "Exit codes: 0 done, 1 it failed, 2 the words or settings cannot be used, 130 interrupted."


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="tercet", description="Traces, metrics and logs that belong together.", epilog=_EXIT_CODES
    )
    make = "compiled" if is_compiled() else "nothing of it compiled"
    parser.add_argument("--version", action="version", version=f"tercet {VERSION} ({make})")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in _COMMANDS.items():
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP, epilog=_EXIT_CODES)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return its exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except TercetError as error:
        print(f"tercet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
