"""What follows from the samples: costs, taxes over bare, and shares of what was delivered."""

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from bench.rounds import Sample, Samples, median, undisturbed
from bench.variants import BARE, TERCET, UPSTREAM, Variant

Results = dict[str, Any]


def cost(samples: Samples, key: str) -> float | None:
    """Return the microseconds of processor time that a request costs with a variant."""
    return undisturbed(samples[key], "microseconds") if samples.get(key) else None


def tax(samples: Samples, key: str) -> float | None:
    """Return how much more that is than without."""
    return minus(cost(samples, key), cost(samples, BARE.key))


def tax_ratio(samples: Samples, key: str) -> float | None:
    """Return a variant's tax as a share of the tax of `opentelemetry-instrument`."""
    return over(tax(samples, key), tax(samples, UPSTREAM.key))


def kept(samples: Samples, key: str) -> float | None:
    """Return the share of bare's requests a second that a variant keeps."""
    return over(_http(samples, key, "per_second"), _http(samples, BARE.key, "per_second"))


def slower(samples: Samples, key: str) -> float | None:
    """Return how many times bare's 99th percentile a variant's is."""
    return over(_http(samples, key, "p99"), _http(samples, BARE.key, "p99"))


def _http(samples: Samples, key: str, figure: str) -> float | None:
    return median(samples[key], figure) if samples.get(key) else None


def delivered(samples: list[Sample], variant: Variant) -> dict[str, float]:
    """Return the share of its requests of which each kind of item arrived, over all rounds."""
    requests = sum(sample["requests"] for sample in samples)
    # What was under way when wrk stopped is delivered too, and wrk does not count it.
    return {
        kind: min(1.0, sum(sample["received"].get(kind, 0) for sample in samples) / requests)
        for kind in variant.sends
        if kind != "points"
    }


def unsampled(growth: dict[str, Samples]) -> float | None:
    """Return an unsampled request's tax as a share of a sampled one's.

    Bare costs the same for both, so it is the mean of both: a machine that is slower for one of the two loads
    would be taken for its tax.
    """
    loads = [growth.get(load, {}) for load in ("unsampled", "sampled")]
    bares = [cost(load, BARE.key) for load in loads]
    bare = None if None in bares else statistics.fmean(filter(None, bares))
    of_unsampled, of_sampled = (minus(cost(load, TERCET.key), bare) for load in loads)
    return over(of_unsampled, of_sampled)


def step_ratio(steps: dict[str, dict[str, float]], kind: str, way: str) -> float | None:
    """Return what a step through a declared metric costs, as a share of the SDK's."""
    found = steps.get(kind)
    return over(found[way], found["sdk"]) if found else None


def growth_of(growth: dict[str, Samples], what: str) -> float | None:
    """Return how many times as much a request's tax is with ten times as many routes or series."""
    return over(tax(growth.get(what, {}), TERCET.key), tax(growth.get("usual", {}), TERCET.key))


def attribute_growth(growth: dict[str, Samples]) -> float | None:
    """Return what the second half of many attributes costs, as a share of what the first half costs.

    A request with ten times as many has ten times as many to pay for; flat is what each of them costs.
    Halves, because ten attributes alone cost less than the noise.
    """
    none, half, many = (
        tax(growth.get(load, {}), TERCET.key)
        for load in ("no attributes", "half the attributes", "attributes")
    )
    return over(minus(many, half), minus(half, none))


def unaccounted(trials: Iterable[Sample]) -> int:
    """Count the items that tercet's own counts and the server's do not explain."""
    return sum(
        abs(trial["offered"] - trial["delivered"] - sum(trial["dropped"].values()))
        + abs(trial["delivered"] - trial["received"])
        for trial in trials
    )


def dropped(trial: Sample) -> int:
    """Count what the exporter says that it has dropped; the SDK's says nothing."""
    return sum(trial.get("dropped", {}).values())


def held_up(scrape: Mapping[str, Any]) -> float | None:
    """Say for how long a scrape holds an event loop up, beyond what the machine does by itself."""
    if not scrape:
        return None
    return max(0.0, statistics.median(scrape["held_up"]) - statistics.median(scrape["idle"]))


def minus(much: float | None, little: float | None) -> float | None:
    """Subtract, where both were measured."""
    return much - little if much is not None and little is not None else None


def over(above: float | None, below: float | None) -> float | None:
    """Divide, where both were measured, and not lost in the noise: a cost is above nothing."""
    return above / below if above and below and above > 0 and below > 0 else None
