"""What others wrote becomes drafts of objectives, and what is lost on the way is told, each thing once."""

import copy
import functools
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from tercet.declare.foreign import load_foreign
from tercet.errors import ObjectivesError

FOREIGN = Path(__file__).parent / "foreign"


def of_sloth(period="30d"):
    return load_foreign([FOREIGN / "sloth.yaml"], period)


def of_openslo():
    return load_foreign([FOREIGN / "openslo.yaml"], "30d")


def written(tmp_path, text):
    path = tmp_path / "f.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_specification_for_sloth_becomes_objectives():
    """With its queries as they stand, its targets exact, and its team."""
    imported = of_sloth("28d")
    availability, latency, raw = imported.drafts
    assert imported.teams == {"myservice": "myteam"}
    assert (availability.place, availability.target, availability.period) == (
        "sloth.yaml:9",
        Decimal("0.999"),
        "28d",
    )
    assert availability.queries == (
        (
            "bad",
            'sum(rate(http_request_duration_seconds_count{job="myservice",code=~"(5..|429)"}[{{.window}}]))',
        ),
        ("total", 'sum(rate(http_request_duration_seconds_count{job="myservice"}[{{.window}}]))'),
    )
    assert availability.impact == "High error rate on 'myservice' requests responses"
    assert availability.runbook == "https://runbooks.example.com/myservice"
    assert (latency.off, latency.impact) == (("1h", "6h", "1d"), "")
    assert [key for key, _ in raw.queries] == ["ratio"]


def test_what_sloth_has_and_tercet_has_not_is_told_once():
    """With all the lines where it is."""
    losses = of_sloth().losses
    assert losses.left_out == ["sloth.yaml:57"]
    assert losses.places == {
        "labels: alerts carry service, team, slo and severity, and no others": [
            f"sloth.yaml:{line}" for line in (5, 6, 13, 21)
        ],
        "severity: it is SEV-1 to SEV-4, by how fast the budget goes": ["sloth.yaml:28", "sloth.yaml:32"],
        "routing_key: alerts carry service, team, slo and severity, and no others": ["sloth.yaml:29"],
        "slack_channel: alerts carry service, team, slo and severity, and no others": ["sloth.yaml:33"],
        "description: the summary of the alerts stands for the impact": ["sloth.yaml:11"],
        "name: alerts are named by their service and objective": ["sloth.yaml:19", "sloth.yaml:56"],
        "dashboard: nothing stands for it here": ["sloth.yaml:25"],
        "disable: somebody is always told, if only of what goes within 3d": ["sloth.yaml:49"],
        "the alert of 1h: 14.4 times 10 % is 144 %, which never happens": ["sloth.yaml:35"],
        "texts that are templates, or no texts: nobody can fill them in here": ["sloth.yaml:47"],
        "objectives whose sli is a plugin: what a plugin does is code, which is not read here": [
            "sloth.yaml:57"
        ],
    }


def test_documents_of_openslo_find_each_other():
    """Indicators, sources and services by their names."""
    imported = of_openslo()
    named = {draft.name: draft for draft in imported.drafts}
    assert list(named) == ["web-availability", "web-slices-1", "web-slices-2", "web-speed"]
    assert imported.teams == {"web": "shop"}
    availability = named["web-availability"]
    assert (availability.target, availability.period) == (Decimal("0.995"), "28d")
    assert availability.queries == (
        ("good", 'sum(rate(http_requests_total{job="web",code!~"5.."}[{{.window}}]))'),
        ("total", 'sum(rate(http_requests_total{job="web"}[{{.window}}]))'),
    )
    assert (availability.impact, availability.runbook) == (
        "Customers cannot buy.",
        "https://runbooks.example.com/web",
    )


def test_slices_and_thresholds_become_shares_of_minutes():
    """A minute is bad, or not."""
    named = {draft.name: dict(draft.queries) for draft in of_openslo().drafts}
    assert named["web-speed"] == {
        "ratio": ("(histogram_quantile(0.95, sum by (le) (rate(seconds_bucket[{{.window}}])))) > bool 0.5")
    }
    bad = '(sum(rate(http_requests_total{code=~"5.."}[{{.window}}])))'
    total = "(sum(rate(http_requests_total[{{.window}}])))"
    assert named["web-slices-1"] == {
        "ratio": f"(({bad} or 0 * {total}) / ({total} > 0) or 0 * {total}) > bool 0.05"
    }


def test_what_openslo_has_and_tercet_has_not_is_told_once():
    """And what is of another system is left out."""
    losses = of_openslo().losses
    assert losses.left_out == ["openslo.yaml:89"]
    assert {what.partition(":")[0] for what in losses.places} == {
        *("Service", "DataSource", "AlertPolicy", "AlertCondition", "alertPolicies", "no alertPolicies"),
        *("metricSourceRef", "displayName", "ticket", "calendar", "timeSliceWindow", "timeWindow"),
        *("windows of their own", "no timeWindow", "objectives of Datadog"),
    }


OPENSLO = """\
apiVersion: openslo/v1
kind: SLO
metadata: {name: a}
spec:
  service: b
  timeWindow: [{duration: 30d, isRolling: true}]
  alertPolicies: []
  budgetingMethod: METHOD
  indicator: {spec: INDICATOR}
  objectives: [OBJECTIVE]
"""
QUERY = "{metricSource: {type: prometheus, spec: {query: 'sum(rate(%s[{{.window}}]))'}}}"
RATIO = f"{{ratioMetric: {{KIND: {QUERY % 'a'}, total: {QUERY % 'b'}}}}}"
A, B = "(sum(rate(a[{{.window}}])))", "(sum(rate(b[{{.window}}])))"


@pytest.mark.parametrize(
    ("method", "indicator", "objective", "query"),
    [
        (
            "RatioTimeslices",
            RATIO.replace("KIND", "bad"),
            "{target: 0.99}",
            f"({A} or 0 * {B}) / ({B} > 0) or 0 * {B}",
        ),
        (
            "RatioTimeslices",
            RATIO.replace("KIND", "good"),
            "{target: 0.99}",
            f"1 - ({A} or 0 * {B}) / ({B} > 0) or 0 * {B}",
        ),
        (
            "Occurrences",
            f"{{ratioMetric: {{rawType: failure, raw: {QUERY % 'a'}}}}}",
            "{target: 0.99}",
            A[1:-1],
        ),
        (
            "Occurrences",
            f"{{ratioMetric: {{rawType: success, raw: {QUERY % 'a'}}}}}",
            "{target: 0.99}",
            f"1 - {A}",
        ),
        (
            "Timeslices",
            f"{{ratioMetric: {{rawType: success, raw: {QUERY % 'a'}}}}}",
            "{target: 0.99, timeSliceTarget: 0.75}",
            f"(1 - {A}) > bool 0.25",
        ),
        (
            "Occurrences",
            f"{{thresholdMetric: {QUERY % 'a'}}}",
            "{target: 0.99, op: gte, value: 5}",
            f"{A} < bool 5",
        ),
        (
            "Occurrences",
            f"{{thresholdMetric: {QUERY % 'a'}}}",
            "{target: 0.99, op: lte, value: -1.5e1}",
            f"{A} > bool -15",
        ),
    ],
)
def test_each_way_to_budget_has_its_query(tmp_path, method, indicator, objective, query):
    """What is bad is asked for, whatever was written down as good."""
    text = OPENSLO.replace("METHOD", method).replace("INDICATOR", indicator).replace("OBJECTIVE", objective)
    imported = load_foreign([written(tmp_path, text)], "30d")
    assert imported.drafts[0].queries == (("ratio", query),)
    assert imported.losses.places == {}


@pytest.mark.parametrize(
    ("method", "indicator", "objective", "told"),
    [
        ("Timeslices", RATIO.replace("KIND", "bad"), "{target: 0.9}", "timeSliceTarget must be given"),
        ("Occurrences", f"{{ratioMetric: {{raw: {QUERY % 'a'}}}}}", "{target: 0.9}", "rawType must be given"),
        ("Occurrences", f"{{thresholdMetric: {QUERY % 'a'}}}", "{target: 0.9}", "op must be given"),
        *(
            (
                "Occurrences",
                f"{{thresholdMetric: {QUERY % 'a'}}}",
                f"{{target: 0.9, op: lte, value: {value}}}",
                "value must be a number of at most 30 digits",
            )
            for value in ("nan", "inf", "1e400", "soon")
        ),
        (
            "Occurrences",
            RATIO.replace("KIND", "bad"),
            "{target: 99}",
            "target must be a share above 0 and below 1",
        ),
        ("Occurrences", RATIO.replace("KIND", "bad"), "{targetPercent: 0}", "must be a percentage above 0"),
        ("Occurrences", RATIO.replace("KIND", "bad"), "{targetPercent: nan}", "must be a percentage above 0"),
        (
            "Occurrences",
            RATIO.replace("KIND", "bad"),
            "{target: 0.9, indicatorRef: a}",
            "made of several indicators",
        ),
    ],
)
def test_what_cannot_be_budgeted_is_refused(tmp_path, method, indicator, objective, told):
    """With what is missing."""
    text = OPENSLO.replace("METHOD", method).replace("INDICATOR", indicator).replace("OBJECTIVE", objective)
    with pytest.raises(ObjectivesError, match=told):
        load_foreign([written(tmp_path, text)], "30d")


def test_an_import_always_tells_somebody(tmp_path):
    """Also where tickets are disabled, and no page could ever come."""
    text = """\
version: prometheus/v1
service: web
slos:
- name: half
  objective: 50
  sli: {events: {error_query: 'sum(rate(a[{{.window}}]))', total_query: 'sum(rate(b[{{.window}}]))'}}
  alerting: {ticket_alert: {disable: true}}
"""
    imported = load_foreign([written(tmp_path, text)], "30d")
    assert set(imported.drafts[0].off) == {"1h", "6h", "1d"}
    assert "disable: somebody is always told, if only of what goes within 3d" in imported.losses.places


def test_what_nothing_uses_is_told(tmp_path):
    """An indicator without an objective, and a share of slices where there are none."""
    text = OPENSLO.replace("METHOD", "Occurrences").replace("INDICATOR", RATIO.replace("KIND", "bad"))
    text = text.replace("OBJECTIVE", "{target: 0.9, timeSliceTarget: 0.5}")
    unused = "---\n{apiVersion: openslo/v1, kind: SLI, metadata: {name: lonely}, spec: {description: x}}\n"
    imported = load_foreign([written(tmp_path, text + unused)], "30d")
    assert set(imported.losses.places) == {
        "timeSliceTarget: the budgeting method has no use for it",
        "SLI: no SLO refers to it",
        "the alert of 1h: 14.4 times 10 % is 144 %, which never happens",
    }


def mistakes():
    for block in (FOREIGN / "mistakes.txt").read_text("utf-8").split("\n\n")[1:]:
        text, _, told = block.strip().rpartition("\n= ")
        yield pytest.param(text, told, id=told[:60])


@pytest.mark.parametrize(("text", "told"), [*mistakes()])
def test_a_mistake_is_told_with_its_line_and_its_mend(tmp_path, text, told):
    """In others' files as in one's own."""
    with pytest.raises(ObjectivesError) as refused:
        load_foreign([written(tmp_path, text)], "30d")
    assert str(refused.value) == told


def odd(document, path=()):
    """List each way to put something odd in the place of one value of a document."""
    for key in document if isinstance(document, dict) else range(len(document)):
        for oddity in ([], {}, [[]], "", "x", None, 1.5):
            yield (*path, key), oddity
        if isinstance(document[key], dict | list):
            yield from odd(document[key], (*path, key))


@pytest.mark.parametrize("source", ["sloth.yaml", "openslo.yaml"])
def test_whatever_stands_in_a_file_is_read_or_refused(tmp_path, source):
    """Never with a traceback."""
    documents = list(yaml.safe_load_all((FOREIGN / source).read_text("utf-8")))
    refused = 0
    for path, oddity in list(odd(documents))[::10]:
        changed = copy.deepcopy(documents)
        place = functools.reduce(lambda value, key: value[key], path[:-1], changed)
        place[path[-1]] = oddity
        try:
            load_foreign([written(tmp_path, yaml.safe_dump_all(changed))], "30d")
        except ObjectivesError:
            refused += 1
    assert refused


def test_a_type_is_found_where_the_source_is_named(tmp_path):
    """A source without one, or that is in none of the files, is taken for Prometheus."""
    text = OPENSLO.replace("METHOD", "Occurrences").replace("OBJECTIVE", "{target: 0.99}")
    query = "{metricSource: {metricSourceRef: s, spec: {query: 'sum(rate(a[{{.window}}]))'}}}"
    text = text.replace("INDICATOR", f"{{ratioMetric: {{rawType: failure, raw: {query}}}}}")
    source = "---\n{apiVersion: openslo/v1, kind: DataSource, metadata: {name: s}%s}\n"
    for spec in ("", ", spec: {}", ", spec: {type: Mimir}"):
        assert load_foreign([written(tmp_path, text + source % spec)], "30d").drafts
    assert load_foreign([written(tmp_path, text)], "30d").drafts
    with pytest.raises(ObjectivesError, match="objectives of NewRelic: only Prometheus is asked"):
        load_foreign([written(tmp_path, text + source % ", spec: {type: NewRelic}")], "30d")


def test_an_objective_without_an_indicator_is_left_out(tmp_path):
    """It may have one for each of its parts."""
    text = OPENSLO.replace("METHOD", "Occurrences").replace("OBJECTIVE", "{target: 0.99}")
    text = text.replace("  indicator: {spec: INDICATOR}\n", "")
    with pytest.raises(ObjectivesError, match="objectives made of several indicators: each has one here"):
        load_foreign([written(tmp_path, text)], "30d")


def test_who_answers_is_a_name(tmp_path):
    """An address is none, and a second team is not the first."""
    spec = "version: prometheus/v1\nservice: a\nlabels: {team: [one, two], owner: two, tier: []}\nslos:\n"
    slo = "- {name: b, objective: 99, sli: {raw: {error_ratio_query: 'sum(rate(a[{{.window}}]))'}}}\n"
    imported = load_foreign([written(tmp_path, spec + slo)], "30d")
    assert imported.teams == {"a": "one"}
    assert [places for what, places in imported.losses.places.items() if what.startswith("labels")] == [
        ["f.yaml:3"]
    ]
    mail = spec.replace("[one, two]", "me@example.com")
    assert load_foreign([written(tmp_path, mail + slo)], "30d").teams == {"a": "two"}
