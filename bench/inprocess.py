"""(a) In process: what the processor spends on one request, without a network and a client beside it."""

import functools
from collections.abc import Iterable, Mapping

from bench.counter import receiver
from bench.process import run_json
from bench.request import Run
from bench.rounds import Sample, Samples, interleave
from bench.variants import Variant

# Less than any variant's queue holds of what so many requests make: the SDK's holds 2048, and a request of
# FastAPI's own telemetry makes 4 spans.
PAUSE_EVERY = 400


def measure(variants: Iterable[Variant], closed: int, complete: int, rounds: int) -> dict[str, Samples]:
    """Measure each variant in a loop that leaves exporters no room, and in one in which all is delivered.

    Args:
        variants: Whom.
        closed: Requests in the loop that never pauses.
        complete: Requests in the loop that sends what is waiting, every now and then.
        rounds: How often.
    """
    runs = {"closed": Run(closed), "complete": Run(complete, pause_every=PAUSE_EVERY)}
    return by_run("in process", variants, runs, rounds)


def by_run(
    part: str, variants: Iterable[Variant], runs: Mapping[str, Run], rounds: int
) -> dict[str, Samples]:
    """Measure variants under several loads, all in the same rounds; return samples by load and variant."""
    jobs = {
        f"{variant.key}, {name}": functools.partial(measure_once, variant, run)
        for variant in variants
        for name, run in runs.items()
    }
    samples = interleave(part, jobs, rounds)
    found: dict[str, Samples] = {name: {} for name in runs}
    for job, figures in samples.items():
        key, _, name = job.partition(", ")
        found[name][key] = figures
    return found


def measure_once(variant: Variant, run: Run) -> Sample:
    """Run a variant in a process of its own, and say what it cost and what was delivered."""
    with receiver() as server:
        command = variant.command("-m", "bench.request", run.text())
        figures = run_json(command, variant.variables(server.url))
        return figures | {"requests": run.requests, "received": server.counts()}
