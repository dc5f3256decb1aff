"""A request that is too large becomes two that hold its items in order."""

from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tercet.export.compression import COMPRESS, unpack
from tercet.export.halves import halved


def request(signal, scopes):
    """Make a request whose resources and scopes hold so many items; a name is its number."""
    message = ExportTraceServiceRequest() if signal == "traces" else ExportLogsServiceRequest()
    numbers = count()
    for sizes in scopes:
        resource = (message.resource_spans if signal == "traces" else message.resource_logs).add()
        for size in sizes:
            scope = (resource.scope_spans if signal == "traces" else resource.scope_logs).add()
            for number in islice(numbers, size):
                if signal == "traces":
                    scope.spans.add(name=str(number))
                else:
                    scope.log_records.add(event_name=str(number))
    return message


def names(signal, body):
    if signal == "traces":
        found = ExportTraceServiceRequest.FromString(body)
        return [s.name for r in found.resource_spans for c in r.scope_spans for s in c.spans]
    found = ExportLogsServiceRequest.FromString(body)
    return [s.event_name for r in found.resource_logs for c in r.scope_logs for s in c.log_records]


@pytest.mark.parametrize("signal", ["traces", "logs"])
@pytest.mark.parametrize("compression", COMPRESS)
@given(scopes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=4))
def test_halves_hold_all_items_in_order(signal, compression, scopes):
    """Each knows its count; one item and none cannot be halved."""
    pack = COMPRESS[compression]
    body = request(signal, scopes).SerializeToString()
    total = sum(map(sum, scopes))
    halves = halved(pack(body), signal, pack)
    if total < 2:
        assert halves == ()
        return
    parts = [names(signal, unpack(half.packed)) for half in halves]
    assert parts[0] + parts[1] == names(signal, body)
    assert (
        [half.count for half in halves] == [len(part) for part in parts] == [total // 2, total - total // 2]
    )


def test_halves_leave_out_who_emits_nothing_in_them():
    """They are smaller, not only shorter."""
    pack = COMPRESS["none"]
    body = request("traces", [[1], [1]]).SerializeToString()
    halves = [ExportTraceServiceRequest.FromString(half.packed) for half in halved(body, "traces", pack)]
    assert [len(half.resource_spans) for half in halves] == [1, 1]
