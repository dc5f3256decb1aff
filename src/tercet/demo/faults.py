"""What can go wrong in the demo, on purpose; a fault that a service makes itself is a file while it is on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tercet.demo.catalog import NOTIFICATION, PAYMENTS

PAYMENT_SLOW = "payment-slow"
PAYMENT_FAILING = "payment-failing"
DATABASE_LOCKED = "database-locked"
NOTIFICATION_DOWN = "notification-down"
MEMORY_PRESSURE = "memory-pressure"
COLLECTOR_AWAY = "collector-away"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: What users call it.
        story: What happens, in one line.
        unreached: Services that no order comes to meanwhile.
    """

    name: str
    story: str
    unreached: tuple[str, ...] = ()


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(PAYMENT_SLOW, "the payment provider takes 3 seconds to answer"),
        Fault(PAYMENT_FAILING, "the payment provider refuses every charge", (NOTIFICATION,)),
        Fault(
            DATABASE_LOCKED,
            "somebody keeps the database of orders locked: orders wait for it, and fail",
            (PAYMENTS, NOTIFICATION),
        ),
        Fault(
            NOTIFICATION_DOWN, "the notification service is killed; orders go on without it", (NOTIFICATION,)
        ),
        Fault(MEMORY_PRESSURE, "order-service keeps 16 MiB more with each order, up to 256 MiB"),
        Fault(COLLECTOR_AWAY, "the collector refuses connections; telemetry waits in the services"),
    )
}


def unreached(names: Iterable[str]) -> set[str]:
    """Return the services that no order comes to while these faults are on."""
    return {service for name in names for service in FAULTS[name].unreached}


class Marks:
    """Say which faults are on, to any process that looks: each is a file in one folder.

    Args:
        folder: Where the files are; None where nothing ever goes wrong.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def is_on(self, name: str) -> bool:
        """Say whether a fault is on, at this moment."""
        return self._folder is not None and (self._folder / name).exists()
