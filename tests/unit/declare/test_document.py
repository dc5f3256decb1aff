"""An objectives document becomes objectives, and each mistake in it is told with its line and its mend."""

import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tercet.declare.burn_rate import WINDOWS
from tercet.declare.document import load_catalog, parse_catalog
from tercet.declare.objective import Advice, Service, Symptom
from tercet.declare.settings import Settings
from tercet.errors import ObjectivesError, SetupError

DOCUMENT = """\
team: platform
period: 30d
links: {grafana: "https://grafana.example.com/", runbooks: "https://runbooks.example.com"}
contacts:
  default:
    page: {pagerduty: {routing_key_file: /secrets/pagerduty}}
    ticket: {webhook: {url: "https://tickets.example.com"}}
deadman: {webhook: {url: "https://deadman.example.com"}}
metrics: [{name: orders, kind: counter, attributes: [status]}, {name: queue.size, kind: gauge}]
services:
  orders:
    depends_on: [database]
    runbook: {impact: Nobody can order., causes: [The database.], actions: [Look.]}
objectives:
  - service: orders
    name: availability
    kind: availability
    target: 99.95%
    agreement: 99.9%
    symptoms: [{above: 5%, severity: SEV-2}]
  - service: orders
    name: latency
    kind: latency
    target: 0.99
    below: 500ms
"""
LATENCY = "below: 500ms"


def parsed(text=DOCUMENT, **settings):
    return parse_catalog(text, "objectives.yaml", Settings(**settings))


def edited(*edits):
    """Change the document; each edit must find what it replaces."""
    text = DOCUMENT
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    return text


def refusal(*edits, **settings):
    with pytest.raises(ObjectivesError) as refused:
        parsed(edited(*edits), **settings)
    return str(refused.value)


def test_a_document_becomes_objectives():
    """Exactly: 99.95 % leaves 21.6 minutes of 30 days."""
    availability, latency = parsed().objectives
    assert availability.service == Service("orders", "platform", depends_on=("database",))
    assert (availability.target, availability.agreement) == (Decimal("0.9995"), Decimal("0.999"))
    assert (availability.budget, float(availability.budget_minutes)) == (Decimal("0.0005"), 21.6)
    assert availability.symptoms == (Symptom(Decimal("0.05"), 300, "SEV-2"),)
    assert availability.advice == Advice("Nobody can order.", ("The database.",), ("Look.",))
    assert latency.indicator.threshold == Decimal("0.500")
    assert dict(latency.burns()) == {window: window.severity for window in WINDOWS}


def mistakes():
    """Read what is changed (-, +) and what is then told (=)."""
    for block in (Path(__file__).parent / "mistakes.txt").read_text("utf-8").split("\n\n")[1:]:
        told = {mark: [line[2:] for line in block.splitlines() if line[:1] == mark] for mark in "-+="}
        yield pytest.param(*("\n".join(told[mark]) for mark in "-+="), id=told["="][0][:60])


@pytest.mark.parametrize(("before", "after", "message"), [*mistakes()])
def test_a_mistake_is_told_with_its_line_and_its_mend(before, after, message):
    """In the house's words."""
    assert refusal((before, after)) == f"objectives.yaml:{message}"


def test_a_boundary_that_services_were_given_is_one():
    """The setting decides, as it does in the running histogram."""
    with_two = (0.5, 2.0, 10.0)
    (_, latency) = parsed(edited((LATENCY, "below: 2s")), duration_buckets=with_two).objectives
    assert latency.indicator.metric.buckets == with_two
    assert "Write 2 or 10, or add it" in refusal((LATENCY, "below: 5s"), duration_buckets=with_two)


def test_a_histogram_without_buckets_has_no_threshold():
    """There is nothing that it could be."""
    edits = ("kind: gauge", "kind: histogram"), (LATENCY, "below: 5\n    metric: queue.size")
    assert refusal(*edits).endswith(
        "got 5. Add it: buckets: 5; an Objective in the code of the service adds it by itself."
    )


def test_a_quantile_needs_a_boundary_above_it():
    """With a single one, there is none."""
    edits = (
        ("kind: gauge", "kind: histogram, buckets: [5]"),
        (LATENCY, "below: 5\n    metric: queue.size\n    symptoms: [{above: 5, severity: SEV-2}]"),
    )
    assert refusal(*edits).endswith("got 5. Add a higher boundary.")


def test_a_counter_must_say_what_is_bad():
    """Nothing else does."""
    edits = ("    kind: availability\n", "    kind: availability\n    metric: orders\n")
    assert refusal(edits).startswith(
        "objectives.yaml:15: objectives[0].bad must be given, got nothing. orders"
    )


def test_a_service_that_needs_another_in_a_circle_is_refused():
    """In a circle each would hold back the other's page."""
    circle = "depends_on: [bank]", "  bank:\n    depends_on: [orders]"
    message = refusal(("depends_on: [database]", circle[0]), ("services:\n", f"services:\n{circle[1]}\n"))
    assert "without circles in depends_on" in message
    assert "bank → orders → bank" in message or "orders → bank → orders" in message


def test_a_floor_wakes_nobody_unless_somebody_says_so():
    """Little traffic may also mean that nobody asks."""
    floor = (
        "kind: latency\n    target: 0.99\n    below: 500ms",
        "kind: throughput\n    target: 0.99\n    at_least: 10,000",
    )
    (_, throughput) = parsed(edited(floor)).objectives
    assert [severity for _, severity in throughput.burns()] == ["SEV-3", "SEV-3", "SEV-4", "SEV-4"]
    (_, throughput) = parsed(
        edited((floor[0], f"{floor[1]}\n    severity: {{1h: SEV-1, 3d: off}}"))
    ).objectives
    assert [severity for _, severity in throughput.burns()] == ["SEV-1", "SEV-3", "SEV-4"]


@pytest.mark.parametrize("taken", ["presence", "telemetry"])
def test_the_names_of_what_is_watched_anyway_are_refused(taken):
    """Its rules would stand under one name with those on silence, and silence would hold them back."""
    message = refusal(("name: availability", f"name: {taken}"))
    assert "objectives[0].name must be other than presence and telemetry, got" in message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("target: 0.99", f"target: 0.{'9' * 3000}"),
        ("below: 500ms", f"below: {'9' * 400}ms"),
        (
            "kind: latency\n    target: 0.99\n    below: 500ms",
            f"kind: throughput\n    target: 99%\n    at_least: {'9' * 400}",
        ),
    ],
)
def test_a_number_beyond_those_of_prometheus_is_refused(before, after):
    """It would refuse the file, or take it for 0 or 1."""
    assert "of at most 18 digits" in refusal((before, after))


def test_a_metric_of_another_kind_is_refused():
    """A counter has no quantiles."""
    message = refusal((LATENCY, "below: 5s\n    metric: orders"))
    assert message.startswith("objectives.yaml:26: objectives[1].metric must be one of http.server.request.")
    assert "got 'orders'. " in message


def test_an_alias_costs_nothing_however_often_it_is_repeated():
    """A text of a line that would be a billion."""
    laughs = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert "l0 must be one of" in refusal(("objectives:\n", f"l0: &l0 [ha]\nlaughs:\n{laughs}objectives:\n"))


def test_a_key_that_is_no_word_is_refused():
    """As any key that is unknown."""
    assert "1: a sequence must be one of team" in refusal(("team: platform", "? [team]\n: platform"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "o.yaml: the document must hold objectives, got nothing. Write one."),
        (
            "- a",
            "o.yaml:1: the document must be a mapping, got a sequence. Write indented lines of key: value.",
        ),
        ("\x00", "o.yaml: the document must be YAML, got: unacceptable character #x0000: "),
    ],
)
def test_what_is_no_document_is_refused(text, message):
    """Whatever it is."""
    with pytest.raises(ObjectivesError) as refused:
        parse_catalog(text, "o.yaml", Settings())
    assert str(refused.value).startswith(message)


def test_an_empty_list_of_objectives_is_refused():
    """There would be nothing to watch."""
    assert refusal((DOCUMENT[DOCUMENT.index("objectives:") :], "objectives: []\n")).endswith(
        "objectives must be a list of values, got a sequence. Write one."
    )


def test_a_list_is_not_a_mapping():
    """The dash was forgotten."""
    assert "objectives must be a list, got a mapping. Begin each item with a dash." in refusal(
        ("- service: orders\n    name: availability", "  service: orders\n    name: availability"),
        (DOCUMENT[DOCUMENT.index("  - service: orders\n    name: latency") :], ""),
    )


def test_a_document_is_loaded_from_its_file(tmp_path):
    """Under its name, which messages and headers carry."""
    (tmp_path / "shop.yaml").write_text(DOCUMENT, "utf-8")
    assert load_catalog(tmp_path / "shop.yaml", Settings()).source == "shop.yaml"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, or larger than any document is."""
    with pytest.raises(ObjectivesError, match="No such file"):
        load_catalog(tmp_path / "missing.yaml", Settings())
    (tmp_path / "large.yaml").write_text("#" * (8 * 1024**2 + 1), "utf-8")
    with pytest.raises(ObjectivesError, match="8388608 bytes at most"):
        load_catalog(tmp_path / "large.yaml", Settings())


def test_without_pyyaml_it_says_what_to_install(monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SetupError, match=r'pip install "tercet\[generate\]"'):
        parsed()


def test_every_kind_is_read():
    """With names that try to break out."""
    path = Path(__file__).parents[1] / "generate" / "every_kind.yaml"
    paid = load_catalog(path, Settings()).objectives[0]
    assert paid.indicator.where[0] == ("payment_method", ("card", 'we.ird"\\x'))
