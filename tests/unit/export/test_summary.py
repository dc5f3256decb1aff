"""Summaries on the wire, beside what upstream encodes."""

import json
from contextlib import suppress

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tercet.emit.declared import Counter, Summary
from tercet.emit.registry import Registry
from tercet.export.metered import LeanMeterProvider
from tercet.export.summary import encode, takes_summaries


class Reader(InMemoryMetricReader):
    """Takes everything."""

    takes_summaries = True


def collection(*, with_summary=True):
    """One counter, and one summary of two series."""
    reader, registry = Reader(), Registry()
    provider = LeanMeterProvider([reader], Resource({"service.name": "t"}), TraceBasedExemplarFilter(), [])
    registry.bind(provider.get_meter("t"), raises=True)
    Counter("orders", "Orders.", registry=registry).add(3)
    if with_summary:
        size = Summary(
            "size", "Size.", unit="By", attributes=("kind", "part"), quantiles=(0.5,), registry=registry
        )
        size.record(2, kind="mail", part=7)
        size.record(4, kind="mail", part=7)
        size.bind(kind="fax")
    return reader.get_metrics_data()


def metrics_of(request):
    (resource,) = ExportMetricsServiceRequest.FromString(request.SerializeToString()).resource_metrics
    (scope,) = resource.scope_metrics
    return {metric.name: metric for metric in scope.metrics}


def test_a_summary_is_encoded_beside_the_others():
    """With attributes, count, sum and quantiles; those of nothing are no numbers."""
    found = metrics_of(encode(collection()))
    size, orders = found["size"], found["orders"]
    assert (size.unit, size.description, orders.sum.data_points[0].as_int) == ("By", "Size.", 3)
    mail, fax = size.summary.data_points
    assert {pair.key: pair.value.WhichOneof("value") for pair in mail.attributes} == {
        "kind": "string_value",
        "part": "int_value",
    }
    assert (mail.count, mail.sum, mail.time_unix_nano > mail.start_time_unix_nano > 0) == (2, 6, True)
    assert [(each.quantile, round(each.value, 1)) for each in mail.quantile_values] == [(0.5, 2.0)]
    assert (fax.count, str(fax.quantile_values[0].value)) == (0, "nan")


def test_without_one_upstream_encodes():
    """Nothing is taken apart that need not be."""
    assert set(metrics_of(encode(collection(with_summary=False)))) >= {"orders"}


def test_it_can_be_written_as_json():
    """As the SDK's own data can."""
    written = json.loads(collection().to_json())
    metrics = written["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    (size,) = [metric for metric in metrics if metric["name"] == "size"]
    assert size["data"]["data_points"][0]["count"] == 2


def test_only_those_that_say_so_take_summaries():
    """A reader, or the exporter behind it."""
    assert [takes_summaries(reader) for reader in (Reader(), InMemoryMetricReader())] == [True, False]
    with suppress(AttributeError):
        behind = InMemoryMetricReader()
        behind._exporter = Reader()
        assert takes_summaries(behind)
