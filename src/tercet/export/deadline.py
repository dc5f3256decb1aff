"""Connections of HTTP on which no request takes longer than it may, however little comes at a time.

A socket's timeout is for each of its reads and writes. Whoever says a letter now and then, of a status line,
a header or a body, or takes one, would hold us for ever.
"""

import functools
import http.client
import io
import math
import socket
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection


class Deadline:
    """When the request that is on its way must have its answer."""

    def __init__(self) -> None:
        self._at = math.inf

    def start(self, seconds: float) -> None:
        """Begin a request that may take so long."""
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Say how many seconds are left.

        Raises:
            TimeoutError: None are.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Reader(io.RawIOBase):
    """Read from a socket for as long as there is time."""

    def __init__(self, wire: socket.socket, raw: io.RawIOBase, deadline: Deadline) -> None:
        self._wire = wire
        self._raw = raw
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._wire.settimeout(self._deadline.left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """Also what a proxy says before the collector is heard."""

    def __init__(self, deadline: Deadline, wire: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(wire, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_Reader(wire, self.fp.detach(), deadline))


class BoundedHttp(HTTPConnection):
    """A connection without TLS.

    Args:
        deadline: Of the request that is on its way.
        args: What urllib3 gives a connection.
        kwargs: The same.
    """

    def __init__(self, deadline: Deadline, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = deadline
        self.response_class: Any = functools.partial(_Response, deadline)

    def send(self, data: Any) -> None:
        """Send all of it, piece by piece as the other side takes it."""
        if self.sock is None:
            self.connect()
        left = memoryview(data)
        while left:
            self.sock.settimeout(self._deadline.left())
            left = left[self.sock.send(left) :]


class BoundedHttps(BoundedHttp, HTTPSConnection):
    """A connection with TLS."""
