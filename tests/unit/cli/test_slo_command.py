"""`tercet slo`: exit codes that a script can use, and words for people."""

import json
import os
import sys
from pathlib import Path

import pytest
from tests.unit.ask.fake_prometheus import FakePrometheus, vector

from tercet.cli.main import main

DOCUMENT = """\
team: shop
period: 30d
links: {grafana: "http://localhost:3000", runbooks: "http://localhost/runbooks"}
contacts:
  default: {page: {webhook: {url: "http://localhost/page"}}, ticket: {webhook: {url: "http://localhost/ticket"}}}
deadman: {webhook: {url: "http://localhost/alive"}}
services:
  shop: {runbook: {impact: Nobody can buy., causes: [Unknown.], actions: [Look.]}}
objectives:
  - {service: shop, name: availability, kind: availability, target: 99%}
  - {service: shop, name: latency, kind: latency, target: 99%, below: 1s}
"""


@pytest.fixture(autouse=True)
def document(tmp_path, monkeypatch):
    """Work beside a document, where no tercet.toml is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {key: value for key, value in os.environ.items() if key != "NO_COLOR"})
    (tmp_path / "objectives.yaml").write_text(DOCUMENT, "utf-8")


def left(*shares):
    """Answer with what is left of the two objectives."""
    names = ("availability", "latency")
    recorded = {"__name__": "slo:budget_remaining:ratio", "service": "shop"}
    return vector(*(({**recorded, "slo": name}, share) for name, share in zip(names, shares, strict=False)))


def run(capsys, answer, command, *words):
    with FakePrometheus(answer) as fake:
        code = main(["slo", command, "--prometheus", fake.address, *words])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("answer", "words", "code"),
    [
        (left("0.5", "0.9"), ["status"], 0),
        (left("0.5", "-0.1"), ["status"], 1),
        (left("0.5"), ["status"], 3),
        (left("-0.5"), ["status"], 1),
        (left("0.5"), ["status", "--objective", "availability"], 0),
        (left("0.5", "0.9"), ["gate"], 0),
        (left("0.5", "-0.1"), ["gate"], 1),
        (left("0.5", "0.9"), ["gate", "--min-budget", "50%"], 0),
        (left("0.5", "0.9"), ["gate", "--min-budget", "51%"], 1),
        (left("0.5", "0.9"), ["gate", "--min-budget", "51%", "--objective", "latency"], 0),
        (left("0.5"), ["gate"], 3),
        (left("0.5"), ["gate", "--min-budget", "51%"], 1),
        (left("0.5"), ["gate", "--allow-no-data"], 0),
        ("nonsense", ["gate", "--allow-no-data"], 3),
        ("nonsense", ["status"], 3),
        (left("0.5"), ["gate", "--service", "bank"], 2),
        (left("0.5"), ["gate", "--min-budget", "lots"], 2),
        (left("0.5"), ["gate", "--user", "me"], 2),
        (left("0.5"), ["gate", "missing.yaml"], 2),
    ],
)
def test_a_script_knows_by_the_exit_code(capsys, answer, words, code):
    """0 fine, 1 below, 2 cannot be used, 3 nobody knows."""
    assert run(capsys, answer, *words)[0] == code


@pytest.mark.parametrize("words", [["--timeout", "soon"], ["--timeout", "0"], ["--no-such"]])
def test_wrong_words_have_their_exit_code(capsys, words):
    """As those that argparse itself refuses."""
    with pytest.raises(SystemExit) as ended:
        main(["slo", "status", *words])
    assert ended.value.code == 2


def test_a_failed_question_is_told_on_stderr(capsys):
    """And nothing on stdout, which may be read by a script."""
    code, out, err = run(capsys, "nonsense", "gate", "--json")
    assert (code, out) == (3, "")
    assert err.startswith("tercet: --prometheus must be a Prometheus that answers, got http://127.0.0.1:")


def test_people_read_a_table_and_the_reason(capsys):
    """Without colour, where it is no terminal."""
    code, out, err = run(capsys, left("0.5"), "gate", "--min-budget", "60%")
    assert code == 1
    assert out.splitlines()[1].startswith("NO DATA  shop     latency")
    assert out.splitlines()[2].startswith("GREEN    shop     availability")
    assert err == (
        "REFUSED: shop availability has 50 % of its budget left, below 60 %.\n"
        "REFUSED: shop latency: no data. Let it pass with --allow-no-data.\n"
    )


def test_a_terminal_shows_colours(capsys, monkeypatch):
    """Unless NO_COLOR says otherwise."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[1;32mGREEN\x1b[0m" in run(capsys, left("0.5", "0.9"), "status")[1]
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")
    assert "\x1b" not in run(capsys, left("0.5", "0.9"), "status")[1]


def test_scripts_read_json(capsys):
    """The verdict, the bar, and each budget."""
    told = json.loads(run(capsys, left("0.5", "0.9"), "gate", "--min-budget", "60%", "--json")[1])
    assert (told["passed"], told["min_budget"]) == (False, 0.6)
    assert [each["budget_remaining"] for each in told["objectives"]] == [0.5, 0.9]
    told = json.loads(run(capsys, left("0.5", "0.9"), "status", "--json")[1])
    assert [each["objective"] for each in told["objectives"]] == ["availability", "latency"]


@pytest.mark.parametrize("command", ["status", "gate"])
def test_help_names_the_exit_codes(capsys, command):
    """All of them."""
    with pytest.raises(SystemExit):
        main(["slo", command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 " in text
    for code in ("1 a budget is", "2 the words or the document cannot be used", "3 an objective has no data"):
        assert code in text


# Others' files.

FOREIGN = Path(__file__).parents[1] / "declare" / "foreign"


def imports(capsys, *words):
    return main(["slo", "import", *map(str, words)]), *capsys.readouterr()


def test_a_document_is_written_for_its_owner(capsys, tmp_path):
    """To stdout or to a new file; what is lost is told beside it."""
    code, out, err = imports(capsys, FOREIGN / "sloth.yaml")
    assert code == 1
    assert "    name: requests-availability\n    kind: query\n    target: 99.9%\n" in out
    assert "sloth.yaml:49: disable: somebody is always told" in err
    code, told, _ = imports(capsys, FOREIGN / "sloth.yaml", "--out", tmp_path / "mine.yaml")
    assert (code, told) == (1, f"3 objectives in {tmp_path / 'mine.yaml'}\n")
    assert (tmp_path / "mine.yaml").read_text("utf-8") == out.removesuffix("\n")


def test_an_objective_that_is_left_out_shows_in_the_exit_code(capsys, tmp_path):
    """And one that is not does not."""
    whole = (FOREIGN / "sloth.yaml").read_text("utf-8").partition("  - name: plugged")[0]
    (tmp_path / "whole.yaml").write_text(whole, "utf-8")
    assert imports(capsys, tmp_path / "whole.yaml")[0] == 0


def test_nothing_is_written_over(capsys):
    """The document may be somebody's work."""
    code, out, err = imports(capsys, FOREIGN / "sloth.yaml", "--out", "objectives.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("tercet: --out must be a new file, got [Errno 17] File exists")


def test_scripts_read_what_is_lost(capsys, tmp_path):
    """As JSON, beside the file."""
    words = FOREIGN / "sloth.yaml", FOREIGN / "openslo.yaml", "--json"
    assert imports(capsys, *words)[0] == 2
    code, out, err = imports(capsys, *words, "--out", tmp_path / "mine.yaml")
    told = json.loads(out)
    assert (code, err, told["objectives"]) == (1, "", 7)
    assert told["left_out"] == ["sloth.yaml:57", "openslo.yaml:89"]
    assert {"what": "ticket: nothing stands for it here", "places": ["openslo.yaml:27"]} in told["losses"]


def test_an_imported_document_says_what_is_missing_in_it(capsys, tmp_path):
    """By line, as any other document: who is told is for its owner to say."""
    imports(capsys, FOREIGN / "openslo.yaml", "--out", tmp_path / "mine.yaml")
    assert main(["generate", str(tmp_path / "mine.yaml")]) == 2
    assert "team must be given, got nothing. Write who answers" in capsys.readouterr().err
