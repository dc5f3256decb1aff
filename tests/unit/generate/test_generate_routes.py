"""Who is told, who is held back, and where the secrets stay."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from tercet.declare.burn_rate import RESPONSES
from tercet.declare.document import load_catalog
from tercet.declare.objective import Service
from tercet.declare.settings import Settings
from tercet.generate.routes import receivers_of
from tercet.generate.tree import render_tree

ENVIRONMENT = "deployment_environment_name"
IN_TEST = {ENVIRONMENT: "test"}
EVERY_KIND = Path(__file__).parent / "every_kind.yaml"
DEMO = Path(__file__).parents[3] / "configs" / "objectives.yaml"
# In C, where it is there: rules are long.
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="module")
def catalog():
    return load_catalog(EVERY_KIND, Settings())


@dataclass(frozen=True)
class Generated:
    """The routes, and the labels of each alert by its name."""

    routes: dict
    alerts: dict


def generate(catalog):
    tree = render_tree(catalog)
    files = [yaml.load(text, FastLoader) for path, text in tree.items() if path.startswith("rules/")]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    alerts = {
        rule["alert"]: {"alertname": rule["alert"], **rule["labels"]} for rule in rules if "alert" in rule
    }
    return Generated(yaml.safe_load(tree["alertmanager.yaml"]), alerts)


@pytest.fixture(scope="module")
def generated(catalog):
    return generate(catalog)


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


def holds_back(generated, source, target):
    """Say, as Alertmanager does, whether one alert holds back another."""
    source, target = (
        each if "severity" in each else generated.alerts[each["alertname"]] | each
        for each in (source, target)
    )
    return any(
        matches(rule["source_matchers"], source)
        and matches(rule["target_matchers"], target)
        and all(source.get(label, "") == target.get(label, "") for label in rule.get("equal", []))
        for rule in generated.routes["inhibit_rules"]
    )


def alert(name, **labels):
    """Fire in production; what is generated under this name has its labels."""
    return {"alertname": name, ENVIRONMENT: "prod", **labels}


def test_people_are_paged_once_an_incident(generated):
    """Grouped by service and environment; a severity that rises is no second page."""
    assert generated.routes["route"]["group_by"] == ["service", ENVIRONMENT]


def test_a_page_waits_until_what_holds_it_back_is_known(generated):
    """Rules are evaluated at any moment of their minute; a ticket waits longer still."""
    waits = {route["receiver"]: route["group_wait"] for route in generated.routes["route"]["routes"]}
    assert (waits["page-default"], waits["ticket-default"], waits["deadman"]) == ("90s", "5m", "0s")


def test_a_page_that_outlives_its_response_time_is_escalated(catalog, generated):
    """After 15 minutes for SEV-1, after 30 for SEV-2; tickets never are."""
    escalations = [r for r in generated.routes["route"]["routes"] if r["receiver"] == "escalate-default"]
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
        # In one service and environment the worst is enough; Burn1h is SEV-1, 6h SEV-2, 1d SEV-3, 3d SEV-4.
        (alert("ApiPaidBurn1h"), alert("ApiPaidBurn6h"), True),
        (alert("ApiPaidBurn1h"), alert("ApiPeakBurn6h"), True),
        (alert("ApiPaidFailing"), alert("ApiDiskBurn6h"), True),
        (alert("ApiPaidBurn6h"), alert("ApiDiskBurn3d"), True),
        (alert("ApiPaidBlind"), alert("ApiDiskBurn3d"), True),
        (alert("ApiSilent"), alert("ApiPaidBlind"), True),
        (alert("ApiPaidBurn6h"), alert("ApiPaidBurn1h"), False),
        (alert("ApiPaidBurn1h"), alert("ApiDiskBurn1h"), False),
        (alert("ApiPaidBurn1h"), alert("ApiPaidBurn1d", **IN_TEST), False),
        (alert("ApiPaidBurn1h"), alert("BankCallsBurn1d"), False),
        # Of telemetry that is lost, users notice nothing.
        (alert("TelemetryDropped", service="api"), alert("ApiPaidBurn3d"), False),
        # Alerts of others are held back where their labels say so, and hold back nothing.
        (alert("ApiPaidBurn1h"), alert("Theirs", service="api", severity="SEV-2"), True),
        (alert("BankCallsBurn1h"), alert("Theirs", service="api", severity="SEV-1"), True),
        (alert("ApiPaidBurn1h"), alert("Theirs", severity="SEV-2"), False),
        (alert("Theirs", service="api", severity="SEV-1", slo="paid"), alert("ApiPaidBurn6h"), False),
        (alert("Theirs", service="bank", severity="SEV-1"), alert("ApiPaidBurn1h"), False),
        ({"severity": "SEV-1"}, {"severity": "SEV-3"}, False),
        # Who needs a service is held back by its page, never the other way round, nor by its tickets.
        (alert("BankCallsBurn1h"), alert("ApiPaidBurn1h"), True),
        (alert("BankCallsBurn6h"), alert("ApiPaidBurn6h"), True),
        (alert("BankCallsBurn6h"), alert("ApiPaidBurn1h"), False),
        (alert("BankCallsBurn1d"), alert("ApiPaidBurn1d"), False),
        (alert("ApiPaidBurn1h"), alert("BankCallsBurn6h"), False),
        (alert("BankCallsBurn1h"), alert("ApiPaidBurn1h", **IN_TEST), False),
        (alert("BankSilent"), alert("ApiPaidBurn1h"), True),
        (alert("BankSilent"), alert("ApiSilent"), True),
        (alert("BankSilent"), alert("ApiPaidBurn1h", **IN_TEST), False),
        # When nothing comes from anywhere, no single service is silent.
        (alert("AllServicesSilent"), alert("ApiSilent"), True),
        (alert("AllServicesSilent"), alert("ApiPaidBurn1h"), False),
        (alert("AllServicesSilent"), alert("ApiSilent", **IN_TEST), False),
        # Nothing holds back the dead man's switch.
        (alert("ApiPaidBurn1h", service="telemetry"), alert("Watchdog"), False),
    ],
)
def test_what_is_worse_holds_back_what_is_less(generated, source, target, held_back):
    """As Alertmanager judges it."""
    assert holds_back(generated, source, target) is held_back


@pytest.mark.parametrize("document", [EVERY_KIND, DEMO], ids=lambda path: path.stem)
def test_no_rule_takes_two_alerts_of_one_service_for_a_reason(document):
    """Alertmanager keeps one of them for each rule, and forgets the others when that ends."""
    generated, reasons = generate(load_catalog(document, Settings())), defaultdict(list)
    for position, rule in enumerate(generated.routes["inhibit_rules"]):
        for name, labels in generated.alerts.items():
            if matches(rule["source_matchers"], labels):
                equal = tuple(labels.get(label) for label in rule.get("equal", []))
                reasons[position, equal].append(name)
    assert reasons
    assert [names for names in reasons.values() if len(names) > 1] == []


def test_the_rules_are_as_many_as_the_kinds_of_alerts_in_a_service(catalog):
    """However many services promise the same."""
    api = catalog.services["api"]
    many = {name: replace(api, name=name, depends_on=()) for name in ("api", "one", "two", "three")}
    promises = [promise for promise in catalog.objectives if promise.service == api]
    alike = [replace(promise, service=service) for service in many.values() for promise in promises]
    few = replace(catalog, services={"api": many["api"]}, objectives=tuple(alike[: len(promises)]))
    all_of_them = replace(catalog, services=many, objectives=tuple(alike))
    assert generate(all_of_them).routes["inhibit_rules"] == generate(few).routes["inhibit_rules"]


def test_a_service_is_held_back_by_what_it_needs_by_way_of_others(catalog):
    """However deep."""
    shop = Service("shop", "shop", depends_on=("api",))
    deep = replace(catalog, services={**catalog.services, "shop": shop})
    assert holds_back(generate(deep), alert("BankCallsBurn1h"), alert("ShopSilent"))


def test_silence_holds_back_what_has_no_environment(generated):
    """As where only `target_info` has one; not what is in another."""
    assert holds_back(generated, alert("BankSilent"), alert("ApiPaidBurn1h", **{ENVIRONMENT: ""}))


def test_silence_everywhere_holds_back_silence_anywhere(catalog):
    """Of a document that is for all environments."""
    everywhere = generate(replace(catalog, environment=""))
    silent = alert("AllServicesSilent", **{ENVIRONMENT: ""})
    assert holds_back(everywhere, silent, alert("ApiSilent"))
    assert not holds_back(everywhere, silent, alert("ApiPaidBurn1h"))


def test_services_that_need_nobody_hold_back_nobody(catalog):
    """There is then nothing to say of it."""
    bank = catalog.services["bank"]
    promises = tuple(promise for promise in catalog.objectives if promise.service == bank)
    alone = replace(catalog, services={"bank": bank}, objectives=promises)
    assert "others need" not in render_tree(alone)["alertmanager.yaml"]


def test_the_dead_mans_switch_hears_only_of_life(generated):
    """Each minute; that the watchdog has ended is no sign of it."""
    receivers = {receiver["name"]: receiver for receiver in generated.routes["receivers"]}
    assert receivers["deadman"]["webhook_configs"][0]["send_resolved"] is False
    assert receivers["page-default"]["webhook_configs"][0]["send_resolved"] is True
    (route,) = [route for route in generated.routes["route"]["routes"] if route["receiver"] == "deadman"]
    assert (route["group_interval"], route["repeat_interval"]) == ("1m", "30s")


def test_secrets_stay_in_files(generated):
    """Each receiver names where Alertmanager reads its own."""
    receivers = {receiver["name"]: receiver for receiver in generated.routes["receivers"]}
    assert receivers["page-default"]["pagerduty_configs"][0]["routing_key_file"] == "/secrets/pagerduty"
    assert receivers["escalate-default"]["opsgenie_configs"][0]["api_key_file"] == "/secrets/opsgenie"
    assert receivers["ticket-payments"]["slack_configs"][0]["api_url_file"] == "/secrets/slack"
    assert receivers["ticket-payments"]["slack_configs"][0]["channel"] == '#it\'s "{odd}"'
    webhook = receivers["ticket-default"]["webhook_configs"][0]
    assert webhook["http_config"] == {"authorization": {"credentials_file": "/secrets/tickets"}}
