"""Who is held back while what is worse comes and goes, as the real Alertmanager judges it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from backend import ROUTES, Find, eventually_equal, running_alertmanager
from pager import Pager
from service import PATIENCE, Service

AVAILABILITY, LATENCY = "OrderServiceAvailabilityBurn1h", "OrderServiceLatencyBurn1h"
DEPENDANT, LESSER = "GatewayAvailabilityBurn1h", "OrderServiceLatencyBurn6h"
ENVIRONMENT = "deployment_environment_name"


@pytest.fixture(scope="module")
def alertmanager(find: Find, folder: Callable[[str], Path]) -> Iterator[Service]:
    """With the routes that are generated."""
    with (
        Pager().listening() as pager,
        running_alertmanager(find, folder("alertmanager"), pager.routes(folder("routes"))) as service,
    ):
        yield service


@pytest.fixture(scope="module")
def labels() -> dict[str, dict[str, str]]:
    """Of each alert that is generated, by its name."""
    files = [yaml.safe_load(path.read_text("utf-8")) for path in (ROUTES.parent / "rules").iterdir()]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return {
        rule["alert"]: {"alertname": rule["alert"], **rule["labels"]} for rule in rules if "alert" in rule
    }


@dataclass(frozen=True, slots=True)
class Incident:
    """The alerts of one environment."""

    alertmanager: Service
    labels: dict[str, dict[str, str]]
    environment: str

    def fires(self, name: str, minutes: float) -> None:
        """Say as Prometheus does that an alert fires, and how long that is so if nothing more is said."""
        now = datetime.now(UTC)
        alert = {
            "labels": {**self.labels[name], ENVIRONMENT: self.environment},
            "startsAt": (now - timedelta(hours=1)).isoformat(),
            "endsAt": (now + timedelta(minutes=minutes)).isoformat(),
        }
        url = f"{self.alertmanager.url}/api/v2/alerts"
        httpx.post(url, json=[alert], timeout=PATIENCE, trust_env=False).raise_for_status()

    def ends(self, name: str) -> None:
        """Say that an alert is over."""
        self.fires(name, minutes=0)

    def holds_back(self, name: str) -> tuple[str, list[str]]:
        """Return the state of an alert, and which others are the reason for it."""
        filters = {"filter": f'{ENVIRONMENT}="{self.environment}"'}
        there = self.alertmanager.get("/api/v2/alerts", params=filters).json()
        names = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in there}
        (status,) = [alert["status"] for alert in there if alert["labels"]["alertname"] == name]
        return status["state"], [names[reason] for reason in status["inhibitedBy"] if reason in names]


@pytest.mark.parametrize("target", [DEPENDANT, LESSER])
@pytest.mark.parametrize(("ended", "other"), [(AVAILABILITY, LATENCY), (LATENCY, AVAILABILITY)])
def test_what_still_fires_holds_back_when_another_ends(
    alertmanager: Service, labels: dict[str, dict[str, str]], ended: str, other: str, target: str
) -> None:
    """Before Prometheus says again that it fires; Alertmanager keeps only one alert for each rule."""
    incident = Incident(alertmanager, labels, environment=f"{ended} and {target}")
    incident.fires(ended, minutes=6)  # of one rule, that which ends last would be kept
    incident.fires(other, minutes=5)
    incident.fires(target, minutes=5)
    incident.ends(ended)
    eventually_equal(lambda: incident.holds_back(target), ("suppressed", [other]))
