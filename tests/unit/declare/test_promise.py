"""What code promises: the keys and rules of the document, told with the line of the code."""

import sys

import pytest

from tercet.declare.document import parse_catalog
from tercet.declare.entry import parse_promise
from tercet.declare.metric import HTTP_SERVER_DURATION, Metric
from tercet.declare.objective import counted_events
from tercet.declare.outline import say
from tercet.declare.settings import Settings
from tercet.errors import ObjectivesError, SetupError

AROUND = """\
team: platform
period: 30d
links: {grafana: "https://grafana.example.com/", runbooks: "https://runbooks.example.com"}
contacts: {default: {page: {webhook: {url: "https://a.example.com"}}, ticket: {webhook: {url: "https://b.example.com"}}}}
deadman: {webhook: {url: "https://deadman.example.com"}}
services:
  orders: {runbook: {impact: Nobody can order., causes: [The database.], actions: [Look.]}}
  bank: {runbook: {impact: Nobody can pay., causes: [The bank.], actions: [Call.]}}
"""
CHECKOUT = {"name": "checkout", "kind": "availability", "target": "99.95%"}
FAST = {"name": "fast", "kind": "latency", "target": 0.99, "below": "300ms"}
WAITED = Metric("waited", "histogram", "s", "Waited.", buckets=(1.0, 5.0))


def promised(*declared, line=14, **content):
    said = say(content, "shop/app.py", line, f"Objective({content.get('name')!r})")
    return parse_promise(said, declared)


def merged(*promises, document=AROUND, declared=(), **settings):
    given = Settings(**{"service_name": "orders"} | settings)
    return parse_catalog(document, "objectives.yaml", given, declared, promises)


def listed(*objectives):
    return AROUND + "objectives:\n" + "".join(f"  - {objective}\n" for objective in objectives)


def refusal(act, *arguments, **options):
    with pytest.raises(ObjectivesError) as refused:
        act(*arguments, **options)
    return str(refused.value)


def test_code_promises_what_a_document_would():
    """The same objective, but for where its events are counted; the document adds who answers, and how."""
    here = listed("{service: orders, name: checkout, kind: availability, target: 99.95%, counted: source}")
    (in_code,) = merged(promised(**CHECKOUT)).objectives
    assert (in_code,) == merged(document=here).objectives
    assert in_code.advice.impact == "Nobody can order."
    assert in_code.source == counted_events("checkout")


def test_the_service_is_said_or_is_that_of_the_process():
    """Or nobody knows whose promise it is."""
    (other,) = merged(promised(**CHECKOUT, service="bank")).objectives
    assert other.service.name == "bank"
    told = refusal(merged, promised(**CHECKOUT), service_name="")
    assert told == (
        "shop/app.py:14: Objective('checkout').service must be given, got nothing. "
        "Write service=, or set OTEL_SERVICE_NAME as where the code runs."
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": 99.95}, ".target must be below 1, got 99.95. Write 0.9995 or 99.95%."),
        (
            {"kind": "availibility"},
            ".kind must be one of availability, latency, throughput, level, query, got 'availibility'.",
        ),
        ({"target": object}, ".target must be a share below 1, or a percentage, got <class 'object'>."),
        (
            {"where": {"http.rout": "/"}},
            ".where.http.rout must be one of http.request.method, url.scheme, http.route, ",
        ),
        (
            {"agreement": "99.99%"},
            ".agreement must be looser than the target of 99.95 %, got '99.99%'. What customers",
        ),
        ({"metric": "nothing"}, ".metric must be one of http.server.request.duration, "),
        ({"below": 0.5}, ".below must be left out of an objective of kind availability, got 0.5. Remove it."),
        (
            {"kind": "throughput", "at_least": 1, "counted": "source", "target": 0.99},
            ".counted must be metric where minutes count, got 'source'. Remove it.",
        ),
        (
            {"kind": "latency", "metric": "waited", "below": 1, "counted": "source", "target": 0.99},
            ".counted must be metric for waited, which is not counted at the source, got 'source'. Remove",
        ),
        (
            {"counted": "calls", "where": {"http.route": "/"}},
            ".where must be left out where calls count, got a mapping. Remove it.",
        ),
        (
            {"counted": "calls", "kind": "latency"},
            ".kind must be availability where calls count, got 'latency'. The code says what is bad.",
        ),
        ({"runbook": {"impact": "All."}}, ".runbook.causes must be given, got nothing. List what it may be."),
    ],
)
def test_a_mistake_is_told_with_the_line_of_the_code(changes, told):
    """When the code is imported, in the words of the document."""
    message = refusal(promised, WAITED, **CHECKOUT | changes)
    assert message.startswith(f"shop/app.py:14: Objective('checkout'){told}")


def test_a_service_must_be_one_of_the_document():
    """Which is where its team is."""
    told = refusal(merged, promised(**CHECKOUT), service_name="ordres")
    assert told == (
        "shop/app.py:14: Objective('checkout').service must be one of orders, bank, got 'ordres'. "
        "Did you mean orders?"
    )


def test_an_objective_in_both_is_refused():
    """With both places named."""
    document = listed("{service: orders, name: checkout, kind: throughput, target: 99%, at_least: 1}")
    assert refusal(merged, promised(**CHECKOUT), document=document) == (
        "shop/app.py:14: Objective('checkout').name must be unique in orders, which has it at "
        "objectives.yaml:10, got 'checkout'. Give it another name."
    )
    assert len(merged(promised(**CHECKOUT, service="bank"), document=document).objectives) == 2


def test_a_document_needs_no_objectives_where_code_has_some():
    """And some where it has none."""
    assert "objectives must be given, got nothing. Write one, or name the code" in refusal(merged)


YAML_FAST = "{service: %s, name: also, kind: latency, below: 300ms, target: 99%%}"


def test_a_threshold_of_code_is_a_boundary_for_documents_too():
    """In the service that has it, and in no other."""
    fast = promised(**FAST, symptoms=[{"above": "2s", "severity": "SEV-2"}])
    also, in_code = merged(fast, document=listed(YAML_FAST % "orders")).objectives
    assert {0.3, 2.0} <= set(also.indicator.metric.buckets)
    assert in_code.indicator.metric == also.indicator.metric
    told = refusal(merged, fast, document=listed(YAML_FAST % "bank"))
    assert told == (
        "objectives.yaml:10: objectives[0].below must be a bucket boundary of http.server.request.duration, "
        "got '300ms'. Write 0.25 or 0.5, or add it: "
        "TERCET_DURATION_BUCKETS=0.005,0.01,0.025,0.05,0.1,0.25,0.3,0.5,1,2.5,5,10; "
        "an Objective in the code of the service adds it by itself."
    )


def test_a_declared_histogram_gets_the_boundary():
    """Its metric is declared in the code, so that its histogram can have it."""
    wait = promised(WAITED, **FAST | {"below": 2}, metric="waited")
    (objective,) = merged(wait, declared=[WAITED]).objectives
    assert objective.indicator.metric.buckets == (1.0, 2.0, 5.0)
    assert objective.indicator.counted == "metric"


def test_where_no_boundary_can_be_forced_it_is_refused():
    """Contrib measures in the buckets of a view; and what the process measures of itself has its own."""
    in_view = promised(**FAST, counted="metric")
    told = refusal(merged, in_view, http_edges="contrib")
    assert told.startswith("shop/app.py:14: Objective('fast').below must be a bucket boundary of http.server")
    assert told.endswith(
        "or add it: TERCET_DURATION_BUCKETS=0.005,0.01,0.025,0.05,0.1,0.25,0.3,0.5,1,2.5,5,10."
    )
    told = refusal(merged, promised(**CHECKOUT), http_edges="off")
    assert "Objective('checkout').counted must be metric while http_edges is off, got 'source'" in told
    usage = promised(**FAST, metric="tercet.export.duration")
    assert "must be a bucket boundary of tercet.export.duration" in refusal(merged, usage)
    exact = promised(**FAST)
    (objective,) = merged(exact, http_edges="contrib").objectives
    assert objective.indicator.metric.buckets == HTTP_SERVER_DURATION.buckets


def test_a_symptom_has_to_have_a_boundary_above_it():
    """Also one in code: no quantile is ever above the last boundary."""
    slow = promised(**FAST, symptoms=[{"above": 20, "severity": "SEV-2"}])
    assert "must be below 20, the last boundary of http.server" in refusal(merged, slow)
    higher = (*HTTP_SERVER_DURATION.buckets, 30.0)
    (objective,) = merged(slow, duration_buckets=higher).objectives
    assert 20.0 in objective.indicator.metric.buckets


def test_numbers_are_read_as_they_are_written():
    """Also those that Python writes with an exponent, and what is not there is empty."""
    made = promised(**FAST | {"below": 1e-05}, where={"error.type": None})
    assert (float(made.objective.indicator.threshold), made.objective.indicator.where) == (
        1e-05,
        (("error.type", ("",)),),
    )


def test_a_service_needs_nothing_to_promise_by_queries(monkeypatch):
    """What reads PromQL is there where rules are generated, and says so when it is not."""
    monkeypatch.setitem(sys.modules, "promql_parser", None)
    bad, total = (f"sum(rate({name}[{{{{.window}}}}]))" for name in ("a", "b"))
    proxied = {"name": "proxied", "kind": "query", "target": "99%", "bad": bad, "total": total}
    promise = promised(**proxied, minimum_events=3)
    assert promise.objective.minimum_events == 3
    with pytest.raises(SetupError, match=r'pip install "tercet\[generate\]"'):
        merged(promise)
