"""Objectives as sloth has them: percent, queries with its window, one page and one ticket."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tercet.declare.document import load_catalog
from tercet.declare.query import Queries, parse_query
from tercet.declare.settings import Settings
from tercet.generate import sloth
from tercet.generate.rulefile import Group, Recording, render_rule_file
from tercet.generate.tree import render_tree


@pytest.fixture(scope="module")
def slos():
    """Name the objectives of all services."""
    catalog = load_catalog(Path(__file__).parent / "every_kind.yaml", Settings())
    files = render_tree(catalog, for_sloth=True)
    specs = [yaml.safe_load(files[f"sloth/{service}.yaml"]) for service in ("api", "bank")]
    assert {spec["version"] for spec in specs} == {"prometheus/v1"}
    return {slo["name"]: slo for spec in specs for slo in spec["slos"]}


def queries(slo):
    """List the queries of an objective, with a window that promtool understands."""
    of_kind = slo["sli"].get("events") or slo["sli"]["raw"]
    assert all("{{.window}}" in query for query in of_kind.values())
    return [query.replace("{{.window}}", "5m") for query in of_kind.values()]


def test_an_objective_is_what_sloth_expects(slos):
    """Exact, without the noise of floating-point numbers."""
    assert slos["calls"] == {
        "name": "calls",
        "objective": 99.9,
        "description": "99.9 %: Nobody can pay.",
        "sli": {
            "events": {
                "error_query": "sum(rate(http_server_request_duration_seconds_count{"
                'job="bank",deployment_environment_name="prod",error_type!~"|client_disconnected"}[{{.window}}]))',
                "total_query": "sum(rate(http_server_request_duration_seconds_count{"
                'job="bank",deployment_environment_name="prod"}[{{.window}}]))',
            }
        },
        "alerting": {
            "name": "BankCallsBurn",
            "annotations": {"summary": "Nobody can pay."},
            "page_alert": {"labels": {"severity": "SEV-1"}},
            "ticket_alert": {"labels": {"severity": "SEV-3"}},
        },
    }


def test_whom_nobody_wakes_has_no_page(slos):
    """And the ticket is there."""
    assert slos["slow"]["alerting"]["page_alert"] == {"disable": True}
    assert slos["peak"]["alerting"]["ticket_alert"] == {"labels": {"severity": "SEV-3"}}
    assert slos["rough"]["alerting"]["ticket_alert"] == {"labels": {"severity": "SEV-4"}}


def test_minutes_are_a_ratio_of_their_own(slos):
    """Of those that count."""
    (query,) = queries(slos["peak"])
    assert "< bool 10000" in query
    assert "hour() >= 8 < 20" in query


def test_queries_go_out_as_they_came_in():
    """Those of good events as what is left of all of them, and a state as its mean over the window."""
    catalog = load_catalog(Path(__file__).parent / "queries.yaml", Settings())
    told = {
        slo["name"]: slo["sli"]
        for slo in yaml.safe_load(render_tree(catalog, for_sloth=True)["sloth/envoy.yaml"])["slos"]
    }
    assert told["answers"]["events"] == {
        "error_query": 'sum(rate(http_requests_total{job="envoy",code=~"(5..|429)"}[{{.window}}]))',
        "total_query": 'sum(rate(http_requests_total{job="envoy"}[{{.window}}]))',
    }
    assert told["uncountable"]["events"]["error_query"] == (
        "(\nsum(sum_over_time(batch_all[{{.window}}])) # never mind\n) - "
        "(\nsum(sum_over_time(batch_good[{{.window}}]))\n)"
    )
    assert told["level"]["raw"]["error_ratio_query"] == (
        "avg_over_time((\nmax(queue_size) > bool 100\n)[{{.window}}:1m])"
    )


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt install prometheus")
def test_each_query_is_promql(slos, tmp_path):
    """As Prometheus reads it."""
    every = [query for slo in slos.values() for query in queries(slo)]
    recordings = tuple(Recording(f"query:{number}", query, {}) for number, query in enumerate(every))
    (tmp_path / "rules.yaml").write_text(
        render_rule_file("# test", [Group("sloth", 60, recordings)]), "utf-8"
    )
    subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], check=True, timeout=60)


def test_a_comment_takes_nothing_with_it():
    """Sloth puts queries into others, each on one line with what follows."""
    commented = "sum(rate(a[{{.window}}])) # all"
    part, total = parse_query(commented), parse_query(commented)
    lines = list(sloth.render_queries(Queries("bad", part, total)))
    assert [yaml.safe_load(line.partition(": ")[2])[-1] for line in lines[1:]] == ["\n", "\n"]
