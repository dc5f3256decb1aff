"""Ports on loopback: found, listened on, and held while nobody listens."""

import itertools
import socket
from collections.abc import Callable, Collection, Mapping

from tercet.errors import TercetError

HOST = "127.0.0.1"

Tell = Callable[[str], None]


class DemoError(TercetError):
    """Say why the demo failed."""


def listen(
    preferred: Mapping[str, int], tell: Tell, spared: Collection[int] = ()
) -> dict[str, socket.socket]:
    """Listen on a port for each name: the one it prefers, or the next that nobody prefers or has.

    Args:
        preferred: The ports by name.
        tell: Told where another port is taken.
        spared: Ports that nobody takes.

    Raises:
        DemoError: There is none.
    """
    reserved = {*preferred.values(), *spared}
    return {name: _listener(name, port, reserved, tell) for name, port in preferred.items()}


def hold(port: int) -> socket.socket:
    """Keep a port without listening on it: callers are refused, and nobody else takes it.

    Raises:
        DemoError: Somebody has it.
    """
    held = socket.socket()
    try:
        # Connections that were just closed still remember the port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((HOST, port))
        # Others who would reuse it may not.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        held.close()
        raise DemoError(f"port {port} must be free again, got {error}. Stop what took it.") from error
    return held


def listening(held: socket.socket) -> socket.socket:
    """Listen on a port that was kept."""
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.listen()
    return held


def port_of(listener: socket.socket) -> int:
    """Return the port of a socket."""
    port: int = listener.getsockname()[1]
    return port


def url_of(port: int) -> str:
    """Return the address of what listens on a port here."""
    return f"http://{HOST}:{port}"


def _listener(name: str, preferred: int, reserved: set[int], tell: Tell) -> socket.socket:
    others = (port for port in range(preferred + 1, 65536) if port not in reserved)
    for port in itertools.chain([preferred], others):
        try:
            listener = socket.create_server((HOST, port))
        except OSError:
            continue
        if port != preferred:
            tell(f"Port {preferred} is taken: {name} listens on {port}.")
        return listener
    raise DemoError(f"{name} must have a free port from {preferred} up, got none. Stop what listens there.")
