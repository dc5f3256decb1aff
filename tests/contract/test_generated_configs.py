"""The demo's objectives, what is generated from them, and what Prometheus' own tools say of it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tercet.declare.document import load_catalog, parse_catalog
from tercet.declare.foreign import load_foreign
from tercet.declare.metric import Metric
from tercet.declare.settings import Settings
from tercet.demo import services
from tercet.demo.catalog import PORTS
from tercet.generate.document import render_document
from tercet.generate.files import check_files, write_files
from tercet.generate.tree import render_tree

ROOT = Path(__file__).parents[2]
OBJECTIVES = ROOT / "configs" / "objectives.yaml"
EVERY_KIND = ROOT / "tests" / "unit" / "generate" / "every_kind.yaml"
QUERIES = ROOT / "tests" / "unit" / "generate" / "queries.yaml"
FOREIGN = ROOT / "tests" / "unit" / "declare" / "foreign"

promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="promtool is not installed: apt install prometheus"
)
amtool = pytest.mark.skipif(
    not shutil.which("amtool"), reason="amtool is not installed: apt install prometheus-alertmanager"
)


def imported(path):
    """Import others' file, and say what only its new owner knows, as the document shows it."""
    document = render_document(load_foreign([path], "30d"))
    owned = re.sub(r"^# (team|links|contacts|deadman|  )", r"\1", document, flags=re.MULTILINE)
    return parse_catalog(owned, path.name, Settings())


DOCUMENTS = {
    "demo": lambda: load_catalog(OBJECTIVES, Settings()),
    "every_kind": lambda: load_catalog(EVERY_KIND, Settings()),
    "queries": lambda: load_catalog(QUERIES, Settings()),
    "sloth": lambda: imported(FOREIGN / "sloth.yaml"),
    "openslo": lambda: imported(FOREIGN / "openslo.yaml"),
}


@pytest.fixture(scope="module", params=DOCUMENTS)
def generated(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    write_files(folder, render_tree(DOCUMENTS[request.param]()))
    return folder


def run(folder, *words):
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_generated_is_up_to_date():
    """Renaming a metric changes it, and the alerts and panels that would read nothing are named here."""
    declared = [getattr(each, "metric", None) for each in vars(services).values()]
    metrics = [metric for metric in declared if isinstance(metric, Metric)]
    difference = check_files(
        ROOT / "configs" / "generated", render_tree(load_catalog(OBJECTIVES, Settings(), metrics))
    )
    assert not difference, "Run: tercet generate --module tercet.demo.services configs/objectives.yaml"


def test_each_service_of_the_demo_promises_something():
    """Under the name that it runs under."""
    promised = {objective.service.name for objective in load_catalog(OBJECTIVES, Settings()).objectives}
    assert promised == set(PORTS)


def test_the_promise_that_the_docs_show_can_be_made():
    """In the demo's document."""
    shown = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "objectives.md").read_text("utf-8"), re.S)
    around = OBJECTIVES.read_text("utf-8").partition("objectives:\n")[0]
    promise, by_query = parse_catalog(around + "".join(shown), "objectives.yaml", Settings()).objectives
    assert float(promise.budget_minutes) == 21.6
    assert by_query.indicator.is_countable


@promtool
def test_prometheus_takes_the_rules(generated):
    """Without a complaint of its linter."""
    rules = sorted(str(path) for path in (generated / "rules").iterdir())
    run(generated, "promtool", "check", "rules", "--lint=all", "--lint-fatal", *rules)


@promtool
def test_each_alert_fires_when_it_should_and_only_then(generated):
    """All bad, idle, nothing bad yet, one bad of three, a slow burn: the tests that come with the rules."""
    run(
        generated,
        "promtool",
        "test",
        "rules",
        *sorted(str(path) for path in (generated / "tests").glob("*.yaml")),
    )


@amtool
def test_each_alert_reaches_whom_it_should(generated):
    """The script that is generated with the routes."""
    assert "alertname=Watchdog severity=SEV-4" in run(generated, "sh", "tests/routes.sh")


# Stories with numbers in them, of the demo's order-service.


def story(
    series, expected, rules=ROOT / "configs" / "generated" / "rules" / "order-service.yaml", interval="1m"
):
    """Write a test for promtool: series with their values, and what queries give at a time."""
    return yaml.safe_dump(
        {
            "rule_files": [str(rules)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": interval,
                    "input_series": [{"series": name, "values": values} for name, values in series],
                    "promql_expr_test": [
                        {"expr": expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}
                        for at, expr, value in expected
                    ],
                }
            ],
        }
    )


COUNT = 'http_server_request_duration_seconds_count{job="order-service",%s}'
REMAINING = 'sum(slo:budget_remaining:ratio{service="order-service",slo="availability"})'
FIRING = 'count(ALERTS{alertstate="firing",alertname="OrderServiceAvailabilityBurn1h"}) or vector(0)'
PERIOD = 'sum(slo:bad_ratio:period{service="order-service",slo="availability"})'


def tell(tmp_path, text):
    (tmp_path / "story.yaml").write_text(text, "utf-8")
    run(tmp_path, "promtool", "test", "rules", "story.yaml")


@promtool
def test_the_budget_knows_each_event_once(tmp_path):
    """Of a series that begins with 50 failures, of one that begins again, and of one that ends."""
    good = COUNT % 'instance="a"', "0 49000 99940x60"
    first = COUNT % 'instance="a",error_type="500"', "_ _ _ 50x60"
    again = COUNT % 'instance="b",error_type="500"', "0 4 4 4 1 3x60"
    ended = COUNT % 'instance="c",error_type="502"', "0 2 3 stale"
    ratio = "60 / 100000"
    tell(tmp_path, story([good, first, again, ended], [("30m", f"abs({PERIOD} - {ratio}) < bool 1e-12", 1)]))


@promtool
def test_what_was_counted_before_telemetry_was_away_is_not_counted_again(tmp_path):
    """After 75 minutes in which nothing came: only what is new counts, and all of a process that is new."""
    away = "_x74"
    info = 'target_info{job="order-service",instance="%s"}'
    old, new = (info % "old", f"1x10 {away} 1x30"), (info % "new", f"_x10 {away} 1x30")
    good = COUNT % 'instance="old"', f"0+100x10 {away} 90000+100x30"
    bad = COUNT % 'instance="old",error_type="500"', f"10x10 {away} 5000x20 5010x9"
    born = COUNT % 'instance="new",error_type="500"', f"_x10 {away} 5x30"
    # promtool evaluates each minute what stands for two. Of the first two of the return, nobody can tell.
    all_events, bad_events = (
        f'sum(sum_over_time(slo:{of}:increase2m{{service="order-service",slo="availability"}}[2h])) / 2'
        for of in ("events", "bad_events")
    )
    nearly = f"abs({all_events} - {1000 + 3000 + 25 - 100}) <= bool 100"
    series = [old, new, good, bad, born]
    tell(tmp_path, story(series, [("120m", bad_events, 25), ("120m", nearly, 1)]))


@promtool
@pytest.mark.parametrize("life", [4, 6, 8, 12], ids=lambda life: f"{life * 15}s")
def test_a_process_that_begins_again_and_again_is_counted(tmp_path, life):
    """Scraped under one name each 15 seconds: all but a few in a hundred of what the scrapes have seen."""
    lives = 4 * 3600 // 15 // life
    failed = COUNT % 'instance="a",error_type="500"'
    values = " ".join(str(20 * step) for step in range(life)) + " "
    counted = (
        'sum(sum_over_time(slo:bad_events:increase2m{service="order-service",slo="availability"}[4h])) / 2'
    )
    seen = 20 * (life - 1) * (lives - 4 * 60 // (15 * life))  # of the last four minutes, nothing is known yet
    nearly = f"abs({counted} / {seen} - 1) < bool 0.05"
    tell(tmp_path, story([(failed, values * lives)], [("239m", nearly, 1)], interval="15s"))


@promtool
def test_what_is_gone_elsewhere_hides_nothing_here(tmp_path):
    """Where names of instances repeat from environment to environment, or it gets another environment."""
    labels = 'instance="order-0",deployment_environment_name="%s"'
    info = f'target_info{{job="order-service",{labels}}}'
    gone, here = (info % "staging", "1x10"), (info % "production", "1x200")
    good = COUNT % (labels % "production"), "0+100x200"
    bad = COUNT % (labels % "production" + ',error_type="500"'), "_x149 1000x50"
    counted = 'sum(sum_over_time(slo:bad_events:increase2m{slo="availability"}[4h])) / 2'
    tell(tmp_path, story([gone, here, good, bad], [("195m", counted, 1000)]))


@promtool
def test_a_process_without_an_environment_mutes_nobody(tmp_path):
    """Its end is not silence everywhere."""
    reporting = 'slo:reporting:environments{service="gateway",slo="presence"%s}'
    rules = ROOT / "configs" / "generated" / "rules" / "telemetry.yaml"
    firing = 'count(ALERTS{alertname="AllServicesSilent",alertstate="firing"}) or vector(0)'
    series = [(reporting % "", "1x5 stale"), (reporting % ',deployment_environment_name="a"', "1x60")]
    tell(tmp_path, story(series, [("50m", firing, 0)], rules))


@promtool
def test_what_was_lost_long_ago_is_not_lost_again(tmp_path):
    """Where a scrape fails, or some samples are missing; what is new and begins with a loss is."""
    lost = 'tercet_export_items_total{job="gateway",signal="traces",outcome="queue_full",instance="%s"}'
    rules = ROOT / "configs" / "generated" / "rules" / "telemetry.yaml"
    firing = 'count(ALERTS{alertname="TelemetryDropped",alertstate="firing"}) or vector(0)'
    failed, away = (lost % "a", "4711x30 stale 4711x60"), (lost % "b", "9x30 _x20 9x60")
    quiet = [(f"{minute}m", firing, 0) for minute in range(30, 85)]
    tell(tmp_path, story([failed, away], quiet, rules))
    tell(tmp_path, story([(lost % "c", "_x40 3x30")], [("39m", firing, 0), ("42m", firing, 1)], rules))


@promtool
def test_the_hours_of_a_day_begin_when_all_that_is_looked_at_is_in_them(tmp_path):
    """Enough from 8 to 20, and nothing at night: no minute is bad."""
    write_files(tmp_path, render_tree(DOCUMENTS["every_kind"]()))
    came = 'http_server_request_duration_seconds_count{job="eu/api",deployment_environment_name="prod"}'
    series = [(came, "0x480 660000+660000x720 475860000x60")]
    bad, every = (
        f'60 * sum(sum_over_time(slo:{of}:rate5m{{slo="peak"}}[20h]))' for of in ("bad_events", "events")
    )
    expected = [("1255m", f"{bad} < bool 0.001", 1), ("1255m", f"abs({every} - 715) <= bool 1", 1)]
    tell(tmp_path, story(series, expected, tmp_path / "rules" / "api.yaml"))


@amtool
@pytest.mark.parametrize(
    ("statuses", "title", "runbook", "text"),
    [
        (("resolved", "firing"), "prod shop: b", "/b", "[SEV-2] b\nB\n\nResolved: a\n"),
        (("resolved", "resolved"), "prod shop: resolved: a", "/a", "Resolved: a\nResolved: b\n"),
    ],
)
def test_a_message_tells_what_fires_from_what_is_over(tmp_path, statuses, title, runbook, text):
    """The first that fires gives title and runbook; what has ended is called so."""
    alerts = [
        {
            "status": status,
            "labels": {"severity": "SEV-2"},
            "annotations": {"summary": name, "description": name.upper(), "runbook_url": f"/{name}"},
        }
        for name, status in zip("ab", statuses, strict=True)
    ]
    groups = {"service": "shop", "deployment_environment_name": "prod"}
    (tmp_path / "data.json").write_text(json.dumps({"alerts": alerts, "groupLabels": groups}), "utf-8")
    routes = yaml.safe_load((ROOT / "configs" / "generated" / "alertmanager.yaml").read_text("utf-8"))
    (slack,) = [each["slack_configs"][0] for each in routes["receivers"] if "slack_configs" in each]

    def rendered(key):
        words = ("template", "render", "--template.glob=/dev/null", "--template.data=data.json")
        return run(tmp_path, "amtool", *words, f"--template.text={slack[key]}")

    assert rendered("title") == title
    assert rendered("title_link") == runbook
    assert rendered("text") == text


@promtool
def test_silence_everywhere_becomes_silence_in_one_place_without_a_gap(tmp_path):
    """And the other way round: what holds back the services' own alerts fires at each minute between."""
    labels = 'service="gateway",slo="presence",deployment_environment_name="%s"'
    reporting = f"slo:reporting:environments{{{labels}}}"
    rules = ROOT / "configs" / "generated" / "rules" / "telemetry.yaml"
    firing = 'count(ALERTS{alertname="AllServicesSilent",alertstate="firing"}) > bool 0 or vector(0)'
    first = (reporting % "staging", "1x10 _x29 1x10 _x29 1x20")  # back at 40, gone again at 51
    last = (reporting % "production", "1x10 _x69 1x30")
    there = [(f"{minute}m", firing, 1) for minute in range(20, 80)]
    tell(tmp_path, story([first, last], [*there, ("90m", firing, 0)], rules))


@promtool
def test_a_service_is_missed_where_it_was(tmp_path):
    """In the environment from which it does not come any longer, though it lives in another, for a day."""
    info = 'target_info{job="order-service",deployment_environment_name="%s"}'
    silent = 'count(ALERTS{alertname="OrderServiceSilent",alertstate="firing",%s}) or vector(0)'
    production, staging = (
        silent % f'deployment_environment_name="{name}"' for name in ("production", "staging")
    )
    expected = [
        *(("13m", production, 0), ("16m", production, 1), ("1440m", production, 1), ("1460m", production, 0)),
        *(("16m", staging, 0), ("1460m", staging, 0)),
    ]
    tell(tmp_path, story([(info % "production", "1x5"), (info % "staging", "1x1500")], expected))


BLIND = 'sum(ALERTS{alertname="OrderServiceLatencyBlind",alertstate="firing"}) or vector(0)'


@promtool
def test_processes_without_the_bucket_are_not_slow_but_told_of(tmp_path):
    """As while a new threshold is deployed: nobody knows what is slow in the old ones, so nobody is paged."""
    bucket = COUNT.replace("_count", "_bucket")
    new = [(COUNT % 'instance="new"', "0+100x60"), (bucket % 'instance="new",le="2.5"', "0+99x60")]
    new += [(bucket % 'instance="new",le="0.5"', "0+99x60")]
    old = COUNT % 'instance="old"', "0+900x60"
    bad = 'abs(60 * sum(slo:bad_events:rate5m{service="order-service",slo="latency"}) - 1) < bool 1e-9'
    burns = FIRING.replace("Availability", "Latency")
    expected = [("30m", bad, 1), ("30m", burns, 0), ("14m", BLIND, 0), ("30m", BLIND, 1)]
    tell(tmp_path, story([*new, old], expected))


@promtool
def test_what_is_counted_no_longer_is_told(tmp_path):
    """Half an hour after a deployment that renamed all routes, and not where little happened before."""
    ends = COUNT % 'http_route="/orders"', "0+60x60 stale"
    blind = BLIND.replace("Latency", "Availability")
    beside = 'target_info{job="order-service"}', "1x100"
    tell(tmp_path, story([ends, beside], [("60m", blind, 0), ("90m", blind, 1)]))
    for little in ("0+1x5 5x55 stale", "0+600x30 18000x30 stale"):
        idle = COUNT % 'http_route="/orders"', little
        tell(tmp_path, story([idle, beside], [("90m", blind, 0)]))


@promtool
def test_a_quiet_night_weighs_as_little_as_it_should(tmp_path):
    """60 failures at night and 60,000 good requests by day are a thousandth, not a half."""
    failed = COUNT % 'error_type="500"', "0+1x60 60x80"
    good = COUNT % 'http_route="/orders"', "0x60 0+1000x60 60000x20"
    tell(tmp_path, story([failed, good], [("135m", f"abs({PERIOD} - 60 / 60060) < bool 1e-12", 1)]))


@promtool
def test_an_idle_hour_leaves_no_hole(tmp_path):
    """The budget is a number before, within and after it."""
    good = COUNT % 'http_route="/orders"', "0+100x30 3000x60 3000+100x30"
    bad = COUNT % 'http_route="/orders",error_type="500"', "0x10 1x110"
    numbers = [(at, f"{PERIOD} > bool 0 and {PERIOD} < bool 1", 1) for at in ("25m", "80m", "119m")]
    tell(tmp_path, story([good, bad], numbers))


@promtool
def test_an_outage_pages_within_minutes_and_ends_within_minutes(tmp_path):
    """SEV-1 after two minutes of total outage, and silence five minutes after it."""
    bad = COUNT % 'error_type="500"', "0x30 0+600x10 6000x30"
    good = COUNT % 'http_route="/orders"', "0+600x30 18000x10 18000+600x30"
    expected = [("29m", FIRING, 0), ("33m", FIRING, 1), ("39m", FIRING, 1), ("47m", FIRING, 0)]
    tell(tmp_path, story([good, bad], expected))


def lives(minutes):
    """Make one process after the other, each of which ends with a first sample of 300 failures."""
    return [(COUNT % f'instance="{at}",error_type="500"', f"_x{at - 1} 300 stale") for at in minutes]


@promtool
@pytest.mark.parametrize("good", ["", "0+100x60"], ids=["alone", "beside one that lives"])
def test_processes_that_end_with_their_first_sample_page(tmp_path, good):
    """No rate sees their failures; the alert does, and ends."""
    beside = [(COUNT % 'instance="lives"', good)] if good else []
    expected = [("4m", FIRING, 0), *((f"{at}m", FIRING, 1) for at in range(16, 40)), ("46m", FIRING, 0)]
    tell(tmp_path, story([*lives(range(5, 31)), *beside], expected))


@promtool
def test_what_rates_saw_hides_nothing_that_comes_after_it(tmp_path):
    """Ten minutes of outage, and then processes that end with their first sample."""
    good = COUNT % 'instance="lives"', "0+600x30 18000x10 18000+600x60"
    bad = COUNT % 'instance="lives",error_type="500"', "0x30 0+600x10 6000x60"
    expected = [("34m", FIRING, 1), ("47m", FIRING, 0), *((f"{at}m", FIRING, 1) for at in range(62, 90))]
    tell(tmp_path, story([good, bad, *lives(range(50, 90))], expected))


@promtool
def test_a_prometheus_that_is_new_tells_nobody_of_last_week(tmp_path):
    """Nor does a new label: all that processes have counted comes at once, within a minute or two."""
    series = []
    for instance, wait in (("a", "_x10 "), ("b", "_x11 ")):
        series.append((COUNT % f'instance="{instance}"', f"{wait}500000+600x60"))
        series.append((COUNT % f'instance="{instance}",error_type="500"', f"{wait}9000x60"))
    any_alert = 'count(ALERTS{alertstate="firing",slo="availability"}) or vector(0)'
    tell(tmp_path, story(series, [(f"{at}m", any_alert, 0) for at in range(10, 70)]))


@promtool
def test_few_failures_are_one_alert(tmp_path):
    """One of 121 requests, each sixth minute, is more than may fail: one alert, and then it is over."""
    failing = COUNT % 'instance="a",error_type="500"', " ".join(str(min(at // 6, 20)) for at in range(180))
    good = COUNT % 'instance="a"', "0+20x180"
    expected = [
        ("30m", FIRING, 0),
        *((f"{at}m", FIRING, 1) for at in range(70, 125)),
        *((f"{at}m", FIRING, 0) for at in range(138, 180)),
    ]
    tell(tmp_path, story([failing, good], expected))


@pytest.fixture(scope="module")
def envoy(tmp_path_factory):
    """The rules of a service that is known by queries alone."""
    folder = tmp_path_factory.mktemp("envoy")
    write_files(folder, render_tree(load_catalog(QUERIES, Settings())))
    return folder / "rules" / "envoy.yaml"


def period(name):
    return f'sum(slo:bad_ratio:period{{service="envoy",slo="{name}"}})'


@promtool
def test_the_budget_of_queries_knows_each_event_once(tmp_path, envoy):
    """As that of metrics does, where the queries only add up counters."""
    good = 'http_requests_total{job="envoy",code="200"}', "0 49000 99940x60"
    first = 'http_requests_total{job="envoy",code="500"}', "_ _ _ 50x60"
    again = 'http_requests_total{job="envoy",code="429"}', "0 4 4 4 1 3x60"
    ended = 'http_requests_total{job="envoy",code="502"}', "0 2 3 stale"
    exact = f"abs({period('answers')} - 60 / 100000) < bool 1e-12"
    tell(tmp_path, story([good, first, again, ended], [("30m", exact, 1)], envoy))


@promtool
def test_queries_are_never_no_number(tmp_path, envoy):
    """Idle, before the first error, and where a query divides by nothing."""
    good = 'http_requests_total{code="200"}', "0x20 0+600x40"
    bad = 'http_requests_total{code="500"}', "0x40 0+600x20"
    batches = [("batch_all", "0x30 100x30"), ("batch_good", "0x30 100x10 0x20")]
    share = (
        *(("15m", f"{period('share')} == bool 0", 1), ("35m", f"{period('share')} == bool 0", 1)),
        *(
            ("59m", f"{period('share')} > bool {low} and {period('share')} < bool {high}", 1)
            for low, high in [(0.1, 0.3)]
        ),
    )
    uncountable = (
        ("15m", f"{period('uncountable')} == bool 0", 1),
        ("59m", f"{period('uncountable')} > bool 0.4 and {period('uncountable')} < bool 0.7", 1),
    )
    tell(tmp_path, story([good, bad, *batches], [*share, *uncountable], envoy))


@promtool
def test_a_level_counts_its_minutes(tmp_path, envoy):
    """Those in which the query says that it is bad."""
    queue = "queue_size", "0x29 500x9 0x20"
    level = f"abs({period('level')} - 10 / 58) < bool 0.02"
    tell(tmp_path, story([queue], [("58m", level, 1)], envoy))


def test_objectives_that_went_to_sloth_come_back(tmp_path):
    """With the same queries, targets and teams; only single paces and minimum events are lost."""
    catalog = load_catalog(QUERIES, Settings())
    specification = tmp_path / "envoy.yaml"
    specification.write_text(render_tree(catalog, for_sloth=True)["sloth/envoy.yaml"], "utf-8")
    again = imported(specification)
    assert [(one.name, one.target, one.service.team) for one in again.objectives] == [
        (one.name, one.target, one.service.team) for one in catalog.objectives
    ]
    for before, after in zip(catalog.objectives, again.objectives, strict=True):
        if before.indicator.queries.kind == "bad":
            assert after.indicator == before.indicator
    twice = render_tree(again, for_sloth=True)["sloth/envoy.yaml"]
    queries = [
        [slo["sli"] for slo in yaml.safe_load(text)["slos"]]
        for text in (specification.read_text("utf-8"), twice)
    ]
    assert queries[0] == queries[1]


@pytest.mark.parametrize("document", [OBJECTIVES, EVERY_KIND], ids=lambda path: path.stem)
def test_whatever_goes_to_sloth_comes_back(tmp_path, document):
    """As queries, with the same targets."""
    catalog = load_catalog(document, Settings())
    specifications = []
    for path, text in render_tree(catalog, for_sloth=True).items():
        if path.startswith("sloth/"):
            specifications.append(tmp_path / Path(path).name)
            specifications[-1].write_text(text, "utf-8")
    drafts = load_foreign(specifications, "30d").drafts
    assert {(draft.service, draft.name, draft.target) for draft in drafts} == {
        (one.service.name, one.name, one.target) for one in catalog.objectives
    }
