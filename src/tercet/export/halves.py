"""A request that the collector finds too large, as two smaller ones: the rare path, so through messages."""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tercet.declare.settings import Signal
from tercet.export.spool import Parcel

_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "none": lambda packed: packed,
}


def halved(
    packed: bytes, signal: Signal, compression: str, pack: Callable[[bytes], bytes]
) -> Sequence[Parcel]:
    """Split a request into two that hold its items in order; none where it has fewer than two."""
    request = _request_type(signal).FromString(_UNPACK[compression](packed))
    half = _count(request, signal) // 2
    if not half:
        return ()
    first, second = type(request)(), type(request)()
    first.CopyFrom(request)
    second.CopyFrom(request)
    return (
        Parcel(pack(_keep(first, signal, 0, half).SerializeToString()), half),
        Parcel(pack(_keep(second, signal, half, None).SerializeToString()), _count(request, signal) - half),
    )


def _count(request: Any, signal: Signal) -> int:
    return sum(len(items) for items in _item_lists(request, signal))


def _keep(request: Any, signal: Signal, first: int, last: int | None) -> Any:
    """Remove from a request all items outside of a range, counted over all scopes."""
    before = 0
    for items in _item_lists(request, signal):
        count = len(items)
        low = max(0, first - before)
        high = count if last is None else min(count, max(0, last - before))
        del items[max(low, high) :]
        del items[: min(low, count)]
        before += count
    return request


def _item_lists(request: Any, signal: Signal) -> list[Any]:
    if signal == "traces":
        return [scope.spans for each in request.resource_spans for scope in each.scope_spans]
    return [scope.log_records for each in request.resource_logs for scope in each.scope_logs]


def _request_type(signal: Signal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ExportLogsServiceRequest
