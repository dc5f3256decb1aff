"""`tercet generate`: writes, compares, and says so in a way that scripts understand."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tercet.cli.main import main
from tercet.emit.registry import REGISTRY

EVERY_KIND = Path(__file__).parents[1] / "generate" / "every_kind.yaml"


@pytest.fixture
def document(tmp_path, monkeypatch):
    """Work where no tercet.toml is."""
    monkeypatch.chdir(tmp_path)
    return shutil.copy(EVERY_KIND, tmp_path / "objectives.yaml")


def run(capsys, *words):
    code = main(["generate", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_it_writes_beside_the_document_and_finds_it_up_to_date(document, capsys):
    """0 both times."""
    code, out, err = run(capsys, document)
    assert (code, "new: rules/api.yaml\n" in err) == (0, True)
    assert "files in " in out
    assert (document.parent / "generated" / "rules" / "api.yaml").exists()
    code, out, err = run(capsys, "--check", document)
    assert (code, err) == (0, "")
    assert out.endswith(" are up to date\n")


def test_a_check_fails_when_a_promise_has_changed(document, capsys):
    """1, and the alerts that would change are named."""
    run(capsys, document)
    document.write_text(document.read_text("utf-8").replace("below: 5\n", "below: 1\n"), "utf-8")
    code, _, err = run(capsys, "--check", document)
    assert code == 1
    assert "differs: rules/api.yaml (ApiJobsBurn1h, ApiJobsBurn6h, " in err
    code, out, _ = run(capsys, "--check", "--json", document)
    told = json.loads(out)
    assert (code, told["missing"], told["obsolete"]) == (1, [], [])
    assert "ApiJobsBurn1h" in told["changed"]["rules/api.yaml"]


def test_objectives_are_exported_to_sloth(document, capsys):
    """Beside everything else, while somebody asks for it."""
    run(capsys, document, "--sloth")
    assert (document.parent / "generated" / "sloth" / "api.yaml").exists()
    code, _, err = run(capsys, document, "--check")
    assert (code, err) == (1, "obsolete: sloth/api.yaml\nobsolete: sloth/bank.yaml\n")


def test_metrics_of_the_code_are_known(document, capsys, monkeypatch):
    """As they are declared there, so that one that is renamed is missed here."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "path", list(sys.path))
    document.write_text(
        document.read_text("utf-8").replace("metric: orders", "metric: promised.orders"), "utf-8"
    )
    assert "metric must be one of" in run(capsys, document)[2]
    declaration = 'Counter("promised.orders", "Orders", attributes=("status", "payment_method"))'
    code = f"from tercet import Counter\n{declaration}\n"
    (document.parent / "promising_shop.py").write_text(code, "utf-8")
    assert run(capsys, document, "--module", "promising_shop")[0] == 0


def test_objectives_of_the_code_are_generated_as_well(document, capsys, monkeypatch):
    """Beside those of the document; one that is in both is told with both places."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(REGISTRY.objectives, "_promises", {})
    promise = (
        'Objective("%s", kind="latency", target="99%%", below="123ms", service="bank", counted="metric")\n'
    )
    (document.parent / "promising_bank.py").write_text(
        "from tercet import Objective\n" + promise % "quick", "utf-8"
    )
    assert run(capsys, document, "--module", "promising_bank")[0] == 0
    rules = (document.parent / "generated" / "rules" / "bank.yaml").read_text("utf-8")
    assert 'http_server_request_duration_seconds_bucket{job="bank",' in rules
    assert 'le="0.123"' in rules
    (document.parent / "promising_twice.py").write_text(
        "from tercet import Objective\n\n" + promise % "calls", "utf-8"
    )
    code, _, err = run(capsys, document, "--module", "promising_twice")
    place = next(
        number
        for number, line in enumerate(document.read_text("utf-8").splitlines(), 1)
        if "name: calls" in line
    )
    assert code == 2
    assert (
        "promising_twice.py:3: Objective('calls').name must be unique in bank, which has it at "
        f"objectives.yaml:{place}, got 'calls'. Give it another name."
    ) in err


def test_a_wrong_document_has_its_exit_code(document, capsys):
    """2, with the line; nothing is written."""
    document.write_text(document.read_text("utf-8").replace("target: 99%", "target: 99"), "utf-8")
    code, out, err = run(capsys, document, "--out", document.parent / "out")
    assert (code, out) == (2, "")
    assert "objectives.yaml:33: objectives[0].target must be below 1, got 99. Write 0.99 or 99%." in err
    assert not (document.parent / "out").exists()
