"""What `make bench` makes of its samples: figures, verdicts and pages."""

import pytest
from bench import figures, pages, table
from bench.bars import Bar, bars
from bench_results import costing, filled, results


def verdicts(found):
    return {bar.figure: bar.verdict for bar in bars(found)}


def test_each_bar_of_a_run_has_its_verdict():
    """Medians, taxes over bare and their ratios, each held to its bar."""
    assert verdicts(results()) == {
        "(a) tax ÷ `opentelemetry-instrument`'s, all delivered": "met",
        "(a) tax ÷ `opentelemetry-instrument`'s, in a loop without a pause": "met",
        "(b) throughput kept of bare": "**not met**",
        "(b) p99 ÷ bare's": "met",
        "(c) setup, whole process": "met",
        "(c) setup, peak memory": "**not met**",
        "(d) encoding of spans, upstream's time ÷ ours": "met, the aim too",
        "(d) encoding of logs, upstream's time ÷ ours": "met, the aim too",
        "(d) scrape of declared metrics, our time ÷ upstream's": "met, the aim too",
        "(d) scrape of the SDK's instruments, our time ÷ upstream's": "met",
        "(d) an event loop held up by a scrape": "met",
        "(d) traces neither delivered nor counted as dropped": "met",
        "(d) traces dropped at 90 % of saturation": "met",
        "(d) traces dropped at saturation": "short of the aim",
        "(d) logs neither delivered nor counted as dropped": "met",
        "(d) logs dropped at 90 % of saturation": "met",
        "(d) logs dropped at saturation": "short of the aim",
        "(e) unsampled request's tax ÷ sampled one's": "met",
        "(e) tax with ten times the routes ÷ with the usual": "met, the aim too",
        "(e) tax with ten times the series ÷ with the usual": "**not met**",
        "(e) tax on the second fifty attributes ÷ on the first": "met, the aim too",
        "(f) step through a declared counter, unbound ÷ the SDK's": "met",
        "(f) step through a declared counter, bound ÷ the SDK's": "met, the aim too",
        "(f) step through a declared histogram, unbound ÷ the SDK's": "met, the aim too",
        "(f) step through a declared histogram, bound ÷ the SDK's": "**not met**",
    }


def test_a_part_that_was_not_run_meets_nothing():
    """No value is no pass."""
    assert set(verdicts({}).values()) == {"not measured"}


@pytest.mark.parametrize(
    ("value", "at_least", "verdict"),
    [
        (4.0, True, "met"),
        (3.99, True, "**not met**"),
        (6.0, True, "met, the aim too"),
        (4.0, False, "met, the aim too"),
        (5.0, False, "**not met**"),
    ],
)
def test_a_bar_is_met_from_either_side(value, at_least, verdict):
    """More is better for some, less for others; the bar itself is enough."""
    assert Bar("figure", value, 4, 6 if at_least else 4, at_least=at_least).verdict == verdict


@pytest.mark.parametrize(
    "trial",
    [filled(100, 90, 9), filled(100, 90, 11), {**filled(100, 90, 10), "received": 89}],
    ids=["one gone", "one too many", "one that the server never saw"],
)
def test_an_item_that_nobody_accounts_for_is_found(trial):
    """Delivered and dropped make what was offered, and the server agrees."""
    assert figures.unaccounted([filled(100, 90, 10), trial]) == 1


def test_one_attribute_costs_what_it_costs_among_few():
    """Fifty cost 50 µs, fifty more another 50: flat, although the request costs more."""
    assert figures.attribute_growth(results()["e"]) == pytest.approx(1.0)


def test_a_cost_below_nothing_is_noise_and_meets_no_bar():
    """A request that seems cheaper with telemetry than without was not measured."""
    found = results()["e"]
    found["no attributes"]["tercet"] = found["attributes"]["tercet"]
    assert figures.attribute_growth(found) is None


def test_the_page_says_what_was_delivered_and_who_is_missing():
    """A cost stands beside what arrived for it."""
    page = pages.page(results())
    assert (
        "| `opentelemetry-instrument` | 200 | 100 | 1.00 | 200 to 1,800 | 60 MB | spans 34 %, logs 100 % |"
        in page
    )
    assert "| tercet | 3,600 | 60 % | 10.0 ms | 2.0 | 3,600 to 3,600 | spans 100 %, logs 100 % |" in page
    assert "- left out: ddtrace, not installed" in page
    assert "| SDK, logs, as fast as possible | 1,000 | 100 | 700 | 0 | 300 | 70 |" in page


def test_a_part_alone_makes_a_page():
    """Parts that were not run have no section."""
    page = pages.page(
        {name: value for name, value in results().items() if name in ("machine", "left_out", "d")}
    )
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What it must reach",
        "## (d) Exporter",
    ]


def test_a_machine_that_slows_down_is_no_tax_on_one_load():
    """Bare costs the same for sampled requests and for others, so both have the same one."""
    found = results()["e"]
    found["unsampled"]["bare"] = costing(90)[:1]
    found["sampled"]["bare"] = costing(110)[:1]
    assert figures.unsampled(found) == 8 / 20


def test_readme_is_written_between_its_markers_only():
    """Writing it again replaces the table, and touches nothing around it."""
    text = f"before\n{pages.BEGIN}\nold\n{pages.END}\nafter\n"
    once = pages.readme(text, results())
    assert "old" not in once
    assert table.main_table(results()) in once
    assert once.startswith(f"before\n{pages.BEGIN}\n")
    assert once.endswith(f"\n{pages.END}\nafter\n")
    assert pages.readme(once, results()) == once


def test_a_readme_without_markers_is_refused():
    """Rather than written to somewhere."""
    with pytest.raises(ValueError, match="must have <!-- bench:begin -->"):
        pages.readme("no markers", results())


@pytest.mark.parametrize(
    ("share", "written"), [(1.0, "100 %"), (0.9996, "99.9 %"), (0.656, "66 %"), (0.0, "0 %"), (None, "-")]
)
def test_nearly_all_is_not_all(share, written):
    """One that is missing shows."""
    assert table.percent(share) == written
