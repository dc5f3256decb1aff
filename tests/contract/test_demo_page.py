"""The page of the demo: every fault has its line, and every alert that it promises exists."""

import re
from pathlib import Path

from tercet.demo.catalog import WEBHOOK_PORT
from tercet.demo.faults import FAULTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "demo.md").read_text("utf-8")


def test_every_fault_is_explained_and_has_its_alert():
    """In both tables, in the order of `--help`."""
    assert re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE) == [*FAULTS, *FAULTS]


def test_every_alert_that_is_promised_has_a_runbook():
    """Under its own name."""
    alerts = set(re.findall(r"`([A-Z]\w+)`", PAGE))
    runbooks = {path.stem for path in (ROOT / "configs" / "generated" / "runbooks").iterdir()}

    assert alerts <= runbooks
    assert len(alerts) == len(FAULTS) + 1


def test_the_demo_leaves_the_port_of_tickets_alone():
    """Whoever listens there gets what Alertmanager sends."""
    document = (ROOT / "configs" / "objectives.yaml").read_text("utf-8")

    assert set(re.findall(r"http://localhost:(81\d\d)/", document)) == {str(WEBHOOK_PORT)}
