"""The reference backend as files: that they fit each other, and expose nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tercet.declare.document import load_catalog
from tercet.declare.metric import Metric
from tercet.declare.names import label_name
from tercet.declare.settings import Settings
from tercet.generate.names import series
from tercet.generate.pages import CATALOG

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DESTINATIONS = sorted((CONFIGS / "destinations").glob("*.yaml"))
COMPOSE = [ROOT / "docker-compose.yml", CONFIGS / "scale" / "docker-compose.yml"]
DATA_SOURCES = CONFIGS / "grafana" / "provisioning" / "datasources" / "tercet.yaml"
DASHBOARDS = CONFIGS / "grafana" / "provisioning" / "dashboards" / "tercet.yaml"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


BASE, GROWN = (load(path)["services"] for path in COMPOSE)
# The second file adds to the first: what it says of a service of that one, it says on top.
ALL = BASE | {name: BASE.get(name, {}) | service for name, service in GROWN.items()}
SERVICES = BASE | {f"scale/{name}": ALL[name] for name in GROWN}


def collect(node: Any, key: str) -> list[Any]:
    """List what stands under a key, anywhere in a document."""
    if isinstance(node, dict):
        here = [node[key]] if key in node else []
        return here + [found for value in node.values() for found in collect(value, key)]
    if isinstance(node, list):
        return [found for value in node for found in collect(value, key)]
    return []


MANIFEST_IMAGES = [
    image
    for path in (CONFIGS / "scale" / "kubernetes").glob("*.yaml")
    for manifest in yaml.safe_load_all(path.read_text("utf-8"))
    for image in collect(manifest, "image")
]


def mounts(service: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Split mounts into what is mounted, where, and how."""
    parts = [
        volume.rpartition(":") if volume.endswith(":ro") else (volume, "", "")
        for volume in service.get("volumes", [])
    ]
    return [(*where.rsplit(":", 1), how) for where, _, how in parts]


def variables(path: Path) -> set[str]:
    """Name the variables that a file is filled in from."""
    return set(re.findall(r"(?<!\$)\$\{(?:env:)?([A-Z_]+)", path.read_text("utf-8")))


# The compose files.


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_right_that_it_does_not_need(name):
    """No capability but the one to give a new folder away, no way to gain one, and bounded memory."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) in ([], ["CHOWN"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_only(name):
    """On loopback, whatever it is."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_each_image_is_pinned():
    """To a version of three numbers; what is built here is built of pinned images."""
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    stages = set(re.findall(r" AS (\S+)", dockerfile))
    images = {
        service["image"] for service in SERVICES.values() if "image" in service and "build" not in service
    }
    images |= set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) - stages
    images |= set(MANIFEST_IMAGES)
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+(-slim)?$", image)] == []
    assert re.findall(r"^USER (\S+)", dockerfile, re.MULTILINE) == ["10001", "10001"]


def test_the_collector_is_the_same_wherever_it_runs():
    """One version in containers and in Kubernetes."""
    images = {service["image"] for service in SERVICES.values() if "image" in service}
    images |= set(MANIFEST_IMAGES)
    assert len({image for image in images if "opentelemetry-collector" in image}) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_and_cannot_be_written(name):
    """Files of this repository; what a container writes goes to a volume that has a name."""
    named = {volume for path in COMPOSE for volume in load(path)["volumes"]}
    for source, _, how in mounts(SERVICES[name]):
        if source in named:
            assert not how
            continue
        here = re.sub(r"\$\{\w+:-(.+)\}", r"\1", source)
        assert here.startswith("./"), source
        assert (ROOT / here).exists(), source
        assert how == "ro", source


def test_jaeger_forgets_the_oldest_before_it_takes_no_more():
    """It forgets by the number of traces and refuses by its memory: an order has 10 spans of 2,800 bytes."""
    jaeger = load(CONFIGS / "jaeger.yaml")
    most = jaeger["extensions"]["jaeger_storage"]["backends"]["memory"]["memory"]["max_traces"]
    limiter = jaeger["processors"]["memory_limiter"]
    refuses_at = (limiter["limit_percentage"] - limiter["spike_limit_percentage"]) / 100
    assert BASE["jaeger"]["mem_limit"] == "1g"
    assert most * 10 * 2_800 < refuses_at * 2**30


FILLED_IN = [
    ("collector", [CONFIGS / "collector.yaml"]),
    ("jaeger", [CONFIGS / "jaeger.yaml"]),
    ("loki", [CONFIGS / "loki.yaml"]),
    ("grafana", [DATA_SOURCES, DASHBOARDS]),
]


@pytest.mark.parametrize(("name", "paths"), FILLED_IN, ids=lambda part: part if isinstance(part, str) else "")
def test_a_container_is_told_what_its_files_ask_for(name, paths):
    """Each address that a file looks up is given; nothing is given that no file looks up."""
    asked = {variable for path in paths for variable in variables(path)}
    addresses = {variable for variable in asked if variable.endswith(("_HOST", "_ENDPOINT", "_URL"))}
    told = {
        variable for variable in BASE[name]["environment"] if not variable.startswith(("GF_", "GOMEMLIMIT"))
    }
    assert addresses <= told <= asked


def test_what_is_told_of_another_container_is_its_name():
    """Whoever is named in an address is a service of the file."""
    told = [str(value) for service in BASE.values() for value in service.get("environment", {}).values()]
    named = {name for text in told for name in re.findall(r"(?:^|//)([a-z]+):\d+", text)}
    assert named == {"jaeger", "prometheus", "loki", "alertmanager"}
    assert named <= set(BASE)


def test_a_container_starts_after_those_that_it_sends_to():
    """Once they are healthy, where they can tell; once they are done, where they do something and end."""
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": readiness(ALL[other])}, (name, other)


def readiness(service: dict[str, Any]) -> str:
    """Say when a service may be relied on."""
    if "restart" not in service:
        return "service_completed_successfully"
    return "service_healthy" if "healthcheck" in service else "service_started"


def test_prometheus_keeps_what_objectives_look_back_at():
    """For longer than their longest period, also where its record goes elsewhere."""
    objectives = load_catalog(CONFIGS / "objectives.yaml", Settings()).objectives
    longest = max(objective.period.days for objective in objectives)
    for path in (CONFIGS / "prometheus.yaml", CONFIGS / "scale" / "prometheus.yaml"):
        assert int(load(path)["storage"]["tsdb"]["retention"]["time"].removesuffix("d")) > longest


def test_what_grows_says_the_same_as_what_it_grew_from():
    """Prometheus with remote write is the other one, and two things more."""
    grown = load(CONFIGS / "scale" / "prometheus.yaml")
    assert [write["name"] for write in grown.pop("remote_write")] == ["long_term"]
    assert grown["global"].pop("external_labels") == {"cluster": "${CLUSTER}"}
    assert grown == load(CONFIGS / "prometheus.yaml")


# Grafana's provisioning.


def test_each_link_between_data_sources_leads_to_one():
    """An exemplar to its trace, a trace to logs and metrics, a log line to its trace, rules to alerts."""
    sources = load(DATA_SOURCES)["datasources"]
    links = {
        (source["uid"], uid)
        for source in sources
        for key in ("datasourceUid", "alertmanagerUid")
        for uid in collect(source["jsonData"], key)
    }
    assert links == {
        ("prometheus", "jaeger"),
        ("prometheus", "alertmanager"),
        ("jaeger", "loki"),
        ("jaeger", "prometheus"),
        ("loki", "jaeger"),
    }
    assert {uid for link in links for uid in link} <= {source["uid"] for source in sources}


def test_a_trace_asks_for_metrics_that_there_are():
    """By the names of the page of metrics, and by a label that Prometheus promotes."""
    (jaeger,) = (source for source in load(DATA_SOURCES)["datasources"] if source["uid"] == "jaeger")
    to_metrics = jaeger["jsonData"]["tracesToMetrics"]
    asked = {name for query in to_metrics["queries"] for name in re.findall(r"\w+_seconds", query["query"])}
    assert asked == {"http_server_request_duration_seconds"}
    assert f"`{asked.pop()}`" in (ROOT / "docs" / "metrics.md").read_text("utf-8")
    promoted = load(CONFIGS / "prometheus.yaml")["otlp"]["promote_resource_attributes"]
    assert [tag["key"] for tag in to_metrics["tags"]] == ["service.name"]
    assert "service.name" in promoted


def test_a_dollar_of_grafana_is_not_one_of_the_environment():
    """What Grafana fills in later is written with two, or it would be looked up now and be gone."""
    texts = "\n".join(path.read_text("utf-8") for path in (DATA_SOURCES, DASHBOARDS))
    values = re.sub(r"^\s*#.*$", "", texts, flags=re.MULTILINE)
    assert re.findall(r"(?<!\$)\$(?!\$|\{[A-Z_]+\})\S*", values) == []


def test_grafana_finds_the_dashboards_that_are_generated():
    """Where its provider looks is within what is mounted of configs/generated."""
    (provider,) = load(DASHBOARDS)["providers"]
    place = provider["options"]["path"].replace("${DASHBOARDS}", BASE["grafana"]["environment"]["DASHBOARDS"])
    assert ("./configs/generated", place.rpartition("/")[0], "ro") in mounts(BASE["grafana"])
    assert place.endswith("/dashboards")


def test_nothing_of_grafana_comes_from_elsewhere_and_nobody_signs_in():
    """No plugin is downloaded, nobody is called, and the account that everybody knows does not exist."""
    told = BASE["grafana"]["environment"]
    assert told["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert told["GF_ANALYTICS_REPORTING_ENABLED"] == told["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert told["GF_AUTH_BASIC_ENABLED"] == "false"


# Destinations.


@pytest.mark.parametrize("path", DESTINATIONS, ids=lambda path: path.stem)
def test_a_destination_adds_to_the_collector_and_replaces_nothing(path):
    """Names of its own only, joined to what leaves the collector, so that any of them go together."""
    fragment, base = load(path), load(CONFIGS / "collector.yaml")
    pipelines = fragment["service"]["pipelines"]
    assert fragment["service"].keys() == {"pipelines"}
    for kind in ("receivers", "processors", "exporters"):
        assert not fragment.get(kind, {}).keys() & base[kind].keys()
    assert not pipelines.keys() & base["service"]["pipelines"].keys()
    for pipeline in pipelines.values():
        assert (pipeline["receivers"] == ["forward/out"]) != (pipeline["exporters"] == ["forward/out"])


def test_no_destination_takes_the_name_of_another():
    """Of two, the Collector would silently run the last."""
    names = [
        (kind, name)
        for fragment in map(load, DESTINATIONS)
        for kind, parts in (fragment | fragment["service"]).items()
        if kind != "service"
        for name in parts
    ]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("path", DESTINATIONS, ids=lambda path: path.stem)
def test_a_destination_has_its_secrets_from_the_environment(path):
    """No key, token or password stands in a file."""
    for key in ("key", "api_key", "token", "password", "Authorization"):
        for value in collect(load(path), key):
            assert isinstance(value, dict) or re.fullmatch(r"\$\{env:[A-Z_]+(:-)?\}", value), key


@pytest.mark.parametrize("path", DESTINATIONS, ids=lambda path: path.stem)
def test_the_docs_name_each_destination_and_what_it_is_told(path):
    """Its file and its variables; those of the collector itself are told elsewhere."""
    page = (ROOT / "docs" / "backends.md").read_text("utf-8")
    assert f"`{path.name}`" in page
    assert [
        name for name in variables(path) if f"`{name}`" not in page and not name.startswith("COLLECTOR_")
    ] == []


# What is dropped on the way.

EDGE = load(CONFIGS / "scale" / "agent.yaml")["processors"]
SENT = {metric.name: metric for metrics in CATALOG for metric in metrics}
READ = "\n".join(
    path.read_text("utf-8")
    for folder in ("rules", "dashboards")
    for path in (CONFIGS / "generated" / folder).glob("*.*")
)


@pytest.mark.parametrize("condition", EDGE["filter/unused"]["metrics"]["metric"])
def test_no_rule_and_no_dashboard_reads_what_the_edge_drops(condition):
    """And what it drops is sent."""
    (pattern,) = re.findall(r'^IsMatch\(metric\.name, "(\^.+\$)"\)$', condition)
    dropped = [metric for name, metric in SENT.items() if re.search(pattern.replace(r"\\", "\\"), name)]
    assert dropped
    assert [metric.name for metric in dropped if asked_of(metric)] == []


@pytest.mark.parametrize(
    "statement",
    EDGE["transform/aggregate"]["metric_statements"][0]["statements"],
    ids=lambda text: text[-40:],
)
def test_no_rule_and_no_dashboard_asks_for_what_the_edge_sums_over(statement):
    """Of the metric that it sums, it keeps some of the attributes, and each label that is asked for."""
    ((kept, name),) = re.findall(
        r'^aggregate_on_attributes\("sum", (\[.+\])\) where metric\.name == "(.+)"$', statement
    )
    gone = set(SENT[name].attributes) - set(yaml.safe_load(kept))
    assert gone
    assert set(yaml.safe_load(kept)) < set(SENT[name].attributes)
    asked = asked_of(SENT[name])
    assert [label for label in map(label_name, gone) if any(label in line for line in asked)] == []


def asked_of(metric: Metric) -> list[str]:
    """Return what follows where a rule or a dashboard reads a metric."""
    return re.findall(rf"\b{series(metric)}(?:_bucket|_sum|_count)?\b[^\n]*", READ)
