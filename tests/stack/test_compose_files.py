"""The compose files, as the reference loader of the Compose Specification reads them."""

import json
import subprocess

from backend import ROOT


def load(find, *files):
    """Return the services that an engine would start."""
    command = [find("compose-go"), "-format=json", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["services"]


def test_the_reference_backend_is_what_an_engine_would_start(find):
    """By the schema, filled in and merged with what it shares."""
    services = load(find, "docker-compose.yml")
    assert services.keys() == {
        *("collector", "collector-storage", "jaeger", "prometheus", "alertmanager", "loki", "grafana", "demo")
    }


def test_the_larger_one_takes_the_place_of_its_collector(find):
    """Merged over it: an agent, two gateways, and Prometheus with another file in the same place."""
    services = load(find, "docker-compose.yml", "configs/scale/docker-compose.yml")
    assert services["collector"]["command"] == ["--config=/etc/otelcol/agent.yaml"]
    assert services["gateway"]["deploy"]["replicas"] == 2
    (source,) = (
        volume["source"]
        for volume in services["prometheus"]["volumes"]
        if volume["target"] == "/etc/prometheus/prometheus.yaml"
    )
    assert source == str(ROOT / "configs" / "scale" / "prometheus.yaml")
