"""`tercet demo`: five services, one order, three signals."""

import argparse
import asyncio
import importlib.util
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tercet.demo.catalog import ENVIRONMENT
from tercet.demo.faults import COLLECTOR_AWAY, FAULTS

if TYPE_CHECKING:  # imported late: the demo's extras may not be installed
    from tercet.demo.evidence import Evidence
    from tercet.demo.run import Sent

HELP = "run five services, place orders, and show their trace, RED metrics and logs"

_EXTRAS = ("fastapi", "uvicorn", "httpx")
_INTERRUPTED = 130
_MOST_ORDERS_A_SECOND = 1000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `tercet demo`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Run five services, place orders, and show their trace, RED metrics and logs."
    parser.epilog = _epilog()
    add = parser.add_argument
    add("--once", action="store_true", help="stop after one round")
    add("--json", action="store_true", help="print a JSON document a round instead")
    add("--requests", type=_count, default=20, metavar="N", help="orders in a round (default: 20)")
    rate_help = "orders a second, however long each takes (default: a few at a time, with pauses)"
    add("--rate", type=_rate, metavar="N", help=rate_help)
    fault_help = "break something, from the list below; may be given several times"
    add(
        "--fault", action="append", default=[], choices=FAULTS, dest="faults", metavar="NAME", help=fault_help
    )
    add("--otlp", type=_url, metavar="URL", help="send to this OTLP/HTTP collector instead")
    environment_help = "deployment.environment.name of the services (default: %(default)s)"
    add("--environment", type=_name, default=ENVIRONMENT, metavar="NAME", help=environment_help)


def _epilog() -> str:
    faults = [f"  {fault.name:<18} {fault.story}" for fault in FAULTS.values()]
    return "\n".join(
        [
            "faults:",
            *faults,
            "",
            "Without --once it goes on until Ctrl-C: a round every few seconds; without a pause at a --rate.",
            "Exit status: 0 done, 1 the demo failed, 2 wrong arguments, 130 interrupted.",
        ]
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo; return 0 when done, 1 when it failed, 130 when interrupted."""
    if not all(importlib.util.find_spec(name) for name in _EXTRAS):
        needs = 'tercet demo needs fastapi, uvicorn and httpx. Install them with: pip install "tercet[demo]"'
        print(needs, file=sys.stderr)
        return 1
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    from tercet.demo.ports import DemoError
    from tercet.demo.run import Options, Screen
    from tercet.demo.run import run as run_demo

    options = Options(
        requests=args.requests,
        once=args.once,
        otlp=args.otlp,
        environ=os.environ,
        environment=args.environment,
        rate=args.rate,
        faults=tuple(dict.fromkeys(args.faults)),
    )
    screen = Screen(
        show=lambda report: _show(report, args),
        progress=_progress,
        tell=lambda notice: print(notice, file=sys.stderr),
    )
    try:
        asyncio.run(run_demo(options, screen))
    except DemoError as error:
        print(f"tercet demo failed: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    return 0


def _show(report: "Evidence | Sent", args: argparse.Namespace) -> None:
    text = json.dumps(report) if args.json else _render(report, args.otlp)
    encoding = sys.stdout.encoding or "utf-8"
    # A terminal that cannot show a character gets a question mark, not a traceback.
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


def _render(report: "Evidence | Sent", otlp: str | None) -> str:
    from tercet.demo import render

    paint = render.ansi if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else render.plain
    if "trace" in report:
        return render.render_evidence(report, shutil.get_terminal_size().columns, paint)
    parts = [render.render_outcome(report["orders"], report["faults"], paint)]
    if COLLECTOR_AWAY in report["faults"]:
        parts.append(render.render_undelivered(report["undelivered"], paint))
    else:
        parts.append(render.render_sent(report["trace_id"], report["requests_sent"], otlp or ""))
    return "\n\n".join(parts)


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        from tercet.demo.render import render_progress

        end = "\n" if done == total else ""
        print(f"\r{render_progress(done, total)}", end=end, file=sys.stderr, flush=True)


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:10]) > 0:
        return int(text[:10])
    raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}.")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if 0 < rate <= _MOST_ORDERS_A_SECOND:
        return rate
    rule = f"a number above 0, {_MOST_ORDERS_A_SECOND:g} at most"
    raise argparse.ArgumentTypeError(f"must be {rule}, got {text!r}.")


def _name(text: str) -> str:
    if text.strip() and text.isprintable():
        return text
    raise argparse.ArgumentTypeError(f"must be a name, got {text!r}.")


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if usable:
        return text
    raise argparse.ArgumentTypeError(f"must be an http:// or https:// URL, got {text!r}.")
