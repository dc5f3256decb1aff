"""(e) What an unsampled request costs, and whether a request costs more when there is more of everything.

Each load is measured with tercet and without, so that what the framework itself pays for more routes is not
taken for the cost of telemetry. All of it is delivered after each turn, of which a round has a dozen: a turn
bears its share of sending the metrics, as if they were sent once a round.
"""

from bench.inprocess import PAUSE_EVERY
from bench.request import Run
from bench.rounds import Samples, by_load
from bench.service import Load
from bench.turns import take_turns
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
    """Measure each load with so many requests a round, in short turns; return samples by load and variant."""
    players = {
        f"{variant.key}, {load}": (variant, _run(load, requests))
        for variant in (BARE, TERCET)
        for load in LOADS
    }
    return by_load(take_turns("growth", players, requests // PAUSE_EVERY, rounds), LOADS)


def _run(load: str, requests: int) -> Run:
    flags = "00" if load == "unsampled" else "01"
    return Run(PAUSE_EVERY, flags=flags, load=LOADS[load], whole=requests)
