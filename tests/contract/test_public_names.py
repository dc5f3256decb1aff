"""The two doors, by name: who changes one changes the changelog too."""

import json
import re
from decimal import Decimal

import pytest

import tercet
import tercet.testing
from tercet.ask.budgets import read_budgets
from tercet.ask.report import describe
from tercet.cli.main import main
from tercet.declare.burn_rate import PERIODS
from tercet.declare.objective import Advice, Indicator, Objective, Service


def test_the_names_of_the_front_door():
    """What users import from `tercet`."""
    assert (
        sorted(tercet.__all__)
        == tercet.__all__
        == [
            "Counter",
            "Gauge",
            "Histogram",
            "MetricError",
            "Objective",
            "Observability",
            "ObservabilityMiddleware",
            "ObservedLock",
            "Settings",
            "SettingsError",
            "SetupError",
            "Summary",
            "TercetError",
            "UnknownSettingError",
            "UpDownCounter",
            "correlation_id",
            "metrics_app",
            "observe_queue",
            "observed",
            "setup_observability",
            "traced",
            "watch_event_loop",
        ]
    )
    assert all(hasattr(tercet, name) for name in tercet.__all__)


def test_the_names_of_the_second_door():
    """What tests import from `tercet.testing`."""
    assert tercet.testing.__all__ == ["Capture", "Measured", "capture", "span_tree"]
    assert all(hasattr(tercet.testing, name) for name in tercet.testing.__all__)


def options(capsys, *words):
    """List the options of a command, as its help has them."""
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}


def test_the_words_of_the_commands_that_pipelines_use(capsys):
    """What is renamed here breaks somebody's deployment."""
    asking = {"--module", "--service", "--objective", "--environment", "--json", "--prometheus", "--timeout"}
    asking |= {"--token-file", "--user", "--password-file", "--ca-file"}
    assert options(capsys, "slo", "status") == asking
    assert options(capsys, "slo", "gate") == asking | {"--min-budget", "--allow-no-data"}
    assert options(capsys, "slo", "import") == {"--out", "--period", "--json"}


def test_the_keys_that_scripts_read_of_a_budget():
    """In JSON, by name."""
    advice = Advice("Nobody can buy.", ("Unknown.",), ("Look.",))
    one = Objective(
        name="a",
        service=Service("b", "c"),
        indicator=Indicator(kind="availability"),
        target=Decimal("0.99"),
        period=PERIODS["30d"],
        advice=advice,
    )
    (budget,) = read_budgets(lambda _: [], [one])
    assert set(json.loads(json.dumps(describe(budget)))) == {
        *("service", "objective", "environment", "health", "unknown", "budget_remaining"),
        *("budget_remaining_minutes", "error_ratio", "burn_rate", "target", "agreement", "period", "firing"),
    }
