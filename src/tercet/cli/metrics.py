"""`tercet metrics`: the reference page of the metrics that a module declares, or of tercet's own."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tercet.declare.metric import Metric
from tercet.declare.names import metric_name
from tercet.emit.registry import REGISTRY
from tercet.errors import MetricError
from tercet.generate.pages import CATALOG, metric_lines

if TYPE_CHECKING:  # imported late, with what reads documents
    from tercet.declare.promise import Promise

HELP = "Show the metrics that a module declares, or those that tercet emits by itself."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the module and the form of the answer."""
    parser.add_argument("module", nargs="?", help="what declares them, such as shop.app; it is imported")
    parser.add_argument("--json", action="store_true", help="print a JSON list")


def run(arguments: argparse.Namespace) -> int:
    """Print the metrics as a table in Markdown."""
    metrics = said_by(arguments.module)[0] if arguments.module else _own()
    if arguments.json:
        print(json.dumps([_described(metric) for metric in metrics], indent=2))
    else:
        print("\n".join(metric_lines(metrics)))
    return 0


def _own() -> Sequence[Metric]:
    return [metric for metrics in CATALOG for metric in metrics]


def said_by(module: str) -> "tuple[Sequence[Metric], Sequence[Promise]]":
    """Import a module as `python -m` would, and return what is declared and promised then.

    Raises:
        MetricError: There is no such module.
    """
    sys.path.insert(0, os.getcwd())
    os.environ["OTEL_SDK_DISABLED"] = "true"  # It is looked at, not run: nothing is sent.
    try:
        importlib.import_module(module.partition(":")[0])
    except ModuleNotFoundError as error:
        raise MetricError(
            f"module must be one that can be imported, got {module!r}: {error}. Write shop.app, for example."
        ) from error
    declared = [metric for metric in REGISTRY.declared() if metric not in _own()]
    return declared, list(REGISTRY.objectives)


def _described(metric: Metric) -> dict[str, object]:
    return {**asdict(metric), "prometheus": metric_name(metric.name, metric.unit, metric.kind)}
