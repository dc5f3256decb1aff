"""Measure what telemetry costs, and hold it to what it must reach.

A whole run writes docs/cost.md and the section of README between its markers; any other only prints.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench import exporter, growth, http, inprocess, pages, startup
from bench.figures import Results
from bench.machine import machine
from bench.process import ROOT, RunError, run_json
from bench.rounds import tell
from bench.variants import ESSENTIAL, MAIN, VARIANTS, Variant

PARTS = {
    "a": "in process: CPU a request",
    "b": "over HTTP: requests a second and p99",
    "c": "start-up: time and memory",
    "d": "exporter: encoding, and saturation",
    "e": "unsampled requests, and growth",
    "f": "a step through a declared metric",
}


@dataclass(frozen=True)
class Effort:
    """How long a run takes, and so how steady its figures are."""

    rounds: int = 5
    closed: int = 20_000
    complete: int = 5_000
    wrk_seconds: float = 6
    fill_seconds: float = 4


QUICK = Effort(rounds=2, closed=3_000, complete=2_000, wrk_seconds=2, fill_seconds=1.5)


def main() -> None:
    """Measure, print, and write."""
    options = _options()
    effort = QUICK if options.quick else Effort()
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    variants, left_out = _chosen(options.only, options.without)
    results: Results = {"machine": machine(variants), "effort": vars(effort), "left_out": left_out}
    for part in options.parts:
        try:
            results |= _measure(part, variants, effort)
        except RunError as error:
            tell(f"part ({part}) is left out: {error}")
    failed = [variant for variant in variants if _failed(results, variant)]
    left_out |= {variant.key: "it failed" for variant in failed}
    print(json.dumps(results, indent=2) if options.json else pages.page(results))
    if essential := [variant.key for variant in failed if variant in ESSENTIAL]:
        sys.exit(f"bench: without {', '.join(essential)} there is nothing to compare")
    if options.write or _is_whole(options, results):
        pages.write(ROOT, results)
    else:
        tell("not a whole run: docs/cost.md and README.md stay as they are; --write writes them")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    keys = ", ".join(variant.key for variant in VARIANTS)
    about = "; ".join(f"{part} {what}" for part, what in PARTS.items())
    parser.add_argument("--parts", type=_parts, default="".join(PARTS), help=f"some of abcdef: {about}")
    parser.add_argument(
        "--only", type=_keys, metavar="VARIANTS", help=f"beside bare, upstream and tercet: {keys}"
    )
    parser.add_argument("--without", type=_keys, default=(), metavar="VARIANTS", help="leave these out")
    parser.add_argument("--quick", action="store_true", help="two short rounds: to see that it works")
    parser.add_argument("--rounds", type=int, help=f"{Effort.rounds} when not given")
    parser.add_argument("--json", action="store_true", help="print all samples as one JSON object")
    parser.add_argument("--write", action="store_true", help="write the pages after any run")
    return parser.parse_args()


def _parts(text: str) -> str:
    if not text or set(text) - set(PARTS):
        raise argparse.ArgumentTypeError(f"must be some of {''.join(PARTS)}, got {text!r}")
    return text


def _keys(text: str) -> tuple[str, ...]:
    keys, known = tuple(text.replace(",", " ").split()), [variant.key for variant in VARIANTS]
    if unknown := set(keys) - set(known):
        raise argparse.ArgumentTypeError(
            f"must be some of {', '.join(known)}, got {', '.join(sorted(unknown))}"
        )
    return keys


def _chosen(only: Sequence[str] | None, without: Sequence[str]) -> tuple[list[Variant], dict[str, str]]:
    """Choose variants: those asked for, of those that are installed; the figures need three of them."""
    wanted = [
        variant
        for variant in VARIANTS
        if variant in ESSENTIAL or ((only is None or variant.key in only) and variant.key not in without)
    ]
    missing = [variant for variant in wanted if not variant.is_installed()]
    for variant in missing:
        tell(f"{variant.key} is not installed, and is left out")
    if essential := [variant.key for variant in missing if variant in ESSENTIAL]:
        sys.exit(f"bench: {', '.join(essential)} must be installed; `make bench` does it")
    left_out = {variant.key: "by choice" for variant in VARIANTS if variant not in wanted}
    left_out |= {variant.key: "not installed" for variant in missing}
    return [variant for variant in wanted if variant not in missing], left_out


def _measure(part: str, variants: Sequence[Variant], effort: Effort) -> Results:
    rounds = effort.rounds
    if part == "b" and not http.has_wrk():
        tell(f"{http.HOW_TO_GET_WRK}; part (b) is left out")
        return {}
    measures: dict[str, Callable[[], Any]] = {
        "a": lambda: inprocess.measure(variants, effort.closed, effort.complete, rounds),
        "b": lambda: http.measure(variants, effort.wrk_seconds, rounds),
        "c": lambda: startup.measure(variants, rounds),
        "d": lambda: exporter.measure(effort.fill_seconds),
        "e": lambda: growth.measure(effort.complete, rounds),
        "f": lambda: run_json([MAIN.python, "-m", "bench.steps"], {}),
    }
    return {part: measures[part]()}


def _failed(results: Results, variant: Variant) -> bool:
    samples = [*results.get("a", {}).values(), *([results["b"]] if "b" in results else [])]
    return any(variant.key not in each for each in samples)


def _is_whole(options: argparse.Namespace, results: Results) -> bool:
    """Say whether a run is worth keeping: nothing was shortened, or left out but for want of a peer."""
    chosen = (options.quick, options.rounds, options.only, options.without)
    return not any(chosen) and results.keys() >= set(PARTS)


if __name__ == "__main__":
    main()
