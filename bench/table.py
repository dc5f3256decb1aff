"""Results as Markdown: pure functions from figures to tables."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench import figures
from bench.bars import bars
from bench.exporter import SIGNALS
from bench.figures import Results
from bench.rounds import Sample, Samples, median
from bench.variants import BARE, TERCET, VARIANTS, Variant

NOTHING = "-"
_KINDS = {"server_spans": "spans", "logs": "logs", "traces": "traces"}
_COST = ("CPU µs a request", "tax over bare", "÷ upstream's tax")
_SATURATION = ("offered", "a second", "delivered", "counted as dropped", "not counted", "delivered a second")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Draw a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main_table(results: Results) -> str:
    """Show of every variant what a request costs with everything delivered, and what it leaves over HTTP."""
    a, b = results.get("a", {}).get("complete", {}), results.get("b", {})
    rows = ([variant.name, *_cost(a, variant), *_throughput(b, variant)] for variant in measured(results))
    return table(("", *_COST, "requests/s", "kept of bare", "p99"), rows)


def measured(results: Results) -> Iterator[Variant]:
    """Walk through the variants that have samples in one of the parts that compare them."""
    samples = [results.get("a", {}).get("complete", {}), results.get("b", {})]
    return (variant for variant in VARIANTS if any(each.get(variant.key) for each in samples))


def _cost(samples: Samples, variant: Variant) -> list[str]:
    cost = number(figures.cost(samples, variant.key))
    if variant is BARE:
        return [cost, NOTHING, NOTHING]
    tax, ratio = figures.tax(samples, variant.key), figures.tax_ratio(samples, variant.key)
    return [cost, number(tax), number(ratio, 2)]


def _throughput(samples: Samples, variant: Variant) -> list[str]:
    if not samples.get(variant.key):
        return [NOTHING] * 3
    per_second, p99 = (median(samples[variant.key], figure) for figure in ("per_second", "p99"))
    return [number(per_second), percent(figures.kept(samples, variant.key)), number(p99, 1, " ms")]


def bars_table(results: Results) -> str:
    """Hold the figures to the bars."""
    return table(("figure", "this run", "must", "aim", ""), (bar.row() for bar in bars(results)))


def inprocess_table(results: Results, run: str) -> str:
    """Show one of the two loops of part (a)."""
    a = results["a"][run]
    rows = (
        [
            variant.name,
            *_cost(a, variant),
            spread(a[variant.key], "microseconds"),
            number(median(a[variant.key], "megabytes"), 0, " MB"),
            arrived(a[variant.key], variant),
        ]
        for variant in VARIANTS
        if a.get(variant.key)
    )
    return table(("", *_COST, "lowest to highest", "peak memory", "delivered"), rows)


def http_table(results: Results) -> str:
    """Show part (b)."""
    b = results["b"]
    rows = (
        [
            variant.name,
            *_throughput(b, variant),
            number(figures.slower(b, variant.key), 1),
            spread(b[variant.key], "per_second"),
            arrived(b[variant.key], variant),
        ]
        for variant in VARIANTS
        if b.get(variant.key)
    )
    head = (
        "",
        "requests/s",
        "kept of bare",
        "p99",
        "÷ bare's p99",
        "lowest to highest requests/s",
        "delivered",
    )
    return table(head, rows)


def startup_table(results: Results) -> str:
    """Show part (c)."""
    rows = (
        [name, number(median(samples, "seconds"), 2, " s"), number(median(samples, "megabytes"), 0, " MB")]
        for name, samples in results["c"].items()
    )
    return table(("a whole process", "time", "peak memory"), rows)


def encoding_table(results: Results) -> str:
    """Show the encoders of part (d)."""
    rows = (
        [
            items,
            *(number(statistics.median(found[of]), 1) for of in ("ours", "theirs", "ratio")),
            "yes" if found["same"] else "**no**",
        ]
        for items, found in results["d"]["encoding"].items()
    )
    head = ("", "tercet, µs an item", "upstream, µs an item", "ratio", "decode to the same messages")
    return table(head, rows)


def scrape_table(results: Results) -> str:
    """Show the scrapes of part (d)."""
    found = results["d"]["scrape"]
    rows = (
        [name, number(statistics.median(found[took]) * 1000, 1), *_waited(found, waited)]
        for name, took, waited in (
            ("tercet, declared metrics", "declared", "held_up"),
            ("tercet, the SDK's instruments", "ours", None),
            ("upstream, the SDK's instruments", "theirs", "held_up_by_theirs"),
        )
    )
    return table(("", "ms a scrape", "longest turn of the loop, ms", "without a scrape, ms"), rows)


def _waited(found: Mapping[str, Any], of: str | None) -> list[str]:
    if of is None:
        return ["-", "-"]
    return [number(statistics.median(found[each]) * 1000, 1) for each in (of, "idle")]


def saturation_table(results: Results) -> str:
    """Show what became of what was offered, in part (d)."""
    d = results["d"]
    rows = (row for signal in SIGNALS for row in _saturation_rows(signal, d[f"saturation of {signal}"]))
    return table(("", *_SATURATION), rows)


def _saturation_rows(signal: str, found: Sample) -> Iterator[list[str]]:
    yield _saturation_row(f"tercet, {signal}, as fast as possible", found["flooded"])
    yield _saturation_row(f"tercet, {signal}, at 90 % of saturation", found["paced"])
    yield _saturation_row(f"SDK, {signal}, as fast as possible", found["upstream"])


def _saturation_row(name: str, trial: Sample) -> list[str]:
    counted = figures.dropped(trial)
    neither = trial["offered"] - trial["received"] - counted
    counts = (trial["offered"], trial["offered_rate"], trial["received"], counted, neither)
    return [name, *(number(count) for count in (*counts, trial["delivered_rate"]))]


def growth_table(results: Results) -> str:
    """Show part (e)."""
    rows = (
        [
            load,
            number(figures.cost(samples, BARE.key)),
            number(figures.cost(samples, TERCET.key)),
            number(figures.tax(samples, TERCET.key)),
            number(figures.growth_of(results["e"], load), 2) if "sampled" not in load else NOTHING,
        ]
        for load, samples in results["e"].items()
    )
    return table(("load", "bare, µs", "tercet, µs", "tax, µs", "÷ the usual"), rows)


def steps_table(results: Results) -> str:
    """Show what steps through metrics cost, in part (f)."""
    rows = (
        [kind, *(number(found[way], 2) for way in ("sdk", "unbound", "bound"))]
        for kind, found in results["f"].items()
    )
    return table(("µs a step", "the SDK's", "declared", "declared and bound"), rows)


def notes(results: Results) -> Iterator[str]:
    """Say what a reader must know of each variant, and which are left out."""
    yield from (f"- {variant.name}: {variant.note}" for variant in measured(results) if variant.note)
    yield from (f"- left out: {key}, {reason}" for key, reason in results["left_out"].items())


def place(results: Results) -> str:
    """Say where it was measured."""
    on = results["machine"]
    part = "with its part in C" if on["is_compiled"] else "all in Python"
    return (
        f"Python {on['python']}, {on['cores']} cores of {on['processor']}, load {on['load']} at the start; "
        f"tercet {part}"
    )


def versions(results: Results) -> str:
    """Say with what versions."""
    return ", ".join(f"{name} {version}" for name, version in sorted(results["machine"]["versions"].items()))


def arrived(samples: list[Sample], variant: Variant) -> str:
    """Say of which share of its requests each kind of item was delivered."""
    shares = figures.delivered(samples, variant)
    return ", ".join(f"{_KINDS[kind]} {percent(share)}" for kind, share in shares.items()) or NOTHING


def spread(samples: list[Sample], figure: str) -> str:
    """Say how far apart the rounds are."""
    values = [sample[figure] for sample in samples]
    return f"{number(min(values))} to {number(max(values))}"


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Write a number; nothing for what was not measured."""
    return NOTHING if value is None else f"{value:,.{digits}f}{unit}"


def percent(share: float | None) -> str:
    """Write a share; what is nearly the whole is not shown as the whole."""
    if share is None:
        return NOTHING
    if 0.99 < share < 1:
        return f"{int(share * 1000) / 10:.1f} %"
    return f"{share * 100:.0f} %"
