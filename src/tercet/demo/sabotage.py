"""How each fault is done, and undone, while the services run."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Protocol

from tercet.demo.catalog import NOTIFICATION
from tercet.demo.faults import (
    COLLECTOR_AWAY,
    DATABASE_LOCKED,
    FAULTS,
    MEMORY_PRESSURE,
    NOTIFICATION_DOWN,
    PAYMENT_FAILING,
    PAYMENT_SLOW,
)
from tercet.demo.ports import DemoError
from tercet.demo.road import Road

#: Longer than any order holds the lock.
_LOCK_SECONDS = 10.0


class Switch(Protocol):
    """Anything that can be switched on and off; neither is called twice in a row."""

    async def on(self) -> None:
        """Begin."""

    async def off(self) -> None:
        """End, and leave no trace."""


class Processes(Protocol):
    """Who can end a service and start it again."""

    async def kill(self, name: str) -> None:
        """End it at once; its callers are refused from then on."""

    async def revive(self, name: str) -> None:
        """Start it again, and return once it answers."""


class Sabotage:
    """Switch faults on and off.

    Args:
        processes: The fleet.
        marks: The folder in which a file tells the services of a fault.
        database: The file of the database.
        road: The way to the collector, where it can be closed.
    """

    def __init__(self, processes: Processes, marks: Path, database: Path, road: Road | None) -> None:
        self._marked = (PAYMENT_SLOW, PAYMENT_FAILING, MEMORY_PRESSURE)
        self._switches: dict[str, Switch] = {name: _Mark(marks / name) for name in self._marked}
        self._switches[DATABASE_LOCKED] = _Lock(database)
        self._switches[NOTIFICATION_DOWN] = _Absence(processes, NOTIFICATION)
        if road:
            self._switches[COLLECTOR_AWAY] = _Closure(road)
        self._on: set[str] = set()

    async def switch(self, name: str, *, on: bool) -> None:
        """Switch a fault on or off; nothing happens where it is so already.

        Raises:
            DemoError: There is no such fault here, or it could not be done.
        """
        if name not in FAULTS:
            raise DemoError(f"fault must be one of {', '.join(FAULTS)}, got {name!r}. Correct its name.")
        if name not in self._switches:
            raise DemoError(f"{name} must be asked for at the start. Write --fault {name}.")
        if on == (name in self._on):
            return
        if on:
            await self._switches[name].on()
            self._on.add(name)
        else:
            await self._switches[name].off()
            self._on.remove(name)

    async def release(self) -> None:
        """Let go of what this process holds, so that orders that wait for it can end."""
        await self.switch(DATABASE_LOCKED, on=False)


class _Mark:
    """Tell the services by a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def on(self) -> None:
        self._path.touch()

    async def off(self) -> None:
        self._path.unlink()


class _Lock:
    """Hold SQLite's exclusive lock, as a forgotten transaction would."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._holder: sqlite3.Connection | None = None

    async def on(self) -> None:
        self._holder = await asyncio.to_thread(self._lock)

    async def off(self) -> None:
        if self._holder:
            self._holder.close()
            self._holder = None

    def _lock(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._database, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            connection.close()
            raise DemoError(f"the database must be free to be locked, got {error}.") from error
        return connection


class _Absence:
    """Kill a service."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._name = name

    async def on(self) -> None:
        await self._processes.kill(self._name)

    async def off(self) -> None:
        await self._processes.revive(self._name)


class _Closure:
    """Close the road to the collector."""

    def __init__(self, road: Road) -> None:
        self._road = road

    async def on(self) -> None:
        await self._road.close()

    async def off(self) -> None:
        await self._road.open()
