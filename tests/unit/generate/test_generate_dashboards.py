"""What an on-call engineer sees, held to what makes a panel one that can be believed."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from promql_parser import AggregateExpr, MatrixSelector

from as_grafana import Page, calls, labels, nodes, selectors, used
from tercet.declare.document import load_catalog
from tercet.declare.metric import HTTP_SERVER_DURATION, Metric
from tercet.declare.names import label_name
from tercet.declare.settings import Settings
from tercet.generate.dashboards import render_dashboards
from tercet.generate.files import check_files, write_files
from tercet.generate.names import series
from tercet.generate.tree import render_tree

EVERY_KIND = Path(__file__).parent / "every_kind.yaml"
#: What a module declares, as `--module` hands it over.
DECLARED = (
    Metric("db.client.operation.duration", "histogram", "s", "Queries.", ("db.system.name", "error.type")),
    Metric("render.duration", "summary", "s", "Renderings.", ("page",), quantiles=(0.5, 0.99), window=600),
    Metric("cache.age", "gauge", "s", "Age of the cache.", across="min"),
)
DASHBOARDS = ("tercet-service", "tercet-slo", "tercet-telemetry")
#: Labels that Prometheus, the resource and the rules give, rather than a declaration.
EVERYWHERE = {"job", "instance", "deployment_environment_name", "__name__", "otel_metric_overflow"}
RECORDED = {"service", "slo", "deployment_environment_name"}
ALERTS = {"alertname", "alertstate", "severity", "notify", "service", "slo", "deployment_environment_name"}


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(EVERY_KIND, Settings(), DECLARED)


@pytest.fixture(scope="module")
def files(catalog):
    return render_tree(catalog)


@pytest.fixture(scope="module", params=DASHBOARDS)
def page(files, request):
    return Page.read(files[f"dashboards/{request.param}.json"])


@pytest.fixture(scope="module")
def service(files):
    return Page.read(files["dashboards/tercet-service.json"])


def broken(tree, catalog) -> set[str]:
    """Name the panels that read what no declaration makes: a series or a label."""
    known = known_labels(catalog, tree)
    pages = [Page.read(text) for path, text in tree.items() if path.startswith("dashboards/")]
    return {
        asked.where
        for page in pages
        for asked, expression in page.parsed
        if not all(
            label in set().union(*(known.get(selector.name, set()) for selector in selectors(within)))
            for within, label in labels(expression)
        )
        or not all(selector.name is None or selector.name in known for selector in selectors(expression))
    }


def known_labels(catalog, tree) -> dict[str | None, set[str]]:
    """Say which labels each series has that a declaration, a rule or Prometheus makes."""
    known: dict[str | None, set[str]] = {
        "ALERTS": ALERTS,
        "ALERTS_FOR_STATE": ALERTS,
        # `service` is what label_replace makes of job.
        "target_info": EVERYWHERE | {"service_version", "service"},
        None: EVERYWHERE,
    }
    for metric in catalog.metrics.values():
        own = {label_name(key) for key in metric.attributes} | EVERYWHERE
        suffixes = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
        for suffix in suffixes.get(metric.kind, ("",)):
            known[series(metric) + suffix] = own | {"le", "quantile"}
    for path, text in tree.items():
        if path.startswith("rules/"):
            groups = yaml.safe_load(text)["groups"]
            records = [rule["record"] for group in groups for rule in group["rules"] if "record" in rule]
            known |= dict.fromkeys(records, RECORDED)
    return known


# All of them are declared.


def test_each_series_and_label_is_declared(catalog, files):
    """What is asked can be answered."""
    assert broken(files, catalog) == set()


def test_what_is_renamed_is_told_by_the_panel_that_would_show_nothing(catalog, files):
    """A metric, an attribute and a recorded series."""
    moved = replace(HTTP_SERVER_DURATION, name="http.server.duration")
    metrics = {**catalog.metrics, HTTP_SERVER_DURATION.name: moved}
    assert {"Requests", "Errors", "Duration", "Routes"} <= broken(files, replace(catalog, metrics=metrics))
    other = replace(catalog.metrics["orders"], attributes=("status", "method"))
    assert broken(files, replace(catalog, metrics={**catalog.metrics, "orders": other})) == {"orders"}
    recorded = {path: text.replace("slo:budget_remaining:ratio", "slo:left") for path, text in files.items()}
    old = {path: files[path] for path in files if path.startswith("dashboards/")}
    assert {"Budget left", "Objectives"} <= broken(recorded | old, catalog)


def test_a_check_names_the_panels_that_change(catalog, tmp_path):
    """Of a dashboard that is there, and of whatever somebody has put in its place."""
    write_files(tmp_path, render_tree(catalog))
    changed = {**catalog.metrics, "orders": replace(catalog.metrics["orders"], unit="{basket}")}
    difference = check_files(tmp_path, render_tree(replace(catalog, metrics=changed)))
    assert difference.changed["dashboards/tercet-service.json"] == ("orders",)
    (tmp_path / "dashboards" / "tercet-slo.json").write_text("[]", "utf-8")
    assert "Objectives" in check_files(tmp_path, render_tree(catalog)).changed["dashboards/tercet-slo.json"]


# They are what Grafana expects.


def test_a_dashboard_says_where_it_comes_from_and_cannot_be_changed_there(page):
    """It is generated: what is changed in the browser would be lost."""
    assert page.model["description"].startswith("Generated by `tercet generate` from every_kind.yaml; ")
    assert page.model["editable"] is False
    assert (page.model["schemaVersion"], page.model["uid"] in DASHBOARDS) == (42, True)


def test_a_dashboard_can_be_compared_line_by_line(files):
    """Keys are sorted but for the one that says where it comes from; nothing differs from run to run."""
    for path, text in files.items():
        if path.startswith("dashboards/"):
            model = json.loads(text)
            first = json.dumps(model.pop("description"), ensure_ascii=False)
            assert text.splitlines()[1] == f'  "description": {first},'
            assert list(model) == sorted(model)


def test_panels_keep_their_place_and_their_id(page):
    """No two in one place, none beyond the edge, none without an id and a title of its own."""
    places = [panel["gridPos"] for panel in page.model["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    apart = ("x", "w"), ("y", "h")
    for one, other in combinations(places, 2):
        assert any(
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at] for at, size in apart
        )
    assert max(Counter(panel["id"] for panel in page.model["panels"]).values()) == 1
    assert max(Counter(panel["title"] for panel in page.panels).values()) == 1


def test_a_panel_keeps_its_id_when_others_come_before_it(catalog, service):
    """Links to it outlive the next version."""
    fewer = {name: metric for name, metric in catalog.metrics.items() if name != "basket.value"}
    other = render_dashboards("Generated", replace(catalog, metrics=fewer))["dashboards/tercet-service.json"]
    assert Page.read(other).panel("Logs")["id"] == service.panel("Logs")["id"]


# Each panel can be believed.


def test_each_panel_says_what_it_shows(page):
    """Title, description, unit and the names of its series."""
    for panel in page.panels:
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] != "logs" and panel["datasource"]["type"] != "jaeger":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]
    for asked in page.asked():
        assert asked.legend, asked.where


def test_each_legend_names_labels_that_its_series_have(page):
    """One that does not would show nothing there."""
    for asked, expression in page.parsed:
        left = {label for _, label in labels(expression)}
        assert set(re.findall(r"{{(\w+)}}", asked.legend)) <= left, asked


def test_data_comes_from_where_the_reader_says(page):
    """No panel names a source of data that is not chosen in the dashboard."""
    chosen = {
        f"${name}": variable["query"]
        for name, variable in page.variables.items()
        if variable["type"] == "datasource"
    }
    annotations = [each["datasource"] for each in page.model["annotations"]["list"]]
    targets = [target["datasource"] for panel in page.panels for target in panel["targets"]]
    for source in (*annotations, *targets, *(panel["datasource"] for panel in page.panels)):
        assert chosen[source["uid"]] == source["type"]


def test_each_variable_that_is_used_is_there_and_each_that_is_there_is_used(page):
    """In queries, links and titles."""
    text = json.dumps([page.model["panels"], page.model["annotations"], page.model["templating"]])
    assert used(text) == set(page.variables)


def test_variables_follow_the_time_and_what_is_chosen_before_them(page):
    """Several values, or all, also of what has no such label at all."""
    for name, variable in page.variables.items():
        if variable["type"] == "query":
            assert (variable["refresh"], variable["multi"], variable["includeAll"]) == (2, True, True)
            assert variable["allValue"] == (".+" if name in ("service", "slo") else ".*")
            earlier = list(page.variables)[: list(page.variables).index(name)]
            assert used(variable["definition"]) <= set(earlier)


def test_a_rate_looks_back_as_far_as_grafana_finds_right(page):
    """And nothing else does, but for sums of what is recorded in intervals, over the panel's own window."""
    for asked, expression in page.parsed:
        sums = list(calls(expression, "sum_over_time"))
        looking_back = asked.where.removeprefix("Burn rate over ") if sums else "$__rate_interval"
        assert set(re.findall(r"}\[([^\]]*)\]", asked.expression)) <= {looking_back}, asked
        summed = [each.name for call in sums for each in selectors(call.args[0])]
        assert all(name.endswith(":increase2m") for name in summed), asked
        ranges = [node for node in nodes(expression) if isinstance(node, MatrixSelector)]
        rates = [*calls(expression, "rate"), *calls(expression, "increase")]
        assert len(ranges) == len(rates) + len(sums), asked


def test_counters_of_processes_are_added_up(page):
    """A rate of each process for itself says nothing of the service."""
    for asked, expression in page.parsed:
        summed = [
            inner
            for node in nodes(expression)
            if isinstance(node, AggregateExpr)
            for inner in (*calls(node.expr, "rate"), *calls(node.expr, "increase"))
        ]
        assert len(summed) >= len([*calls(expression, "rate"), *calls(expression, "increase")]), asked


def test_quantiles_are_of_all_processes_together(page):
    """Buckets are added up first."""
    for asked, expression in page.parsed:
        for call in calls(expression, "histogram_quantile"):
            assert isinstance(call.args[1], AggregateExpr), asked
            assert "le" in call.args[1].modifier.labels, asked


def test_only_quantiles_and_heatmaps_have_exemplars(page):
    """Elsewhere a dot would mean nothing."""
    for panel in page.panels:
        for target in panel["targets"]:
            is_distribution = panel["type"] == "heatmap" or "histogram_quantile" in target.get("expr", "")
            assert is_distribution or not target.get("exemplar"), panel["title"]


def test_what_is_chosen_narrows_each_panel(page):
    """But for those that are about all services, so that one can be chosen."""
    for asked in page.asked():
        if asked.where not in ("Services", "Objectives"):
            assert used(asked.expression) & {"service", "slo"} or 'slo="telemetry"' in asked.expression, asked


def test_links_lead_to_panels_and_dashboards_that_are_there(files, page):
    """And to runbooks where they are published."""
    pages = {uid: Page.read(files[f"dashboards/{uid}.json"]) for uid in DASHBOARDS}
    for title, url in page.links():
        if url.startswith("https://runbooks.example.com/shop/"):
            continue
        path, _, query = url.partition("?")
        target = pages[path.removeprefix("/d/")]
        assert set(re.findall(r"var-(\w+)=", query)) | used(query) <= set(target.variables), title
        for number in re.findall(r"viewPanel=panel-(\d+)", query):
            assert int(number) in {panel["id"] for panel in target.panels}, title


# Its reader finds the first thing first.


def test_the_dashboard_of_a_service_is_laid_out_as_the_founding_document_has_it(service):
    """Five rows, and one for what its services declare."""
    assert service.rows == [
        "Health",
        "Rate, errors, duration",
        "Utilisation, saturation, errors",
        "Dependencies",
        "What services declare",
        "Detail",
    ]
    assert [panel["title"] for panel in service.panels][:7] == [
        "Services",
        "Alerts that fire",
        "Budget left",
        "Dependencies",
        "Requests",
        "Errors",
        "Duration",
    ]


def test_the_first_screen_says_what_is_broken(service):
    """Health, alerts, budgets, dependencies and RED are within what a screen of 1080 lines shows."""
    bottom = service.panel("Duration")["gridPos"]
    assert bottom["y"] + bottom["h"] <= 20


def test_each_declared_metric_has_a_panel_of_its_kind(service):
    """In its own unit; tercet's own metrics have theirs elsewhere."""
    own = {
        name: (panel["fieldConfig"]["defaults"]["unit"], panel["targets"][0]["expr"].split("{")[0])
        for name in ("orders", "queue.size", "disk.used", "job.duration", "basket.value", "cache.age")
        for panel in [service.panel(name)]
    }
    assert own == {
        "orders": (
            "count:order/s",
            "sum by (job, status, payment_method) (rate(orders_total",
        ),
        "queue.size": ("count:item", "sum by (job, queue) (queue_size"),
        "disk.used": ("short", "max by (job) (disk_used_ratio"),
        "job.duration": (
            "s",
            "histogram_quantile(0.5, sum by (job, le) (rate(job_duration_seconds_bucket",
        ),
        "basket.value": (
            "count:EUR",
            "histogram_quantile(0.5, sum by (job, le) (rate(basket_value_EUR_bucket",
        ),
        "cache.age": ("s", "min by (job) (cache_age_seconds"),
    }
    quantiles, mean = (target["expr"] for target in service.panel("render.duration")["targets"])
    assert quantiles.startswith("max by (job, quantile) (render_duration_seconds{")
    assert "render_duration_seconds_sum" in mean


def test_objectives_draw_their_line(service):
    """Through the panel of what they are about, in its unit."""
    drawn = {
        title: [target["expr"] for target in service.panel(title)["targets"] if "slo:" in target["expr"]]
        for title in ("Requests", "Errors", "Duration", "orders", "queue.size", "job.duration", "cache.age")
    }
    count = "http_server_request_duration_seconds_count"
    assert {title: re.findall(r"slo:[\w:]+", " ".join(lines)) for title, lines in drawn.items()} == {
        "Requests": [f"slo:{count}:at_least"],
        "Errors": [f"slo:{count}:bad_at_most"],
        "Duration": ["slo:http_server_request_duration_seconds:at_most"],
        "orders": ["slo:orders_total:at_least"],
        "queue.size": ["slo:queue_size:at_most"],
        "job.duration": ["slo:job_duration_seconds:at_most"],
        "cache.age": [],
    }
    # For the sum of all, which is there beside its parts.
    assert "{{job}} in all" in [target["legendFormat"] for target in service.panel("queue.size")["targets"]]


def test_other_peoples_calls_are_dependencies(service):
    """Whatever is named as the semantic conventions name a client's duration."""
    latency = [target["legendFormat"] for target in service.panel("Latency of dependencies")["targets"]]
    assert latency == ["{{server_address}} {{server_port}}", "{{db_system_name}}"]
    assert "db.client.operation.duration" not in {panel["title"] for panel in service.panels}


def test_burn_rates_are_drawn_with_the_factor_of_their_alert(files):
    """28 days: 13.44, and what is a calendar month: 14.4."""
    slo = Page.read(files["dashboards/tercet-slo.json"])
    steps = slo.panel("Burn rate over 1h")["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["value"] for step in steps] == [None, 13.44, 14.4]
    assert [panel["title"] for panel in slo.panels if panel["title"].startswith("Burn")] == [
        f"Burn rate over {window}" for window in ("1h", "6h", "1d", "3d")
    ]


def test_burn_rates_are_drawn_as_counted_too(files):
    """Rates know nothing of a process that ends with its first sample; the alert does, so its panel must."""
    slo = Page.read(files["dashboards/tercet-slo.json"])
    *_, counted = slo.panel("Burn rate over 1d")["targets"]
    chosen = '{service=~"$service",deployment_environment_name=~"$environment",slo=~"$slo"}'
    bad, events = (f"sum_over_time(slo:{what}:increase2m{chosen}[1d])" for what in ("bad_events", "events"))
    share = f"({bad} / ({events} > 0)\nor 0 * {events})"
    assert counted["expr"] == f"{share} / on (service, slo) group_left () (1 - slo:objective:ratio)"
    assert counted["legendFormat"] == "1d counted {{service}} {{slo}} {{deployment_environment_name}}"


def test_the_environment_of_the_document_is_chosen_at_first(page):
    """The rules look at no other."""
    assert page.variables["environment"]["current"]["value"] == ["prod"]


def test_a_service_of_which_nothing_is_declared_has_no_empty_row(catalog):
    """Nor do objectives that are not there draw a line."""
    own = {name: metric for name, metric in catalog.metrics.items() if name.startswith(("http.", "tercet."))}
    (drawn_elsewhere,) = [each for each in catalog.objectives if each.name == "backlog"]
    bare = replace(catalog, metrics=own, objectives=(drawn_elsewhere,))
    page = Page.read(render_dashboards("Generated", bare)["dashboards/tercet-service.json"])
    assert "What services declare" not in page.rows
    assert [target["legendFormat"] for target in page.panel("Requests")["targets"]] == ["{{job}}"]


def test_a_link_of_an_alert_leads_to_a_dashboard_that_is_there(files):
    """With values for variables that it has; all, where the alert knows of none."""
    pages = {uid: Page.read(files[f"dashboards/{uid}.json"]) for uid in DASHBOARDS}
    for path, text in files.items():
        for rule in (
            [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
            if path.startswith("rules/")
            else ()
        ):
            if "alert" in rule:
                url = rule["annotations"]["dashboard"]
                uid, _, query = url.removeprefix("https://grafana.example.com/d/").partition("?")
                assert set(re.findall(r"var-(\w+)=", query)) <= set(pages[uid].variables), rule["alert"]
                assert (uid == "tercet-telemetry") is (rule["labels"]["slo"] == "telemetry"), rule["alert"]
