"""A request that the collector finds too large, as two smaller ones: the rare path, so through messages."""

from collections.abc import Callable, Sequence
from typing import Any

from tercet.declare.settings import Signal
from tercet.export.compression import unpack
from tercet.export.spool import Parcel


def halved(packed: bytes, signal: Signal, pack: Callable[[bytes], bytes]) -> Sequence[Parcel]:
    """Split a request into two that hold its items in order; none where it has fewer than two.

    Args:
        packed: The request, compressed in any way.
        signal: Whose request it is.
        pack: Compresses the halves.
    """
    request = _request_type(signal).FromString(unpack(packed))
    count = sum(len(items) for items in _item_lists(request, signal))
    half = count // 2
    if not half:
        return ()
    first, second = type(request)(), type(request)()
    first.CopyFrom(request)
    second.CopyFrom(request)
    _keep(first, signal, 0, half)
    _keep(second, signal, half, count)
    return (
        Parcel(pack(first.SerializeToString()), half),
        Parcel(pack(second.SerializeToString()), count - half),
    )


def _keep(request: Any, signal: Signal, first: int, last: int) -> None:
    """Remove from a request all items outside of a range, counted over all scopes, and scopes left empty."""
    before = 0
    for items in _item_lists(request, signal):
        count = len(items)
        low, high = max(0, first - before), max(0, last - before)
        del items[high:]
        del items[:low]
        before += count
    _remove_empty(request, signal)


def _remove_empty(request: Any, signal: Signal) -> None:
    for each in _resources(request, signal):
        scopes = _scopes(each, signal)
        for number in reversed(range(len(scopes))):
            if not _items(scopes[number], signal):
                del scopes[number]
    resources = _resources(request, signal)
    for number in reversed(range(len(resources))):
        if not _scopes(resources[number], signal):
            del resources[number]


def _item_lists(request: Any, signal: Signal) -> list[Any]:
    return [_items(scope, signal) for each in _resources(request, signal) for scope in _scopes(each, signal)]


def _resources(request: Any, signal: Signal) -> Any:
    return request.resource_spans if signal == "traces" else request.resource_logs


def _scopes(resource: Any, signal: Signal) -> Any:
    return resource.scope_spans if signal == "traces" else resource.scope_logs


def _items(scope: Any, signal: Signal) -> Any:
    return scope.spans if signal == "traces" else scope.log_records


def _request_type(signal: Signal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ExportLogsServiceRequest
