"""The demo's processes: started together, watched, and never left behind."""

import asyncio
import itertools
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tercet.demo.catalog import GATEWAY, PORTS, RECEIVER, RECEIVER_PORT
from tercet.errors import TercetError

_START_SECONDS = 30.0
_STOP_SECONDS = 6.0
_TAIL_LINES = 10

Tell = Callable[[str], None]


class DemoError(TercetError):
    """Say why the demo failed."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process, where it listens and where its output goes."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    log: Path

    def tail(self) -> str:
        """Return the last lines of its output under its name."""
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join([f"Last lines of {self.name}:", *(f"  {line}" for line in lines)])


class Fleet:
    """The running processes."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def add(self, member: Member) -> None:
        """Take a process in, so that it is stopped with the others."""
        self._members[member.name] = member

    def url(self, name: str) -> str:
        """Return where a member listens."""
        return self._members[name].url

    async def wait_until_ready(self, client: httpx.AsyncClient) -> None:
        """Return once every member answers.

        Raises:
            DemoError: A member ended, or took too long.
        """
        await asyncio.gather(*(self._answer(client, member) for member in self._members.values()))

    def failure(self, reason: str) -> DemoError:
        """Build an error with the last output of whoever ended, or else of the gateway."""
        ended = [member for member in self._members.values() if member.process.returncode is not None]
        tails = [member.tail() for member in ended or [self._members[GATEWAY]]]
        return DemoError("\n".join([reason, *tails]))

    async def stop(self) -> None:
        """End every process, the receiver last, so that it hears what the services still have to say."""
        receiver = [member for name, member in self._members.items() if name == RECEIVER]
        services = [member for name, member in self._members.items() if name != RECEIVER]
        await _end(services)
        await _end(receiver)

    async def _answer(self, client: httpx.AsyncClient, member: Member) -> None:
        path = "/api/stats" if member.name == RECEIVER else "/health"
        try:
            # The socket listens before the process runs, so the request waits there: no polling.
            response = await client.get(member.url + path, timeout=_START_SECONDS)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise DemoError(f"{member.name} did not start: {error!r}.\n{member.tail()}") from error


@asynccontextmanager
async def running_fleet(
    directory: Path, environ: Mapping[str, str], otlp: str | None, tell: Tell
) -> AsyncIterator[Fleet]:
    """Start the services, and the receiver unless `otlp` names an outside collector; end them on leaving.

    Args:
        directory: Where logs and the database go.
        environ: The environment of the user.
        otlp: The base URL of an outside collector.
        tell: What to do with a notice.
    """
    ports = PORTS if otlp else {RECEIVER: RECEIVER_PORT, **PORTS}
    listeners = _listen(ports, tell)
    urls = {name: f"http://127.0.0.1:{listener.getsockname()[1]}" for name, listener in listeners.items()}
    environment = dict(environ) if otlp else _isolated(environ, directory)
    commands = _commands(urls, otlp or urls[RECEIVER], directory)
    fleet = Fleet()
    try:
        for name, command in commands.items():
            fleet.add(await _start(name, command, listeners[name], directory, environment))
        yield fleet
    finally:
        await fleet.stop()


def _isolated(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Drop what would send telemetry elsewhere, sample it, or put a proxy before loopback."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("OTEL_", "TERCET_"))}
    settings = directory / "tercet.toml"
    settings.touch()
    return kept | {"TERCET_CONFIG": str(settings), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _listen(ports: Mapping[str, int], tell: Tell) -> dict[str, socket.socket]:
    return {name: _listener(name, port, set(ports.values()), tell) for name, port in ports.items()}


def _listener(name: str, preferred: int, reserved: set[int], tell: Tell) -> socket.socket:
    others = (port for port in range(preferred + 1, 65536) if port not in reserved)
    for port in itertools.chain([preferred], others):
        try:
            listener = socket.create_server(("127.0.0.1", port))
        except OSError:
            continue
        if port != preferred:
            tell(f"Port {preferred} is taken: {name} listens on {port}.")
        return listener
    raise DemoError(f"{name} must have a free port from {preferred} up, got none. Stop what listens there.")


def _commands(urls: Mapping[str, str], otlp: str, directory: Path) -> dict[str, list[str]]:
    peers = [f"--peer={name}={url}" for name, url in urls.items()]
    options = [f"--otlp={otlp}", f"--database={directory / 'orders.db'}", *peers]
    receiver = {RECEIVER: ["tercet.console"]} if RECEIVER in urls else {}
    return receiver | {name: ["tercet.demo", name, *options] for name in PORTS}


async def _start(
    name: str, command: list[str], listener: socket.socket, directory: Path, environment: Mapping[str, str]
) -> Member:
    log = directory / f"{name}.log"
    port = listener.getsockname()[1]
    # Leaving closes our copy of the socket: if the process ends, its callers see that at once.
    with listener, log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *command, "--with-parent", f"--fd={listener.fileno()}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(listener.fileno(),),
            # A group of its own: Ctrl-C is the parent's business.
            process_group=0,
            env=environment,
        )
    return Member(name, f"http://127.0.0.1:{port}", process, log)


async def _end(members: list[Member]) -> None:
    for member in members:
        if member.process.stdin:
            member.process.stdin.close()
    await asyncio.gather(*(_end_one(member.process) for member in members))


async def _end_one(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
