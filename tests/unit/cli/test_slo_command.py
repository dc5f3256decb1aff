"""`tercet slo`: exit codes that a script can use, and words for people."""

import json
import os
import sys

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
