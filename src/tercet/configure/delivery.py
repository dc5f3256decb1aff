"""From settings to what delivers spans and log records, and to the metrics that tell how it goes."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from tercet.declare.metric import EXPORT_ITEMS, EXPORT_WAITING
from tercet.declare.settings import Settings
from tercet.errors import SettingsError
from tercet.export.batch import Outbox
from tercet.export.halves import halved
from tercet.export.link import Link
from tercet.export.spool import Limits, Spool

T = TypeVar("T")
Spooled = Literal["traces", "logs"]
_ITEM: Mapping[Spooled, str] = {"traces": "span", "logs": "log"}


def build_outbox(signal: Spooled, settings: Settings, encode: Callable[[Sequence[T]], bytes]) -> Outbox[T]:
    """Make the way out of one signal over OTLP and HTTP; its thread starts with the first item.

    Raises:
        SettingsError: The spool cannot be where the settings say.
    """
    otlp, item = settings.otlp(signal), _ITEM[signal]
    link = Link(otlp, signal)
    return Outbox(
        f"tercet-{signal}",
        link,
        encode,
        functools.partial(halved, signal=signal, pack=link.pack),
        queue_size=getattr(settings, f"{item}_queue_size"),
        batch_size=getattr(settings, f"{item}_batch_size"),
        delay=getattr(settings, f"{item}_export_delay"),
        max_bytes=settings.export_max_bytes,
        spool=_build_spool(signal, settings),
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


def observe_delivery(meter: Meter, outboxes: Mapping[str, Outbox[Any]]) -> None:
    """Measure what is delivered, dropped and waiting, at no cost but when metrics are collected."""

    def items(_options: CallbackOptions) -> Iterable[Observation]:
        for signal, outbox in outboxes.items():
            for outcome, count in _outcomes(outbox):
                yield Observation(count, {"signal": signal, "outcome": outcome})

    def waiting(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(outbox.backlog(), {"signal": signal}) for signal, outbox in outboxes.items()]

    meter.create_observable_counter(EXPORT_ITEMS.name, [items], EXPORT_ITEMS.unit, EXPORT_ITEMS.help)
    meter.create_observable_up_down_counter(
        EXPORT_WAITING.name, [waiting], EXPORT_WAITING.unit, EXPORT_WAITING.help
    )


def _outcomes(outbox: Outbox[Any]) -> Iterator[tuple[str, int]]:
    yield "delivered", outbox.delivered
    yield from dict(outbox.dropped).items()
