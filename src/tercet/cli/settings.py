"""`tercet settings`: the settings that a service would start with here, secrets hidden."""

import argparse
import json
import os

from tercet.declare.settings import Settings

HELP = "Show the settings that a service would start with here."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the form of the answer."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the effective settings."""
    shown = Settings.load(os.environ).shown()
    if arguments.json:
        print(json.dumps(shown, indent=2))
    else:
        width = max(map(len, shown))
        print("\n".join(f"{name:<{width}}  {value}" for name, value in shown.items()))
    return 0
