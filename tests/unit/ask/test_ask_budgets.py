"""Recorded series become budgets: what is left, how it is, and what nobody knows."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from tercet.ask.budgets import Firing, choose, read_budgets
from tercet.ask.gate import explain, judge, parse_bar
from tercet.ask.prometheus import Sample
from tercet.ask.report import describe, render_budgets
from tercet.declare.burn_rate import PERIODS
from tercet.declare.objective import Advice, Indicator, Objective, Service
from tercet.errors import SettingsError

SHOP = Service("shop", "people")


def objective(name="availability", service=SHOP):
    return Objective(
        name=name,
        service=service,
        indicator=Indicator(kind="availability"),
        target=Decimal("0.999"),
        period=PERIODS["30d"],
        advice=Advice("Nobody can buy.", ("Unknown.",), ("Look.",)),
        agreement=Decimal("0.99"),
    )


def series(name, value, environment="production", slo="availability", **more):
    labels = {"__name__": name, "service": "shop", "slo": slo, "deployment_environment_name": environment}
    return Sample({key: label for key, label in (labels | more).items() if label}, value)


def recorded(remaining, environment="production", **more):
    """What is recorded of an objective whose budget is 43.2 minutes."""
    return [
        series("slo:budget_remaining:ratio", remaining, environment, **more),
        series("slo:budget_remaining:minutes", 43.2 * remaining, environment, **more),
        series("slo:bad_ratio:period", (1 - remaining) / 1000, environment, **more),
        series("slo:bad_ratio:rate5m", 0.002, environment, **more),
        series("slo:objective:ratio", 0.999, "", **more),
    ]


def alert(name, severity, environment="production", state="firing"):
    return series("ALERTS", 1, environment, alertname=name, severity=severity, alertstate=state)


def budgets(samples, *environments, objectives=None):
    return read_budgets(lambda _: samples, objectives or [objective()], environments)


def test_a_budget_is_what_is_recorded():
    """In percent and in minutes; the burn rate is that of the last five minutes."""
    (budget,) = budgets(
        [*recorded(0.5), alert("ShopSlow", "SEV-3"), alert("Later", "SEV-1", state="pending")]
    )
    assert (budget.environment, budget.remaining, budget.minutes) == ("production", 0.5, 21.6)
    assert (budget.error_ratio, budget.burn_rate) == (0.0005, 2.0)
    assert budget.firing == (Firing("ShopSlow", "SEV-3"),)
    assert (budget.health, budget.unknown) == ("YELLOW", "")


def test_it_is_all_asked_for_at_once():
    """So that all of it is of one moment."""
    asked = []
    read_budgets(lambda question: asked.append(question) or [], [objective()])
    (question,) = asked
    assert question == (
        '{__name__=~"slo:budget_remaining:ratio|slo:budget_remaining:minutes|slo:bad_ratio:period|'
        'slo:objective:ratio|slo:bad_ratio:rate5m|ALERTS",service="shop",slo!=""}'
    )


@pytest.mark.parametrize(
    ("samples", "health"),
    [
        (recorded(0.25), "GREEN"),
        (recorded(0.2499), "YELLOW"),
        (recorded(1e-12), "RED"),
        (recorded(-2.0), "RED"),
        ([*recorded(0.9), alert("ShopBurn1h", "SEV-1")], "RED"),
        ([*recorded(0.9), alert("ShopBlind", "SEV-3", "")], "YELLOW"),
        ([*recorded(0.9), alert("Other", "info")], "YELLOW"),
        ([*recorded(0.9), alert("ShopBurn1h", "SEV-1", "staging")], "GREEN"),
        ([], "NO DATA"),
        ([series("slo:budget_remaining:ratio", float("nan"))], "NO DATA"),
        ([series("slo:objective:ratio", 0.999, "")], "NO DATA"),
    ],
)
def test_how_it_is_in_a_word(samples, health):
    """What is not known is neither whole nor spent."""
    (budget,) = budgets(samples)
    assert budget.health == health


def test_environments_are_told_apart():
    """The worst first, and only those that are asked for."""
    samples = [*recorded(0.9), *recorded(-0.1, "staging")]
    assert [each.environment for each in budgets(samples)] == ["staging", "production"]
    (there,) = budgets(samples, "production")
    assert there.remaining == 0.9
    (nowhere,) = budgets(samples, "canary")
    assert nowhere.unknown == "no data here, but in: production, staging"
    (without,) = budgets(recorded(0.9, ""), "production")
    assert without.unknown == "no data here, but in: none"


def test_of_replicas_that_differ_the_worst_counts():
    """They have not seen the same."""
    (budget,) = budgets([*recorded(0.9, replica="a"), *recorded(0.8, replica="b")])
    assert (budget.remaining, round(budget.error_ratio, 9)) == (0.8, 0.0002)


def test_rules_for_another_target_say_nothing_of_this_one():
    """They are of an older document."""
    stale = series("slo:objective:ratio", 0.99, "")
    (budget,) = budgets([*recorded(0.9)[:-1], stale])
    assert budget.unknown == "Prometheus watches 99 %: load what `tercet generate` wrote"
    verdict = judge([budget], Decimal(0), allow_no_data=True)
    assert not verdict.passed
    assert explain(verdict) == f"REFUSED: shop availability in production: {budget.unknown}."


def test_objectives_are_chosen_by_name():
    """A name that chooses none is told, with one that would."""
    bank = objective("calls", Service("bank", "people"))
    every = [objective(), objective("latency"), bank]
    assert choose(every, [], []) == every
    assert choose(every, ["shop"], ["latency"]) == [every[1]]
    with pytest.raises(SettingsError, match=r"--service must be in the document, got 'shpo'\. Write shop"):
        choose(every, ["shpo"], [])
    with pytest.raises(
        SettingsError, match=r"--objective must be in the document, got 'calls'\. Write avail"
    ):
        choose(every, ["shop"], ["calls"])


# The gate.


@pytest.mark.parametrize(
    ("text", "bar"),
    [("10%", "0.1"), ("10 %", "0.1"), ("0.1", "0.1"), ("0", "0"), ("100%", "1"), ("2.5%", "0.025")],
)
def test_a_bar_is_a_share(text, bar):
    """Or a percentage."""
    assert parse_bar(text) == Decimal(bar)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("10", "Write 10%."),
        ("lots", "Write 10%."),
        ("-1%", "Write 10%."),
        ("200", "Write 10%."),
        ("150%", "Write 10%."),
    ],
)
def test_what_is_no_share_is_refused(text, mend):
    """With what was probably meant."""
    with pytest.raises(SettingsError, match="--min-budget must be a percentage, or a share") as refused:
        parse_bar(text)
    assert str(refused.value).endswith(mend)


def test_the_bar_itself_is_enough():
    """Whatever sums of floating-point numbers make of it."""
    (budget,) = budgets(recorded(0.1 - 1e-12))
    assert judge([budget], Decimal("0.1")).passed
    (short,) = budgets(recorded(0.099996))
    assert "has 9.99 % of its budget left, below 10 %." in explain(judge([short], Decimal("0.1")))
    verdict = judge([budget], Decimal("0.101"))
    assert not verdict.passed
    assert explain(verdict) == (
        "REFUSED: shop availability in production has 10 % of its budget left, below 10.1 %."
    )


def test_what_has_no_data_passes_only_when_somebody_says_so():
    """By then they know."""
    known, unknown = budgets([*recorded(0.9)], objectives=[objective(), objective("latency")])[::-1]
    verdict = judge([known, unknown], Decimal("0.1"))
    assert (verdict.passed, verdict.unknown) == (False, (unknown,))
    assert explain(verdict) == "REFUSED: shop latency: no data. Let it pass with --allow-no-data."
    verdict = judge([known, unknown], Decimal("0.1"), allow_no_data=True)
    assert verdict.passed
    assert explain(verdict) == (
        "LET THROUGH: shop latency: no data.\nPASSED: 10 % or more is left of 1 of 2 budgets."
    )


# For people and for scripts.


TABLE = """\
         SERVICE  OBJECTIVE  ENVIRONMENT  BUDGET LEFT  MINUTES  BURNS     BAD  TARGET   SLA  PERIOD
RED      shop     paid       qa              -120.0 %    -51.8   2.0x  0.22 %  99.9 %  99 %  30d     X (SEV-1)
NO DATA  shop     speed      -                      -        -      -       -  99.9 %     -  30d     no data
GREEN    shop     paid       production        90.0 %     38.9   2.0x  0.01 %  99.9 %  99 %  30d
"""


def test_a_table_reads_well_at_three_in_the_morning():
    """The worst first, in words that need no colour."""
    firing = alert("X", "SEV-1", "qa")
    firing = replace(firing, labels={**firing.labels, "slo": "paid"})
    found = budgets(
        [*recorded(0.9, slo="paid"), *recorded(-1.2, "qa", slo="paid"), firing],
        objectives=[objective("paid"), replace(objective("speed"), agreement=None)],
    )
    assert f"{render_budgets(found)}\n" == TABLE
    coloured = render_budgets(found, in_colour=True)
    assert coloured.splitlines()[1].startswith("\x1b[1;31mRED\x1b[0m      shop")


def test_json_has_null_for_what_nobody_knows():
    """And zero for zero."""
    (known,) = budgets(recorded(0.0, ""))
    assert json.loads(json.dumps(describe(known))) == {
        "service": "shop",
        "objective": "availability",
        "environment": None,
        "health": "RED",
        "unknown": None,
        "budget_remaining": 0.0,
        "budget_remaining_minutes": 0.0,
        "error_ratio": 0.001,
        "burn_rate": 2.0,
        "target": 0.999,
        "agreement": 0.99,
        "period": "30d",
        "firing": [],
    }
    (unknown,) = budgets([])
    assert (describe(unknown)["budget_remaining"], describe(unknown)["unknown"]) == (None, "no data")
