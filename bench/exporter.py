"""(d) What encoding and a scrape cost beside upstream's, and what becomes of more than can be delivered."""

from bench.counter import receiver
from bench.process import run_json
from bench.rounds import Sample, tell
from bench.saturation import Fill
from bench.variants import MAIN, TERCET

SIGNALS = ("traces", "logs")
_RECEIVED = {"traces": "distinct_spans", "logs": "logs"}
_STEPS = 4
# Of the rate at which it is saturated: there nothing may be dropped.
SHARE = 0.9


def measure(seconds: float) -> dict[str, Sample]:
    """Measure the encoder, a scrape, then saturation by signal; each trial offers for so many seconds."""
    tell("exporter: encoding")
    found = {"encoding": run_json([MAIN.python, "-m", "bench.encoding"], {})}
    tell("exporter: a scrape")
    found["scrape"] = run_json([MAIN.python, "-m", "bench.scraping"], {})
    for signal in SIGNALS:
        found[f"saturation of {signal}"] = saturate(signal, seconds)
    return found


def saturate(signal: str, seconds: float) -> Sample:
    """Offer as much as possible, find out how much can be delivered, and then offer nine tenths of that."""
    flooded = fill(Fill("tercet", signal, seconds))
    trials = [flooded, *(search(signal, seconds, flooded) if flooded["lost"] else [])]
    saturation = max(trial["delivered_rate"] for trial in trials)
    return {
        "flooded": flooded,
        "upstream": fill(Fill("upstream", signal, seconds)),
        "saturation": saturation,
        "paced": fill(Fill("tercet", signal, 2 * seconds, SHARE * saturation)),
    }


def search(signal: str, seconds: float, flooded: Sample) -> list[Sample]:
    """Halve the gap between a pace at which nothing is lost and one at which something is, a few times."""
    low, high, trials = flooded["delivered_rate"], flooded["offered_rate"], []
    for _ in range(_STEPS):
        rate = (low + high) / 2
        trials.append(fill(Fill("tercet", signal, seconds, rate)))
        low, high = (low, rate) if trials[-1]["lost"] else (rate, high)
    return trials


def fill(what: Fill) -> Sample:
    """Fill an exporter once; say what became of what was offered, as it counts and as the server does."""
    pace = f"{what.rate:.0f} a second" if what.rate else "as fast as possible"
    tell(f"exporter: {what.who}, {what.signal}, {pace}")
    with receiver() as server:
        command = [MAIN.python, "-m", "bench.saturation", what.text()]
        found = run_json(command, TERCET.variables(server.url))
        received = server.counts().get(_RECEIVED[what.signal], 0)
    return found | {
        "received": received,
        "lost": found["offered"] - received,
        "offered_rate": found["offered"] / found["seconds"],
        "delivered_rate": received / found["until_empty"],
    }
