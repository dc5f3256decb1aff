"""What is recorded and alerted on, as text; what it does is for promtool to say, in the contract tests."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tercet.declare.document import load_catalog
from tercet.declare.settings import Settings
from tercet.errors import ObjectivesError
from tercet.generate.names import series
from tercet.generate.promql import one_of, select
from tercet.generate.tree import render_tree

EVERY_KIND = Path(__file__).parent / "every_kind.yaml"
SEVERITIES = {"SEV-1": "page", "SEV-2": "page", "SEV-3": "ticket", "SEV-4": "ticket"}


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(EVERY_KIND, Settings())


@pytest.fixture(scope="module")
def files(catalog):
    return render_tree(catalog)


def rules(files, key):
    """List the rules of all files that have a key: `alert` or `record`."""
    return [
        rule
        for path, text in files.items()
        if path.startswith("rules/")
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if key in rule
    ]


def named(files, alert):
    (rule,) = [rule for rule in rules(files, "alert") if rule["alert"] == alert]
    return rule


def test_factors_are_computed_from_the_period(files):
    """28 days, so 13.44 and not 14.4; and no noise of floating-point numbers."""
    assert named(files, "BankCallsBurn1h")["expr"].partition("\nor ")[0] == (
        'slo:bad_ratio:rate1h{service="bank",slo="calls"} > 13.44 * 0.001\n'
        'and slo:bad_ratio:rate5m{service="bank",slo="calls"} > 13.44 * 0.001\n'
        'and slo:bad_events:increase1h{service="bank",slo="calls"} >= 3'
    )


def test_what_rates_do_not_see_is_counted(files):
    """Where they saw less than half, or too little is bad to say that it is over; but not minutes."""
    assert named(files, "BankCallsBurn1h")["expr"].partition("\nor ")[2] == (
        'sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[1h])\n'
        '  / sum_over_time(slo:events:increase2m{service="bank",slo="calls"}[1h]) > 13.44 * 0.001\n'
        'and sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[10m])\n'
        '  / sum_over_time(slo:events:increase2m{service="bank",slo="calls"}[10m]) > 13.44 * 0.001\n'
        'and sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[1h]) >= 3\n'
        'and sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[1h])\n'
        '  > 3 * max_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[1h])\n'
        "unless (\n"
        '  60 * sum_over_time(slo:bad_events:rate5m{service="bank",slo="calls"}[15m])\n'
        '    >= sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[10m]) / 2\n'
        '  and sum_over_time(slo:bad_events:increase2m{service="bank",slo="calls"}[1h]) >= 36\n'
        ")"
    )
    assert "\nor " not in named(files, "BankLineBurn1h")["expr"]


def test_each_alert_says_all_that_somebody_who_is_woken_needs(files):
    """Labels to route by, words to act by, and a runbook that is there."""
    for rule in rules(files, "alert"):
        labels, annotations = rule["labels"], rule["annotations"]
        assert SEVERITIES[labels["severity"]] == labels["notify"], rule["alert"]
        assert all(labels[key] for key in ("service", "team", "slo", "response")), rule["alert"]
        assert annotations["summary"], rule["alert"]
        parts = re.findall(r"^(Impact|Possible causes|Immediate actions):", annotations["description"], re.M)
        assert parts == ["Impact", "Possible causes", "Immediate actions"], rule["alert"]
        assert re.match(
            r"https://grafana\.example\.com/d/tercet-(service|telemetry)\?var-service=.",
            annotations["dashboard"],
        )
        runbook = annotations["runbook_url"].removeprefix("https://runbooks.example.com/shop/")
        assert f"runbooks/{runbook}" in files, rule["alert"]


def test_an_alert_reads_as_the_founding_document_has_it(files):
    """Impact, dashboard, runbook, causes, actions."""
    rule = named(files, "ApiJobsHigh")
    assert rule["for"] == "90s"
    assert rule["annotations"]["description"] == (
        'Impact: Orders are "lost".\n\n'
        "Dashboard: https://grafana.example.com/d/tercet-service?var-service=api"
        "&var-environment={{ with $labels.deployment_environment_name }}{{ urlquery . }}{{ else }}$__all"
        "{{ end }}&from=now-3h&to=now\n"
        "Runbook: https://runbooks.example.com/shop/ApiJobsHigh.md\n\n"
        "Possible causes:\n- It's $broken: {x}\n\n"
        "Immediate actions:\n1. Look."
    )


def test_what_only_queries_know_is_looked_at_where_it_is_shown():
    """On the dashboard of objectives: that of services has no panel on it."""
    queried = render_tree(load_catalog(EVERY_KIND.parent / "queries.yaml", Settings()))
    page = "https://grafana.example.com/d/tercet-slo?var-service=envoy"
    about = [
        rule for rule in rules(queried, "alert") if rule["labels"]["slo"] not in ("presence", "telemetry")
    ]
    assert about
    for rule in about:
        assert rule["annotations"]["dashboard"].startswith(page), rule["alert"]
        assert f"&var-slo={rule['labels']['slo']}&" in rule["annotations"]["dashboard"], rule["alert"]


def test_a_level_is_said_to_be_the_sum_where_it_is(files):
    """Of what goes up and down in each process; of a gauge, the worst counts."""
    backlog, disk = (
        named(files, f"Api{name}Burn1h")["annotations"]["summary"] for name in ("Backlog", "Disk")
    )
    assert "of minutes had the sum of queue.size above 100 in" in backlog
    assert "of minutes had disk.used above 0.8 in" in disk
    runbook = files["runbooks/ApiBacklogBurn1h.md"]
    assert (
        "sum by (deployment_environment_name) (queue_size{" in runbook.partition("How high is it in all?")[2]
    )


def test_what_nobody_is_told_of_is_not_computed(files):
    """`off` leaves out the alert, and the windows that only it looks at."""
    of_slow = {rule["record"] for rule in rules(files, "record") if rule["labels"]["slo"] == "slow"}
    assert "slo:bad_ratio:rate6h" in of_slow
    assert "slo:bad_ratio:rate1h" not in of_slow
    assert not [rule for rule in rules(files, "alert") if rule["alert"] == "BankSlowBurn1h"]


def test_raw_series_are_read_an_hour_back_and_no_further(files):
    """Whatever the window: what is longer is summed from what was recorded."""
    for rule in rules(files, "record"):
        for name, window in re.findall(r"(\w[\w:]*)\{[^}]*\}\[(\w+)\]", rule["expr"]):
            assert name.startswith("slo:") or window in ("2m", "3m", "5m", "1h"), rule


def test_what_is_counted_at_the_source_is_read_from_there(files):
    """Two series an objective; a symptom looks at the histogram all the same, and silence is told of."""
    expressions = {
        rule["record"]: rule["expr"]
        for rule in rules(files, "record")
        if rule["labels"] == {"service": "bank", "slo": "counted-fast"}
    }
    rate = (
        'sum by (deployment_environment_name) (rate(slo_events_total{job="bank",%sslo="counted-fast"%s}[5m]))'
    )
    environment = 'deployment_environment_name="prod",'
    assert expressions["slo:events:rate5m"] == rate % (environment, "")
    assert expressions["slo:bad_events:rate5m"].startswith(rate % (environment, ',outcome="bad"'))
    assert "histogram_quantile(0.99" in named(files, "BankCountedFastHigh")["expr"]
    assert named(files, "BankCountedFastBlind")["expr"] == (
        'group(target_info{job="bank",deployment_environment_name="prod"}) '
        'unless on () group(slo:events:rate5m{service="bank",slo="counted-fast"} '
        'or slo:events:increase2m{service="bank",slo="counted-fast"})'
    )


def test_values_stay_in_their_quotes(files):
    """Whatever they hold."""
    (bad,) = [
        rule["expr"]
        for rule in rules(files, "record")
        if rule["record"] == "slo:bad_events:rate5m" and rule["labels"]["slo"] == "paid"
    ]
    assert r'payment_method=~"card|we\\.ird\"\\\\x"' in bad
    assert select("up", one_of("a", ["x"])) == 'up{a="x"}'


def test_the_same_document_makes_the_same_files(catalog, files):
    """To the last byte, with a header that says where they come from."""
    assert render_tree(catalog) == files
    assert all("Generated by `tercet generate` from every_kind.yaml" in text[:100] for text in files.values())


def labels_of(metrics):
    return {re.sub(r"\W", "_", key) for metric in metrics for key in metric.attributes}


#: What Prometheus, the resource and the rules themselves have.
OWN_LABELS = {
    *("job", "instance", "deployment_environment_name", "le", "__name__", "otel_metric_overflow"),
    *("service", "slo", "month"),
}


def test_each_label_is_declared(catalog, files):
    """One that is renamed in the declarations fails here, with the rule that would read nothing."""
    declared = labels_of(catalog.metrics.values()) | OWN_LABELS
    for rule in rules(files, "alert") + rules(files, "record"):
        used = set(re.findall(r"[{,(]\s*(\w+)(?:=~|!~|!=|=)", rule["expr"]))
        used |= {
            key for by in re.findall(r"(?:by|on|without) \(([^)]+)\)", rule["expr"]) for key in by.split(", ")
        }
        assert used <= declared, rule.get("alert") or rule


def test_each_series_is_declared(catalog, files):
    """Or recorded here, or Prometheus' own."""
    declared = {
        series(metric) + suffix for metric in catalog.metrics.values() for suffix in ("", "_count", "_bucket")
    }
    known = declared | {rule["record"] for rule in rules(files, "record")} | {"target_info"}
    for rule in rules(files, "alert") + rules(files, "record"):
        used = set(re.findall(r"([a-z_][\w:]*)\{", rule["expr"]))
        assert used <= known, rule.get("alert") or rule


def test_a_renamed_metric_is_told_by_the_line_that_names_it(catalog, tmp_path):
    """The build fails before any rule is written."""
    renamed = tmp_path / "objectives.yaml"
    renamed.write_text(
        EVERY_KIND.read_text("utf-8").replace("name: orders,", "name: orders.placed,"), "utf-8"
    )
    with pytest.raises(
        ObjectivesError, match=r"objectives\[0\]\.metric must be one of .*Did you mean orders\.placed"
    ):
        load_catalog(renamed, Settings())


def test_two_alerts_of_one_name_are_refused(catalog):
    """Also where file systems do not tell upper case from lower."""
    (first, *_) = catalog.objectives
    twin = replace(first, name="PAID", place="shop.py:7")
    with pytest.raises(ObjectivesError) as caught:
        render_tree(replace(catalog, objectives=(first, twin)))
    assert str(caught.value) == (
        "shop.py:7: each alert must have a name of its own, got ApiPAIDBurn1h for api PAID, "
        "and for api paid at every_kind.yaml:29. Rename one of them."
    )


def test_a_runbook_can_be_read_at_three_in_the_morning(files):
    """What to do comes first, what it means last, and no template is left in it."""
    page = files["runbooks/ApiPaidBurn1h.md"]
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    assert headings == [
        "ApiPaidBurn1h",
        "Do this first",
        "Possible causes",
        "Look",
        "What it means",
        "The rule",
    ]
    assert "**SEV-1**, a page: somebody works on it within 15 minutes." in page
    assert "- bank does not work; api needs it." in page
    assert "Customers were promised 98 %: that promise is broken when 2 times the budget is gone." in page
    assert not [path for path in files if path.startswith("runbooks/") and "{{ " in files[path]]
