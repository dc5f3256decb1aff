"""(a) In process: what the processor spends on one request, without a network and a client beside it."""

import functools
from collections.abc import Iterable

from bench.counter import receiver
from bench.process import run_json
from bench.request import Run
from bench.rounds import Sample, Samples, by_load, interleave
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
    jobs = {
        f"{variant.key}, {load}": functools.partial(measure_once, variant, run)
        for variant in variants
        for load, run in runs.items()
    }
    return by_load(interleave("in process", jobs, rounds), runs)


def measure_once(variant: Variant, run: Run) -> Sample:
    """Run a variant in a process of its own, and say what it cost and what was delivered."""
    with receiver() as server:
        command = variant.command("-m", "bench.request", run.text())
        figures = run_json(command, variant.variables(server.url))
        return figures | {"requests": run.requests, "received": server.counts()}
