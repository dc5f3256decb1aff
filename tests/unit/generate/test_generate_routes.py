"""Who is told, who is held back, and where the secrets stay."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tercet.declare.burn_rate import RESPONSES
from tercet.declare.document import load_catalog
from tercet.declare.objective import Service
from tercet.declare.settings import Settings
from tercet.generate.routes import receivers_of, render_routes

ENVIRONMENT = "deployment_environment_name"
IN_TEST = {ENVIRONMENT: "test"}
EVERY_KIND = Path(__file__).parent / "every_kind.yaml"


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(EVERY_KIND, Settings())


def routed(catalog):
    return yaml.safe_load(render_routes("# test", catalog))


def matches(matchers, labels):
    """Say whether an alert has what matchers want; a missing label is an empty one."""
    import re

    for matcher in matchers:
        label, operator, value = re.fullmatch(r'(\w+)(=~|!~|!=|=)"(.*)"', matcher).groups()
        found = (
            re.fullmatch(value, labels.get(label, "")) if "~" in operator else labels.get(label, "") == value
        )
        if bool(found) == operator.startswith("!"):
            return False
    return True


def holds_back(catalog, source, target):
    """Say, as Alertmanager does, whether one alert holds back another."""
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule.get("equal", []))
        for rule in routed(catalog)["inhibit_rules"]
    )


def alert(service, severity, **labels):
    notify = RESPONSES[severity].notify
    return {"service": service, "severity": severity, "notify": notify, ENVIRONMENT: "prod", **labels}


def test_people_are_paged_once_an_incident(catalog):
    """Grouped by service and environment; a severity that rises is no second page."""
    assert routed(catalog)["route"]["group_by"] == ["service", ENVIRONMENT]


def test_a_page_waits_until_what_holds_it_back_is_known(catalog):
    """Rules are evaluated at any moment of their minute; a ticket waits longer still."""
    waits = {route["receiver"]: route["group_wait"] for route in routed(catalog)["route"]["routes"]}
    assert (waits["page-default"], waits["ticket-default"], waits["deadman"]) == ("90s", "5m", "0s")


def test_a_page_that_outlives_its_response_time_is_escalated(catalog):
    """After 15 minutes for SEV-1, after 30 for SEV-2; tickets never are."""
    escalations = [r for r in routed(catalog)["route"]["routes"] if r["receiver"] == "escalate-default"]
    told = {(tuple(r["matchers"]), r["group_wait"], r["continue"]) for r in escalations}
    assert told == {
        (('team="payments"', 'severity="SEV-1"'), "15m", True),
        (('team="payments"', 'severity="SEV-2"'), "30m", True),
        (('severity="SEV-1"',), "15m", True),
        (('severity="SEV-2"',), "30m", True),
    }
    assert receivers_of(catalog, "payments", RESPONSES["SEV-1"]) == ["escalate-default", "page-default"]
    assert receivers_of(catalog, "payments", RESPONSES["SEV-3"]) == ["ticket-payments"]


@pytest.mark.parametrize(
    ("source", "target", "held_back"),
    [
        # In one service and environment the worst is enough.
        (alert("api", "SEV-1"), alert("api", "SEV-2"), True),
        (alert("api", "SEV-2"), alert("api", "SEV-4"), True),
        (alert("api", "SEV-3"), alert("api", "SEV-4"), True),
        (alert("api", "SEV-2"), alert("api", "SEV-1"), False),
        (alert("api", "SEV-1"), alert("api", "SEV-1", slo="other"), False),
        (alert("api", "SEV-1"), alert("api", "SEV-3", **IN_TEST), False),
        (alert("api", "SEV-1"), alert("bank", "SEV-3"), False),
        # Alerts of others, without a service, hold back nothing.
        ({"severity": "SEV-1"}, {"severity": "SEV-3"}, False),
        # Who needs a service is held back by its page, never the other way round, nor by its tickets.
        (alert("bank", "SEV-1"), alert("api", "SEV-1"), True),
        (alert("bank", "SEV-2"), alert("api", "SEV-2"), True),
        (alert("bank", "SEV-2"), alert("api", "SEV-1"), False),
        (alert("bank", "SEV-3"), alert("api", "SEV-3"), False),
        (alert("api", "SEV-1"), alert("bank", "SEV-2"), False),
        (alert("bank", "SEV-1"), alert("api", "SEV-1", **IN_TEST), False),
        (alert("bank", "SEV-2", slo="presence"), alert("api", "SEV-1", slo="paid"), True),
        (
            alert("bank", "SEV-2", slo="presence"),
            alert("api", "SEV-1", slo="paid", **IN_TEST),
            False,
        ),
        # When nothing comes from anywhere, no single service is silent.
        (
            alert("telemetry", "SEV-2", alertname="AllServicesSilent"),
            alert("api", "SEV-2", slo="presence"),
            True,
        ),
        (
            alert("telemetry", "SEV-2", alertname="AllServicesSilent"),
            alert("api", "SEV-1", slo="paid"),
            False,
        ),
        (
            alert("telemetry", "SEV-2", alertname="AllServicesSilent"),
            alert("api", "SEV-2", slo="presence", **IN_TEST),
            False,
        ),
        # Nothing holds back the dead man's switch.
        (alert("telemetry", "SEV-2"), alert("telemetry", "SEV-4", alertname="Watchdog"), False),
    ],
)
def test_what_is_worse_holds_back_what_is_less(catalog, source, target, held_back):
    """As Alertmanager judges it."""
    assert holds_back(catalog, source, target) is held_back


def test_a_service_is_held_back_by_what_it_needs_by_way_of_others(catalog):
    """However deep."""
    shop = Service("shop", "shop", depends_on=("api",))
    deep = replace(catalog, services={**catalog.services, "shop": shop})
    assert holds_back(deep, alert("bank", "SEV-1"), alert("shop", "SEV-1"))


def test_silence_holds_back_what_has_no_environment(catalog):
    """As where only `target_info` has one; not what is in another."""
    silent = alert("bank", "SEV-2", slo="presence")
    assert holds_back(catalog, silent, alert("api", "SEV-1", slo="paid") | {ENVIRONMENT: ""})


def test_silence_everywhere_holds_back_silence_anywhere(catalog):
    """Of a document that is for all environments."""
    everywhere = replace(catalog, environment="")
    silent = alert("telemetry", "SEV-2", alertname="AllServicesSilent") | {ENVIRONMENT: ""}
    assert holds_back(everywhere, silent, alert("api", "SEV-2", slo="presence"))
    assert not holds_back(everywhere, silent, alert("api", "SEV-1", slo="paid"))


def test_services_that_need_nobody_hold_back_nobody(catalog):
    """There is then nothing to say of it."""
    alone = {"bank": catalog.services["bank"]}
    assert "others need" not in render_routes("# test", replace(catalog, services=alone))


def test_the_dead_mans_switch_hears_only_of_life(catalog):
    """Each minute; that the watchdog has ended is no sign of it."""
    receivers = {receiver["name"]: receiver for receiver in routed(catalog)["receivers"]}
    assert receivers["deadman"]["webhook_configs"][0]["send_resolved"] is False
    assert receivers["page-default"]["webhook_configs"][0]["send_resolved"] is True
    (route,) = [route for route in routed(catalog)["route"]["routes"] if route["receiver"] == "deadman"]
    assert (route["group_interval"], route["repeat_interval"]) == ("1m", "30s")


def test_secrets_stay_in_files(catalog):
    """Each receiver names where Alertmanager reads its own."""
    receivers = {receiver["name"]: receiver for receiver in routed(catalog)["receivers"]}
    assert receivers["page-default"]["pagerduty_configs"][0]["routing_key_file"] == "/secrets/pagerduty"
    assert receivers["escalate-default"]["opsgenie_configs"][0]["api_key_file"] == "/secrets/opsgenie"
    assert receivers["ticket-payments"]["slack_configs"][0]["api_url_file"] == "/secrets/slack"
    assert receivers["ticket-payments"]["slack_configs"][0]["channel"] == '#it\'s "{odd}"'
    webhook = receivers["ticket-default"]["webhook_configs"][0]
    assert webhook["http_config"] == {"authorization": {"credentials_file": "/secrets/tickets"}}
