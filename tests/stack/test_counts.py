"""What Prometheus counts is what was asked for, whichever way it came there, and under the same names."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from backend import Backend, Collector, Find, Prometheus, eventually, eventually_equal, running_collector
from fleet import APPS, Receipt, Start, running_fleet, service_environment
from service import LOOPBACK, PATIENCE, Service, free_port, started

from tercet.demo.catalog import AUTH, GATEWAY, NOTIFICATION, ORDERS, PAYMENTS

RUN = [sys.executable, "-m", "tercet.cli.main", "run", "--", sys.executable, "-m", "uvicorn"]
# Each as often as no other, so that no mistake is made up for by another one.
ASKED = {"tea": 31, "moon": 7, "glass": 4}
ANSWERS = {"tea": "200", "moon": "404", "glass": "500"}
COUNTED = {(ANSWERS[thing], float(times)) for thing, times in ASKED.items()}
SCRAPED, PUSHED, COLLECTED = "shop", "shop-pushed", "shop-collected"
# What a scrape adds of itself.
_OF_SCRAPES = ("up", "scrape_")


@pytest.fixture(scope="module")
def shops(backend: Backend) -> Iterator[Prometheus]:
    """Three shops with the same customers, each with its own way to Prometheus."""
    port = free_port()
    ways = {
        SCRAPED: {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)},
        PUSHED: {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{backend.prometheus.otlp}/v1/metrics"},
        COLLECTED: {},
    }
    with ExitStack() as running:
        for name, settings in ways.items():
            env = service_environment(name, backend.collector.http, **settings)
            shop = running.enter_context(started([*RUN, "shop:app", "--port", "{port}"], env, APPS))
            shop.wait_until_it_accepts()
            ask(shop)
        backend.prometheus.look_at({"host.docker.internal:9464": f"{LOOPBACK}:{port}"})
        yield backend.prometheus


def ask(shop: Service) -> None:
    # A connection is not kept: after an error, the server ends it.
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=shop.url, timeout=PATIENCE, trust_env=False, limits=limits) as client:
        got = Counter(
            client.post(f"/things/{thing}").status_code for thing in ASKED for _ in range(ASKED[thing])
        )
    assert {(str(status), times) for status, times in got.items()} == COUNTED


@pytest.mark.parametrize("job", [SCRAPED, PUSHED, COLLECTED])
def test_requests_are_counted_exactly(shops: Prometheus, job: str) -> None:
    """By route and status, as the customers have counted them."""
    requests = f'http_server_request_duration_seconds_count{{job="{job}",http_route="/things/{{thing}}"}}'
    eventually_equal(
        lambda: {
            (each["metric"]["http_response_status_code"], float(each["value"][1]))
            for each in shops.query(requests)
        },
        COUNTED,
    )


@pytest.mark.parametrize("job", [SCRAPED, PUSHED, COLLECTED])
def test_metrics_of_the_application_are_counted_exactly(shops: Prometheus, job: str) -> None:
    """One of each kind that can be declared."""
    expected = {
        "shop_sold_total": ASKED["tea"],
        "shop_stock": 7,
        "shop_baskets": sum(ASKED.values()),
        "shop_weight_kg_count": ASKED["tea"],
        "shop_weight_kg_sum": 2.5 * ASKED["tea"],
    }
    eventually_equal(lambda: {name: shops.number(f'{name}{{job="{job}"}}') for name in expected}, expected)


def test_the_names_are_the_same_on_each_way(shops: Prometheus) -> None:
    """So a rule or a panel does not ask how a metric has come."""
    by_rule = "http_server_request_duration_seconds_bucket"
    ways = eventually(
        lambda: [_names(shops, job) for job in (SCRAPED, PUSHED, COLLECTED)],
        lambda ways: by_rule in ways[0] and ways[0] == ways[1] == ways[2],
    )
    assert by_rule in ways[0]


def _names(prometheus: Prometheus, job: str) -> set[str]:
    series = prometheus.query(f'count by (__name__) ({{job="{job}"}})')
    names = {each["metric"]["__name__"] for each in series}
    return {name for name in names if not name.startswith(_OF_SCRAPES)}


@pytest.fixture(scope="module")
def sampling(backend: Backend, find: Find, folder: Callable[[str], Path]) -> Iterator[Collector]:
    """A collector that keeps only the traces that failed or were slow."""
    settings = {**backend.destinations, "COLLECTOR_TRACES_PERCENT": "0"}
    with running_collector(find, folder("sampling"), settings) as collector:
        yield collector


def test_metrics_of_spans_count_what_sampling_drops(
    backend: Backend, sampling: Collector, folder: Callable[[str], Path]
) -> None:
    """Both views agree on each service; only the traces that failed or were slow are kept."""
    namespace = {"OTEL_RESOURCE_ATTRIBUTES": "service.namespace=sampled"}
    with running_fleet(sampling.http, folder("sampled"), **namespace) as fleet:
        good = fleet.orders(30)
        fleet.services[PAYMENTS].stop()
        failed = fleet.orders(4)
        for service in fleet.services.values():
            service.stop()
    assert [receipt.status for receipt in (*good, *failed)] == [201] * 30 + [502] * 4

    expected = {GATEWAY: 34, AUTH: 34, ORDERS: 34, PAYMENTS: 30, NOTIFICATION: 30}
    red = 'sum by (service_name) (http_server_request_duration_seconds_count{service_namespace="sampled"})'
    spans = (
        "sum by (service_name) (traces_span_metrics_calls_total"
        '{service_namespace="sampled",span_kind="SPAN_KIND_SERVER"})'
    )
    for expression in (red, spans):
        eventually_equal(lambda asked=expression: _by_service(backend.prometheus, asked), expected)

    decided = eventually(lambda: _decided(sampling), lambda decided: sum(decided.values()) == 34)
    kept = eventually(lambda: _kept(backend, [*good, *failed]), lambda kept: len(kept) == decided["true"])
    slow = {trace_id for trace_id, seconds in kept.items() if seconds >= 0.5}
    assert kept.keys() == slow | {receipt.trace_id for receipt in failed}


def test_who_only_sent_spans_is_not_taken_for_one_that_reports(backend: Backend, start: Start) -> None:
    """Or a service that is gone would seem to be there for as long as its spans are counted."""
    spans = start("spans.py", service_environment("only-spans", backend.collector.http))
    spans.tell("wrap parcel")
    counted = 'sum by (service_name) (traces_span_metrics_calls_total{service_name="only-spans"})'
    eventually_equal(lambda: _by_service(backend.prometheus, counted), {"only-spans": 1})
    assert backend.prometheus.query('target_info{job="only-spans"}') == []


def _by_service(prometheus: Prometheus, expression: str) -> dict[str, float]:
    return {each["metric"]["service_name"]: float(each["value"][1]) for each in prometheus.query(expression)}


def _decided(collector: Collector) -> Mapping[str, float]:
    said = collector.own_metrics("otelcol_processor_tail_sampling_global_count_traces_sampled")
    return {"true": 0, "false": 0} | {labels["sampled"]: value for labels, value in said}


def _kept(backend: Backend, receipts: list[Receipt]) -> dict[str, float]:
    traces = {receipt.trace_id: backend.jaeger.trace(receipt.trace_id) for receipt in receipts}
    return {trace_id: max(span.seconds for span in spans) for trace_id, spans in traces.items() if spans}
