"""A request that the collector finds too large, as two smaller ones: the rare path, so through messages."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tercet.declare.settings import Signal
from tercet.export.compression import unpack
from tercet.export.spool import Parcel

#: Where a request has its resources, a resource its scopes, and a scope what it says.
_FIELDS: Mapping[Signal, tuple[str, str, str]] = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}


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
    for resource in _resources(request, signal):
        for scope in _scopes(resource, signal):
            if signal == "metrics":
                _remove(scope.metrics, _points)
        _remove(_scopes(resource, signal), lambda scope: _content(scope, signal))
    _remove(_resources(request, signal), lambda resource: _scopes(resource, signal))


def _remove(messages: Any, content: Callable[[Any], Any]) -> None:
    """Remove those messages that have no content."""
    for number in reversed(range(len(messages))):
        if not content(messages[number]):
            del messages[number]


def _item_lists(request: Any, signal: Signal) -> list[Any]:
    contents = [
        _content(scope, signal) for each in _resources(request, signal) for scope in _scopes(each, signal)
    ]
    return (
        contents if signal != "metrics" else [_points(metric) for metrics in contents for metric in metrics]
    )


def _resources(request: Any, signal: Signal) -> Any:
    return getattr(request, _FIELDS[signal][0])


def _scopes(resource: Any, signal: Signal) -> Any:
    return getattr(resource, _FIELDS[signal][1])


def _content(scope: Any, signal: Signal) -> Any:
    return getattr(scope, _FIELDS[signal][2])


def _points(metric: Any) -> Any:
    kind = metric.WhichOneof("data")
    return getattr(metric, kind).data_points if kind else ()


def _request_type(signal: Signal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        return ExportMetricsServiceRequest
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ExportLogsServiceRequest
