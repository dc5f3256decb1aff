"""The bars: what each figure must reach, what it should reach, and whether it does."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench import figures
from bench.exporter import SIGNALS
from bench.figures import Results
from bench.rounds import median
from bench.startup import SETUP
from bench.steps import KINDS
from bench.variants import TERCET

# "Flat" leaves room for what a machine's noise does to a ratio of differences.
_FLAT, _FLATTER = 1.25, 1.1
_WRITTEN: Mapping[str, Callable[[float], str]] = {
    "ratio": lambda value: f"{value:.2f}",
    "times": lambda value: f"{value:.1f} times",
    "share": lambda value: f"{value * 100:.0f} %",
    "seconds": lambda value: f"{value:.2f} s",
    "milliseconds": lambda value: f"{value * 1000:.1f} ms",
    "megabytes": lambda value: f"{value:.0f} MB",
    "items": lambda value: f"{value:,.0f}",
}


@dataclass(frozen=True)
class Bar:
    """A figure of this run, and what it is held to.

    Attributes:
        figure: What was measured.
        value: The figure; None where this run did not measure it.
        must: What it has to reach; None where nothing is asked.
        aim: What it should reach; None where there is nothing beyond.
        unit: ratio, times, share, seconds, milliseconds, megabytes or items.
        at_least: Whether more is better.
    """

    figure: str
    value: float | None
    must: float | None
    aim: float | None
    unit: str = "ratio"
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Say whether it is met."""
        if self.value is None:
            return "not measured"
        if not self._reaches(self.must):
            return "**not met**"
        if self.aim is None:
            return "met"
        if self._reaches(self.aim):
            return "met, the aim too"
        return "met" if self.must is not None else "short of the aim"

    def row(self) -> list[str]:
        """Write it as a row of the table."""
        sign = "≥ " if self.at_least else "≤ "
        return [
            self.figure,
            self._written(self.value),
            self._written(self.must, sign),
            self._written(self.aim, sign),
            self.verdict,
        ]

    def _reaches(self, bar: float | None) -> bool:
        if bar is None or self.value is None:
            return True
        return self.value >= bar if self.at_least else self.value <= bar

    def _written(self, value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{sign}{_WRITTEN[self.unit](value)}"


def bars(results: Results) -> list[Bar]:
    """Hold the results to every bar; those of parts that were not run have no value."""
    parts = (_of_requests, _of_start, _of_exporter, _of_growth, _of_steps)
    return [bar for part in parts for bar in part(results)]


def _of_requests(results: Results) -> Iterator[Bar]:
    a, b, key = results.get("a", {}), results.get("b", {}), TERCET.key
    share = "(a) tax ÷ `opentelemetry-instrument`'s"
    delivered, unpaused = (figures.tax_ratio(a.get(run, {}), key) for run in ("complete", "closed"))
    yield Bar(f"{share}, all delivered", delivered, 0.20, 0.14)
    yield Bar(f"{share}, in a loop without a pause", unpaused, 0.20, 0.14)
    yield Bar("(b) throughput kept of bare", figures.kept(b, key), 0.65, 0.75, "share", at_least=True)
    yield Bar("(b) p99 ÷ bare's", figures.slower(b, key), 2.5, 1.5)


def _of_start(results: Results) -> Iterator[Bar]:
    setup = results.get("c", {}).get(SETUP)
    seconds, megabytes = (median(setup, of) if setup else None for of in ("seconds", "megabytes"))
    yield Bar("(c) setup, whole process", seconds, 0.40, 0.25, "seconds")
    yield Bar("(c) setup, peak memory", megabytes, 40, None, "megabytes")


def _of_exporter(results: Results) -> Iterator[Bar]:
    d: dict[str, Any] = results.get("d", {})
    for items in ("spans", "logs"):
        ratio = statistics.median(d["encoding"][items]["ratio"]) if d else None
        yield Bar(f"(d) encoding of {items}, upstream's time ÷ ours", ratio, 4, 6, "times", at_least=True)
    scrape = d.get("scrape", {})
    ratio, sdk_ratio = (statistics.median(scrape[of]) if scrape else None for of in ("ratio", "sdk_ratio"))
    yield Bar("(d) scrape of declared metrics, our time ÷ upstream's", ratio, 0.5, 0.2)
    yield Bar("(d) scrape of the SDK's instruments, our time ÷ upstream's", sdk_ratio, 0.5, None)
    yield Bar("(d) an event loop held up by a scrape", figures.held_up(scrape), 0.005, 0.002, "milliseconds")
    for signal in SIGNALS:
        yield from _of_saturation(signal, d.get(f"saturation of {signal}"))


def _of_saturation(signal: str, found: dict[str, Any] | None) -> Iterator[Bar]:
    lost = at_pace = flooded = None
    if found is not None:
        lost = figures.unaccounted([found["flooded"], found["paced"]])
        at_pace, flooded = figures.dropped(found["paced"]), figures.dropped(found["flooded"])
    yield Bar(f"(d) {signal} neither delivered nor counted as dropped", lost, 0, None, "items")
    yield Bar(f"(d) {signal} dropped at 90 % of saturation", at_pace, 0, None, "items")
    yield Bar(f"(d) {signal} dropped at saturation", flooded, None, 0, "items")


def _of_growth(results: Results) -> Iterator[Bar]:
    e = results.get("e", {})
    yield Bar("(e) unsampled request's tax ÷ sampled one's", figures.unsampled(e), 0.5, 0.3)
    for what in ("routes", "series"):
        value = figures.growth_of(e, what)
        yield Bar(f"(e) tax with ten times the {what} ÷ with the usual", value, _FLAT, _FLATTER)
    value = figures.attribute_growth(e)
    yield Bar("(e) tax on the second fifty attributes ÷ on the first", value, _FLAT, _FLATTER)


def _of_steps(results: Results) -> Iterator[Bar]:
    f = results.get("f", {})
    for kind in KINDS:
        for way, must, aim in (("unbound", 1.0, 0.5), ("bound", 0.5, 0.25)):
            value = figures.step_ratio(f, kind, way)
            yield Bar(f"(f) step through a declared {kind}, {way} ÷ the SDK's", value, must, aim)
