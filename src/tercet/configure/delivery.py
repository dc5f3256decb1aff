"""From settings to what delivers spans and log records, and to the metrics that tell how it goes."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.metric import (
    EXPORT_CREATED,
    EXPORT_DURATION,
    EXPORT_ITEMS,
    EXPORT_SPOOL,
    EXPORT_WAITING,
    Metric,
)
from tercet.declare.settings import SIGNALS, Settings
from tercet.emit.metrics import Recorder, build_recorder
from tercet.errors import SettingsError
from tercet.export.answer import Answer
from tercet.export.batch import Account, Outbox, Posts
from tercet.export.encode import Encoded, encode_request, weight
from tercet.export.exporters import OTLP, exporter_names, temporality
from tercet.export.halves import halved
from tercet.export.link import Link
from tercet.export.points import PostedPoints
from tercet.export.proxy import unusable_proxy
from tercet.export.spool import Limits, Spool

Spooled = Literal["traces", "logs"]
_ITEM: Mapping[Spooled, str] = {"traces": "span", "logs": "log"}


def build_outbox(signal: Spooled, settings: Settings) -> Outbox[Encoded]:
    """Make the way out of one signal over OTLP; its thread starts with the first item.

    Raises:
        SettingsError: The spool cannot be where the settings say, or the link not be as they say.
        SetupError: gRPC is asked for and not installed.
    """
    otlp, item = settings.otlp(signal), _ITEM[signal]
    link = Link(otlp, signal)
    return Outbox(
        f"tercet-{signal}",
        link,
        encode_request,
        functools.partial(halved, signal=signal, pack=link.pack),
        weigh=weight,
        queue_size=getattr(settings, f"{item}_queue_size"),
        batch_size=getattr(settings, f"{item}_batch_size"),
        delay=getattr(settings, f"{item}_export_delay"),
        batch_bytes=settings.export_batch_bytes,
        max_bytes=settings.export_max_bytes,
        spool=_build_spool(signal, settings),
    )


def build_posted_points(settings: Settings) -> PostedPoints:
    """Make the way out of metrics over OTLP."""
    link = Link(settings.otlp("metrics"), "metrics")
    return PostedPoints(
        link,
        functools.partial(halved, signal="metrics", pack=link.pack),
        temporality=temporality(settings),
        timeout=settings.metric_export_timeout,
    )


def _build_spool(signal: Spooled, settings: Settings) -> Spool | None:
    if settings.spool_directory is None:
        return None
    limits = Limits(settings.spool_max_bytes, settings.spool_max_files, settings.spool_max_age)
    try:
        return Spool(Path(settings.spool_directory) / signal, limits)
    except OSError as error:
        raise SettingsError(
            f"spool_directory (TERCET_SPOOL_DIRECTORY) must be a directory that can be written, "
            f"got {settings.spool_directory!r}: {error.strerror}. Make it, or unset it."
        ) from error


def unusable_proxies(settings: Settings) -> list[str]:
    """Name the variables of proxies that should lead to a collector, and speak no HTTP."""
    ways = [settings.otlp(signal) for signal in SIGNALS if OTLP in exporter_names(signal, settings)]
    found = {unusable_proxy(way.endpoint) for way in ways if way.protocol == "http/protobuf"}
    return sorted(found - {""})


class Exporting(Protocol):
    """Whatever delivers a signal, and keeps account of it."""

    link: Posts

    def account(self) -> Account:
        """Say what became of all that was made for export."""
        ...


def observe_delivery(meter: Meter, exporters: Mapping[str, Exporting]) -> None:
    """Measure what is created, delivered, dropped and waiting, at no cost but when metrics are collected."""
    observe = functools.partial(_observe, exporters)
    observe(meter.create_observable_counter, EXPORT_CREATED, lambda account: [({}, account.created)])
    observe(meter.create_observable_counter, EXPORT_ITEMS, _outcomes)
    observe(meter.create_observable_up_down_counter, EXPORT_WAITING, lambda account: [({}, account.waiting)])
    # No sum: each worker of a service tells of the same directory.
    observe(meter.create_observable_gauge, EXPORT_SPOOL, _spooled)
    duration = build_recorder(meter, EXPORT_DURATION)
    for signal, exporter in exporters.items():
        exporter.link.observe = functools.partial(_record, duration, signal)


Values = Iterable[tuple[Mapping[str, str], int]]


def _observe(
    exporters: Mapping[str, Exporting],
    create: Callable[..., object],
    metric: Metric,
    values: Callable[[Account], Values],
) -> None:
    def callback(_options: CallbackOptions) -> Iterator[Observation]:
        for signal, exporter in exporters.items():
            for attributes, value in values(exporter.account()):
                yield Observation(value, {"signal": signal, **attributes})

    create(metric.name, [callback], metric.unit, metric.help)


def _record(duration: Recorder, signal: str, seconds: float, answer: Answer) -> None:
    duration.record(seconds, (signal, answer.kind), INVALID_SPAN_CONTEXT)


def _outcomes(account: Account) -> Values:
    yield {"outcome": "delivered"}, account.delivered
    for reason, count in account.dropped.items():
        yield {"outcome": reason}, count


def _spooled(account: Account) -> Values:
    return [] if account.spool_bytes is None else [({}, account.spool_bytes)]
