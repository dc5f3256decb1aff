"""(e) What an unsampled request costs, and whether a request costs more when there is more of everything.

Each load is measured with tercet and without, so that what the framework itself pays for more routes is not
taken for the cost of telemetry. All of it is delivered, as in the second loop of the first part.
"""

from bench.inprocess import PAUSE_EVERY, by_run
from bench.request import Run
from bench.rounds import Samples
from bench.service import Load
from bench.variants import BARE, TERCET

FEW, HALF, MANY = 10, 50, 100
_USUAL = Load(attributes=FEW, routes=FEW, series=FEW)
LOADS = {
    "sampled": Load(),
    "unsampled": Load(),
    "usual": _USUAL,
    "no attributes": Load(attributes=0, routes=FEW, series=FEW),
    "half the attributes": Load(attributes=HALF, routes=FEW, series=FEW),
    "attributes": Load(attributes=MANY, routes=FEW, series=FEW),
    "routes": Load(attributes=FEW, routes=MANY, series=FEW),
    "series": Load(attributes=FEW, routes=FEW, series=MANY),
}


def measure(requests: int, rounds: int) -> dict[str, Samples]:
    """Measure each load with so many requests a round; return samples by load and variant."""
    runs = {
        name: Run(requests, PAUSE_EVERY, flags="00" if name == "unsampled" else "01", load=load)
        for name, load in LOADS.items()
    }
    return by_run("growth", (BARE, TERCET), runs, rounds)
