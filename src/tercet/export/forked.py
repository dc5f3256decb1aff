"""A forked child counts and sends for itself: what the SDK leaves to it of its parent is taken away.

The SDK gives a child its parent's sums, so that they would be counted twice, and its parent's locks, which
nobody frees where a thread of the parent held them. And it gives a child an instance id of its own, but not
one in which its user's is to be seen. All of this is upstream's inside: where it is not as it was, nothing is
done, and the child has what upstream gives it.
"""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, Resource, ServiceInstanceIdResourceDetector

from tercet.export import native
from tercet.export.outage import say


class PeriodicReader(PeriodicExportingMetricReader):
    """Collect and export in intervals, from a thread of its own in each process.

    Upstream starts its thread in a forked child before what its parent has counted is forgotten.
    """

    def __init__(self, exporter: MetricExporter, *, interval: float, timeout: float) -> None:
        """Start.

        Args:
            exporter: Where it goes.
            interval: Seconds between two collections.
            timeout: Seconds for one.
        """
        super().__init__(exporter, math.inf, timeout * 1000)  # upstream's way to start no thread
        self._export_interval_millis = interval * 1000
        self.start_anew()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and export now, and say whether that was delivered."""
        super().force_flush(timeout_millis)
        return self._is_delivered()

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> bool:  # type: ignore[override] # None upstream
        """Collect and export once more, stop, and say whether that was delivered in time."""
        if not self._shutdown:  # Its provider may have been before; upstream warns of a second time.
            super().shutdown(timeout_millis, **kwargs)
        return self._is_delivered() and self._has_ended.is_set()

    def _is_delivered(self) -> bool:
        return getattr(self._exporter, "is_delivered", True)

    def start_anew(self) -> None:
        """Collect from a new thread, with locks that nobody holds."""
        self._export_lock = native.Lock()
        self._has_ended = native.Event()
        self._shutdown_event: Any = native.Event()
        if not self._shutdown:
            self._daemon_thread: Any = native.start_thread(self._tick, "tercet-metrics")

    def _tick(self) -> None:
        stopped, ended = self._shutdown_event, self._has_ended
        while not stopped.wait(self._export_interval_millis / 1000):
            self._attempt()
        self._attempt()
        ended.set()

    def _attempt(self) -> None:
        try:
            self.collect(timeout_millis=self._export_timeout_millis)
        except Exception as error:  # One that fails must not be the last.
            say("Metrics could not be collected: %r", error)


def renew_in_children(providers: Sequence[Any], readers: Sequence[MetricReader]) -> None:
    """Renew, in each child forked from now on, what the SDK has of its parent.

    Args:
        providers: Of all signals, each with a resource.
        readers: Of metrics; a list that grows later is followed.
    """
    given = _given_instance_id(providers)

    def renew() -> None:
        # The order matters: as soon as a reader starts, it collects.
        for consumer in _consumers(providers, readers):
            with suppress(AttributeError):
                _renew_consumer(consumer)
        for provider in providers:
            with suppress(AttributeError, TypeError):
                _renew_meters(provider)
            if given is not None:
                with suppress(AttributeError, TypeError):
                    provider._update_resource(Resource({SERVICE_INSTANCE_ID: f"{given}-{os.getpid()}"}))
        for reader in readers:
            if isinstance(reader, PeriodicReader):
                reader.start_anew()

    if hasattr(os, "register_at_fork"):  # Windows forks nothing.
        os.register_at_fork(after_in_child=renew)


def _consumers(providers: Sequence[Any], readers: Sequence[MetricReader]) -> list[Any]:
    """Find what the measurements go to, an adopted provider's too."""
    found = [getattr(getattr(reader, "_collect", None), "__self__", None) for reader in readers]
    found += [getattr(provider, "_measurement_consumer", None) for provider in providers]
    return list({id(each): each for each in found if each is not None}.values())


def _renew_consumer(consumer: Any) -> None:
    """Free its locks and forget its sums; both come back with the next measurement of each instrument."""
    storages = [each for each in consumer._reader_storages.values() if _is_known(each)]
    if hasattr(consumer._lock, "acquire"):
        consumer._lock = native.Lock()
    for storage in storages:
        storage._instrument_view_instrument_matches = {}
        storage._lock = native.RLock()


def _is_known(storage: Any) -> bool:
    matches = storage._instrument_view_instrument_matches
    return isinstance(matches, dict) and hasattr(storage._lock, "acquire")


def _renew_meters(provider: Any) -> None:
    for meter in dict(getattr(provider, "_meters", {})).values():
        if hasattr(meter, "_instrument_registration_lock"):
            meter._instrument_registration_lock = native.Lock()


def _resource(provider: Any) -> Resource:
    found: Resource = getattr(provider, "_resource", None) or provider._sdk_config.resource
    return found


def _given_instance_id(providers: Sequence[Any]) -> str | None:
    """Return the instance id that a user chose, if one did; the SDK's own is replaced in each child."""
    with suppress(Exception):
        detected = ServiceInstanceIdResourceDetector().detect().attributes[SERVICE_INSTANCE_ID]
        for provider in providers:
            named = _resource(provider).attributes.get(SERVICE_INSTANCE_ID, detected)
            if named != detected:
                return str(named)
    return None
