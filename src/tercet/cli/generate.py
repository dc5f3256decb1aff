"""`tercet generate`: rules, alerts, routes, dashboards, runbooks and their tests, from objectives."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.declare.settings import Settings

if TYPE_CHECKING:  # imported late: `tercet run` starts services, and generates nothing
    from tercet.declare.objective import Catalog
    from tercet.generate.files import Difference

HELP = "Generate rules, alerts, routes, dashboards, runbooks and their tests from objectives."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tercet generate`."""
    parser.epilog = (
        "Exit codes: 0 done, 1 --check found files that are out of date, 2 the objectives cannot be used."
    )
    parser.add_argument("objectives", type=Path, metavar="objectives.yaml", help="what is promised")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: generated, beside it)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail when anything is out of date"
    )
    parser.add_argument("--module", help="code with metrics and objectives, such as shop.app; it is imported")
    parser.add_argument("--sloth", action="store_true", help="write specifications for sloth, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Write or compare; return 1 when a comparison finds a difference."""
    from tercet.generate.files import check_files, write_files
    from tercet.generate.tree import render_tree

    out = arguments.out or arguments.objectives.parent / "generated"
    files = render_tree(load_catalog_of(arguments), for_sloth=arguments.sloth)
    difference = (check_files if arguments.check else write_files)(out, files)
    if arguments.json:
        print(json.dumps({"out": str(out), "files": len(files), **asdict(difference)}))
    else:
        _tell(difference, arguments.check)
        print(f"{len(files)} files in {out}" + (" are up to date" if not difference else ""))
    return int(arguments.check and bool(difference))


def load_catalog_of(arguments: argparse.Namespace) -> "Catalog":
    """Load the document that a command names, and what the code of `--module` declares and promises."""
    from tercet.cli.metrics import said_by
    from tercet.declare.document import load_catalog

    declared, promises = said_by(arguments.module) if arguments.module else ((), ())
    return load_catalog(arguments.objectives, _settings(arguments.module), declared, promises)


def _settings(module: str | None) -> Settings:
    """Load the settings; those of code that sets itself up are what it says."""
    from tercet.configure.setup import current

    handle = current() if module else None
    return Settings.load(os.environ) if handle is None else handle.settings


def _tell(difference: "Difference", is_check: bool) -> None:
    changed = (
        f"{path} ({', '.join(concerned)})" if concerned else path
        for path, concerned in difference.changed.items()
    )
    words = ("missing", "differs", "obsolete") if is_check else ("new", "changed", "removed")
    for word, paths in zip(words, (difference.missing, changed, difference.obsolete), strict=True):
        for path in paths:
            print(f"{word}: {path}", file=sys.stderr)
