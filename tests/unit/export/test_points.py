"""Points of metrics: each is delivered, or dropped and counted."""

import os

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExportResult,
)

from tercet.export.answer import Answer
from tercet.export.halves import halved
from tercet.export.points import PostedPoints

SUCCESS, FAILURE = MetricExportResult.SUCCESS, MetricExportResult.FAILURE


class Link:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []
        self.told = []
        self.at_stake = []
        self.observe = None

    def pack(self, body):
        return body

    def post(self, packed, timeout=float("inf"), at_stake=None):
        self.at_stake.append(at_stake)
        answer = self.answers.pop(0) if self.answers else Answer("delivered")
        if answer.kind == "delivered":
            self.sent.append(ExportMetricsServiceRequest.FromString(packed))
        return answer

    def tell(self, what):
        self.told.append(what)
        return True


def collected():
    """Five points of two metrics."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    counter, histogram = meter.create_counter("counter"), meter.create_histogram("histogram")
    for number in range(3):
        counter.add(1, {"number": number})
    for number in range(2):
        histogram.record(1, {"number": number})
    return reader.get_metrics_data()


def exporter(*answers, temporality=None):
    link = Link(*answers)
    return link, PostedPoints(
        link, lambda packed: halved(packed, "metrics", link.pack), temporality=temporality or {}, timeout=10
    )


def points(request):
    metrics = request.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: len(getattr(metric, metric.WhichOneof("data")).data_points) for metric in metrics}


@pytest.mark.parametrize(
    ("answer", "result", "delivered", "dropped"),
    [
        (Answer("delivered"), SUCCESS, 5, {}),
        (Answer("delivered", "too old", None, 2), SUCCESS, 3, {"rejected": 2}),
        (Answer("delivered", "all", None, 99), SUCCESS, 0, {"rejected": 5}),
        (Answer("later", "HTTP 503"), FAILURE, 0, {"unavailable": 5}),
        (Answer("refused", "HTTP 400"), FAILURE, 0, {"refused": 5}),
    ],
)
def test_every_point_is_counted(answer, result, delivered, dropped):
    """As delivered, or as dropped by reason."""
    _, points_exporter = exporter(answer)
    assert points_exporter.export(collected()) is result
    account = points_exporter.account()
    assert (account.created, account.delivered, account.dropped) == (5, delivered, dropped)


@pytest.mark.parametrize(
    ("temporality", "at_stake"), [({}, [None]), ({Counter: AggregationTemporality.DELTA}, [5])], ids=str
)
def test_deltas_are_at_stake(temporality, at_stake):
    """No later collection has them; it has the sums."""
    link, points_exporter = exporter(Answer("later", "HTTP 503"), temporality=temporality)
    points_exporter.export(collected())
    assert link.at_stake == at_stake


def test_what_is_too_large_is_halved():
    """Down to single points; the one that is too large alone is dropped."""
    large = Answer("too_large")
    link, points_exporter = exporter(large, large, large)
    assert points_exporter.export(collected()) is FAILURE
    assert [points(request) for request in link.sent] == [
        {"counter": 1},
        {"counter": 1, "histogram": 2},
    ]
    assert points_exporter.account().dropped == {"too_large": 1}


def test_what_cannot_be_encoded_is_counted():
    """And said; what comes with it is sent all the same."""
    link, points_exporter = exporter()
    data = collected()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    object.__setattr__(metrics[0], "name", 5)
    assert points_exporter.export(data) is FAILURE
    assert [points(request) for request in link.sent] == [{"histogram": 2}]
    account = points_exporter.account()
    assert (account.delivered, account.dropped) == (2, {"encode_failed": 3})
    assert not points_exporter.is_delivered
    object.__setattr__(metrics[1], "name", 5)
    assert points_exporter.export(data) is FAILURE
    assert (len(link.sent), points_exporter.account().dropped) == (1, {"encode_failed": 8})
    assert set(link.told) == {"one metric could not be encoded (TypeError)"}


def test_there_is_nothing_to_flush_or_close():
    """Each export is sent at once."""
    _, points_exporter = exporter()
    points_exporter.shutdown()
    assert points_exporter.force_flush()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_child_counts_from_zero():
    """What its parent has sent is its parent's."""
    _, points_exporter = exporter()
    points_exporter.export(collected())
    child = os.fork()
    if child == 0:
        os._exit(points_exporter.account().created)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_was_delivered_is_told_while_the_next_is_on_its_way():
    """A reader that collects in intervals may be sending when somebody else's flush has ended."""
    link, points_exporter = exporter()
    told, post = [], link.post
    link.post = lambda *sent: (told.append(points_exporter.is_delivered), post(*sent))[1]
    link.answers = [Answer("delivered"), Answer("later"), Answer("delivered")]
    for _ in range(3):
        points_exporter.export(collected())
    assert (told, points_exporter.is_delivered) == ([True, True, False], True)


def test_a_resource_that_cannot_be_encoded_loses_all_and_says_so():
    """What is left then cannot be sent either."""
    link, points_exporter = exporter()
    data = collected()
    object.__setattr__(data.resource_metrics[0], "resource", None)
    assert points_exporter.export(data) is FAILURE
    assert (link.sent, points_exporter.account().dropped) == ([], {"encode_failed": 5})
    assert not points_exporter.is_delivered
