"""The road to the collector: a relay in this process, which can be closed without touching either end."""

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from tercet.demo.ports import DemoError, hold, listening, port_of, url_of

_CHUNK_BYTES = 64 * 1024


class Road:
    """Carry bytes between the services and a collector, or refuse to.

    Args:
        collector: The base URL of the collector.

    Raises:
        DemoError: It wants TLS, and would see another name than its own.
    """

    def __init__(self, collector: str) -> None:
        self._target = urlsplit(collector)
        if self._target.scheme != "http":
            raise DemoError(
                f"--otlp must be an http:// URL for collector-away, got {collector!r}. "
                "Start the fault on the way there, or send to a collector on this machine."
            )
        self._held = hold(0)
        self._port = port_of(self._held)
        self._server: asyncio.Server | None = None
        self._carriers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where services find the collector while the road is open; refused while it is closed."""
        return url_of(self._port) + self._target.path

    async def __aenter__(self) -> Self:
        """Open the road."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it for good."""
        if self._server:
            await self.close()
        self._held.close()

    async def open(self) -> None:
        """Carry whoever comes."""
        self._server = await asyncio.start_server(self._carry, sock=listening(self._held))

    async def close(self) -> None:
        """Cut whoever is on the way, and refuse whoever comes."""
        if self._server:
            self._server.close()
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        self._server, self._held = None, hold(self._port)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carrier = asyncio.current_task()
        if carrier:
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)
        try:
            # Either end may go at any time; callers try again. Python 3.11 complains of cancelled carriers.
            with suppress(OSError, asyncio.CancelledError):
                await self._carry_both_ways(reader, writer)
        finally:
            writer.transport.abort()

    async def _carry_both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port or 80)
        try:
            ways = (_carry_on(reader, far_writer), _carry_on(far_reader, writer))
            await asyncio.gather(*ways)
        finally:
            far_writer.transport.abort()


async def _carry_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
