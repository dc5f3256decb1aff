"""Each configuration file, as the program that reads it judges it."""

import subprocess
from pathlib import Path

from backend import CONFIGS, Backend, Find, eventually


def judged(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_collector_takes_its_configuration(find: Find) -> None:
    """With the defaults of a bare machine."""
    judged(find("otelcol"), "validate", f"--config={CONFIGS / 'collector.yaml'}")


def test_prometheus_takes_its_configuration_and_its_rules(find: Find) -> None:
    """Without a complaint of its linter; what it names is there."""
    said = judged(
        find("promtool"), "check", "config", "--lint=all", "--lint-fatal", str(CONFIGS / "prometheus.yaml")
    )
    rules = len(list((CONFIGS / "generated" / "rules").iterdir()))
    assert f"SUCCESS: {CONFIGS / 'prometheus.yaml'} is valid prometheus config file syntax" in said
    assert f"{rules} rule files found" in said


def test_alertmanager_takes_its_configuration(find: Find) -> None:
    """All receivers and inhibitions are well formed."""
    judged(find("amtool"), "check-config", str(CONFIGS / "generated" / "alertmanager.yaml"))


def test_all_of_the_backend_is_scraped(backend: Backend) -> None:
    """The running programs have taken their files; Prometheus finds each where its targets are."""
    expected = dict.fromkeys(("alertmanager", "collector", "jaeger", "prometheus"), "1")
    up = eventually(
        lambda: {each["metric"]["job"]: each["value"][1] for each in backend.prometheus.query("up")},
        lambda up: up.keys() >= expected.keys() and "0" not in up.values(),
    )
    assert {job: up[job] for job in expected} == expected


def test_samples_are_kept_longer_than_an_objective_looks_back(backend: Backend) -> None:
    """Thirty days, or a month of thirty-one, and the last evaluation before."""
    flags = backend.prometheus.service.get("/api/v1/status/runtimeinfo").json()["data"]
    assert flags["storageRetention"] == "45d"


def test_alerts_reach_alertmanager(backend: Backend) -> None:
    """The one that always fires, by the rules and the routes that are generated."""
    found = eventually(
        lambda: backend.alertmanager.get("/api/v2/alerts").json(),
        lambda alerts: any(alert["labels"]["alertname"] == "Watchdog" for alert in alerts),
        seconds=180,
    )
    (watchdog,) = [alert for alert in found if alert["labels"]["alertname"] == "Watchdog"]
    assert [receiver["name"] for receiver in watchdog["receivers"]] == ["deadman"]
