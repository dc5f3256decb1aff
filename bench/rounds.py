"""Interleaved rounds: all jobs once a round, in an order that turns, so that the machine's drift cancels."""

import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bench.process import RunError

Sample = dict[str, Any]
Samples = dict[str, list[Sample]]


def interleave(
    part: str, jobs: Mapping[str, Callable[[], Sample]], rounds: int, tell_every: int = 1
) -> Samples:
    """Do every job once a round, and collect what each measured; one that fails is named and left out.

    Args:
        part: What is measured, for those who watch.
        jobs: What to do, by name; each returns its figures.
        rounds: How often.
        tell_every: Of so many rounds one is told.
    """
    samples: Samples = {name: [] for name in jobs}
    for number in range(rounds):
        for name in _rotated(list(samples), number):
            if not number % tell_every:
                tell(f"{part}, round {number + 1} of {rounds}: {name}")
            try:
                samples[name].append(jobs[name]())
            except RunError as failed:
                tell(f"{part}: {name} is left out: {failed}")
                del samples[name]
    return samples


def by_load(samples: Samples, loads: Iterable[str]) -> dict[str, Samples]:
    """Sort the samples of jobs that are named `variant, load` by load, and by variant.

    >>> by_load({"bare, usual": []}, ["usual", "other"])
    {'usual': {'bare': []}, 'other': {}}
    """
    found: dict[str, Samples] = {load: {} for load in loads}
    for job, figures in samples.items():
        key, _, load = job.partition(", ")
        found[load][key] = figures
    return found


def _rotated(names: list[str], by: int) -> list[str]:
    start = by % len(names) if names else 0
    return names[start:] + names[:start]


def median(samples: list[Sample], figure: str) -> float:
    """Return the middle one of the values of a figure."""
    return float(statistics.median([sample[figure] for sample in samples]))


def undisturbed(samples: list[Sample], figure: str) -> float:
    """Return what a figure is on a machine that does nothing else.

    Of the turns of one process it is the tenth percentile: whatever else the machine does makes a turn slower
    and none faster, and may well do so for half of them. What a variant does once in many turns is left out
    as well, so each turn sends what it has made. Processes of several rounds each count as much.
    Of the few rounds of those that take no turns, it is the middle one.

    >>> disturbed = [{"µs": 90.0, "seat": 0}] * 8
    >>> undisturbed([{"µs": 50.0, "seat": 0}] * 2 + disturbed + [{"µs": 52.0, "seat": 1}] * 10, "µs")
    51.0
    """
    seats = {sample["seat"] for sample in samples if "seat" in sample}
    if not seats:
        return median(samples, figure)
    return statistics.fmean(
        statistics.quantiles(
            [sample[figure] for sample in samples if sample["seat"] == seat], n=10, method="inclusive"
        )[0]
        for seat in seats
    )


def tell(line: str) -> None:
    """Say how far it is, on stderr, for stdout belongs to the figures."""
    print(line, file=sys.stderr, flush=True)
