"""`tercet slo`: what is left of error budgets, whether it is enough to deploy, and what others promised."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.cli.generate import load_catalog_of
from tercet.declare.burn_rate import PERIODS
from tercet.errors import PrometheusError, SettingsError

if TYPE_CHECKING:  # imported late: `tercet run` starts services, and asks nobody
    from tercet.ask.budgets import Budget

HELP = "Show the error budgets that are left, stop a deployment when they are too small, import objectives."
_ENOUGH, _BELOW, _UNKNOWN = 0, 1, 3
_EXIT_CODES = "2 the words or the document cannot be used, 3 {unknown}or Prometheus cannot be asked."
_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands of `tercet slo`."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    about = "Show how much of each budget is left, in percent and in minutes, the worst first."
    codes = "Exit codes: 0 each budget has something left, 1 a budget is spent, "
    status = commands.add_parser(
        "status",
        help=about,
        description=about,
        epilog=codes + _EXIT_CODES.format(unknown="an objective has no data, "),
    )
    _take_questions(status)
    status.set_defaults(act=_status)
    about = "Stop a deployment, by exit code, when too little of a budget is left, or nobody knows how much."
    codes = "Exit codes: 0 enough is left, 1 a budget is below the bar, "
    gate = commands.add_parser(
        "gate",
        help=about,
        description=about,
        epilog=codes + _EXIT_CODES.format(unknown="an objective has no data, "),
    )
    _take_questions(gate)
    gate.add_argument(
        "--min-budget", default="0%", metavar="SHARE", help="what must be left: 10%% or 0.1 (default: 0%%)"
    )
    gate.add_argument(
        "--allow-no-data", action="store_true", help="let objectives pass of which Prometheus has no data yet"
    )
    gate.set_defaults(act=_gate)
    about = "Write an objectives document from sloth's specifications (prometheus/v1) or OpenSLO v1."
    codes = "Exit codes: 0 each objective is there, 1 some had to be left out, 2 a file cannot be used."
    imports = commands.add_parser("import", help=about, description=about, epilog=codes)
    imports.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="others' files, all that belong together"
    )
    imports.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="a file to write, which must not be there yet (default: stdout)",
    )
    imports.add_argument(
        "--period", choices=list(PERIODS), default="30d", help="what sloth is run with (default: 30d)"
    )
    imports.add_argument(
        "--json", action="store_true", help="print one JSON object; the document goes to --out"
    )
    imports.set_defaults(act=_import)


def _take_questions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "objectives",
        type=Path,
        nargs="?",
        default=Path("objectives.yaml"),
        metavar="objectives.yaml",
        help="what is promised (default: objectives.yaml)",
    )
    parser.add_argument("--module", help="code with metrics and objectives, such as shop.app; it is imported")
    for name, what in (
        ("service", "this service"),
        ("objective", "this objective"),
        ("environment", "there"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"look at {what} only; repeat for more",
        )
    parser.add_argument(
        "--prometheus", default="http://127.0.0.1:9090", metavar="URL", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with a bearer token for Prometheus"
    )
    parser.add_argument("--user", metavar="NAME", help="user for Prometheus, with --password-file")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="file with the user's password")
    parser.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="file of the authority that signed for Prometheus"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=_SECONDS,
        metavar="SECONDS",
        help="for Prometheus' answer (default: 10)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _seconds(text: str) -> float:
    from tercet.declare.parse import Unusable, number

    try:
        return number(0.1, 600, "Write 10.")(text)
    except Unusable as unusable:
        raise argparse.ArgumentTypeError(f"must be {unusable.rule}, got {text!r}. {unusable.mend}") from None


def run(arguments: argparse.Namespace) -> int:
    """Ask, and return what a script should know."""
    try:
        return int(arguments.act(arguments))
    except PrometheusError as error:
        print(f"tercet: {error}", file=sys.stderr)
        return _UNKNOWN


def _budgets(arguments: argparse.Namespace) -> "list[Budget]":
    from tercet.ask.budgets import choose, read_budgets
    from tercet.ask.prometheus import Prometheus, load_access

    access = load_access(
        arguments.prometheus,
        token_file=arguments.token_file,
        user=arguments.user,
        password_file=arguments.password_file,
        authority=arguments.ca_file,
        timeout=arguments.timeout,
    )
    objectives = choose(load_catalog_of(arguments).objectives, arguments.service, arguments.objective)
    return read_budgets(Prometheus(access).query, objectives, arguments.environment)


def _status(arguments: argparse.Namespace) -> int:
    from tercet.ask.report import describe

    budgets = _budgets(arguments)
    if arguments.json:
        print(json.dumps({"objectives": [describe(budget) for budget in budgets]}, indent=2))
    else:
        _show(budgets)
    if any(budget.is_spent for budget in budgets):
        return _BELOW
    return _UNKNOWN if any(budget.unknown for budget in budgets) else _ENOUGH


def _show(budgets: "Sequence[Budget]") -> None:
    from tercet.ask.report import render_budgets

    in_colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(render_budgets(budgets, in_colour=in_colour))


def _gate(arguments: argparse.Namespace) -> int:
    from tercet.ask.gate import explain, judge, parse_bar
    from tercet.ask.report import describe

    bar = parse_bar(arguments.min_budget)
    budgets = _budgets(arguments)
    verdict = judge(budgets, bar, allow_no_data=arguments.allow_no_data)
    if arguments.json:
        told = {"passed": verdict.passed, "min_budget": float(bar)}
        print(json.dumps({**told, "objectives": [describe(budget) for budget in budgets]}, indent=2))
    else:
        _show(budgets)
    print(explain(verdict), file=sys.stderr)
    if verdict.below:
        return _BELOW
    return _UNKNOWN if verdict.unknown else _ENOUGH


def _import(arguments: argparse.Namespace) -> int:
    from tercet.declare.foreign import load_foreign
    from tercet.generate.document import render_document
    from tercet.generate.files import create_file

    if arguments.json and arguments.out is None:
        raise SettingsError("--out must be given with --json, got nothing. Write --out objectives.yaml.")
    imported = load_foreign(arguments.files, arguments.period)
    document, losses = render_document(imported), imported.losses
    if arguments.out is not None:
        create_file(arguments.out, document)
    if arguments.json:
        told = [{"what": what, "places": places} for what, places in losses.places.items()]
        print(
            json.dumps(
                {"objectives": len(imported.drafts), "left_out": losses.left_out, "losses": told}, indent=2
            )
        )
    else:
        print(document if arguments.out is None else f"{len(imported.drafts)} objectives in {arguments.out}")
        for what, places in losses.places.items():
            print(f"{', '.join(places)}: {what}", file=sys.stderr)
    return _BELOW if losses.left_out else _ENOUGH
