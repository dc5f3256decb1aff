"""(a) In process: what the processor spends on one request, without a network and a client beside it.

Where all is delivered, the variants take turns; what their threads do between two turns is not counted. The
loop that never pauses must be a long one, and so they run one after the other.
"""

import functools
from collections.abc import Iterable

from bench.counter import receiver
from bench.process import run_json
from bench.request import Run
from bench.rounds import Sample, Samples, interleave
from bench.turns import take_turns
from bench.variants import Variant

# Less than any variant's queue holds of what so many requests make: the SDK's holds 2048, and a request of
# FastAPI's own telemetry makes 4 spans.
PAUSE_EVERY = 400


def measure(variants: Iterable[Variant], closed: int, complete: int, rounds: int) -> dict[str, Samples]:
    """Measure each variant in a loop that leaves exporters no room, and in one in which all is delivered.

    Args:
        variants: Whom.
        closed: Requests in the loop that never pauses.
        complete: Requests a round in turns, each of which sends what is waiting.
        rounds: How often.
    """
    variants = list(variants)
    jobs = {variant.key: functools.partial(measure_once, variant, Run(closed)) for variant in variants}
    players = {variant.key: (variant, Run(PAUSE_EVERY, whole=complete)) for variant in variants}
    return {
        "closed": interleave("in process", jobs, rounds),
        "complete": take_turns("in process, in turns", players, complete // PAUSE_EVERY, rounds),
    }


def measure_once(variant: Variant, run: Run) -> Sample:
    """Run a variant in a process of its own, and say what it cost and what was delivered."""
    with receiver() as server:
        command = variant.command("-m", "bench.request", run.text())
        figures = run_json(command, variant.variables(server.url))
        return figures | {"requests": run.requests, "received": server.counts()}
