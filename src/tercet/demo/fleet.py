"""The demo's processes: started together, watched, broken on purpose, and never left behind."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from tercet.demo.catalog import ENVIRONMENT, GATEWAY, PORTS, RECEIVER, RECEIVER_PORT, WEBHOOK_PORT
from tercet.demo.ports import DemoError, Tell, hold, listen, listening, port_of, url_of
from tercet.demo.road import Road
from tercet.demo.sabotage import Sabotage

_START_SECONDS = 60.0
_STOP_SECONDS = 6.0
_TAIL_LINES = 10
#: Our own receiver knows of an order a moment after it was placed; others need not take in as much.
_SWIFTLY, _CALMLY = 0.25, 2.0
#: Who writes that telemetry cannot be delivered.
_DELIVERY_LOGGER = "tercet.export"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the processes start from.

    Attributes:
        directory: Where logs, the database and the marks of faults go.
        environ: The environment of the user.
        otlp: The base URL of an outside collector; None starts the receiver.
        environment: The `deployment.environment.name` of the services.
        detachable: Whether the collector can be taken away while they run.
    """

    directory: Path
    environ: Mapping[str, str]
    otlp: str | None = None
    environment: str = ENVIRONMENT
    detachable: bool = False

    @property
    def database(self) -> Path:
        """The file of the orders."""
        return self.directory / "orders.db"

    @property
    def marks(self) -> Path:
        """The folder with a file for each fault that a service makes itself while it is on."""
        return self.directory / "faults"


@dataclass(frozen=True, slots=True)
class Program:
    """How to start a process, as often as it must be."""

    name: str
    command: tuple[str, ...]
    directory: Path
    environ: Mapping[str, str]

    async def start(self, listener: socket.socket) -> "Member":
        """Start it, and hand the listening socket over to it."""
        log, port = self.directory / f"{self.name}.log", port_of(listener)
        # Leaving closes our copy of the socket: if the process ends, its callers see that at once.
        with listener, log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self.command, "--with-parent", f"--fd={listener.fileno()}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(listener.fileno(),),
                # A group of its own: Ctrl-C is the parent's business.
                process_group=0,
                env=self.environ,
            )
        return Member(self, port, process, log)


@dataclass(frozen=True, slots=True)
class Member:
    """One process, where it listens and where its output goes."""

    program: Program
    port: int
    process: asyncio.subprocess.Process
    log: Path

    @property
    def name(self) -> str:
        """Who it is."""
        return self.program.name

    @property
    def url(self) -> str:
        """Where it listens."""
        return url_of(self.port)

    def tail(self) -> str:
        """Return the last lines of its output under its name."""
        lines = self._lines()[-_TAIL_LINES:]
        return "\n".join([f"Last lines of {self.name}:", *(f"  {line}" for line in lines)])

    def complaints(self) -> list[str]:
        """Return what it has said of telemetry that it could not deliver."""
        said = [_parsed(line) for line in self._lines() if _DELIVERY_LOGGER in line]
        return [str(line["message"]) for line in said if line.get("logger") == _DELIVERY_LOGGER]

    def _lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()


class Fleet:
    """The running processes."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._held: dict[str, socket.socket] = {}

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
        await asyncio.gather(*(_answer(client, member) for member in self._members.values()))

    async def kill(self, name: str) -> None:
        """End a member at once; its callers are refused from then on."""
        member = self._members[name]
        await _kill(member.process)
        self._held[name] = hold(member.port)

    async def revive(self, name: str) -> None:
        """Start a member again that was killed, and return once it answers.

        Raises:
            DemoError: It ended, or took too long.
        """
        listener = listening(self._held.pop(name))
        self.add(await self._members[name].program.start(listener))
        async with httpx.AsyncClient(trust_env=False) as client:
            await _answer(client, self._members[name])

    def undelivered(self) -> dict[str, list[str]]:
        """Return what each member has said of telemetry that it could not deliver."""
        said = {name: member.complaints() for name, member in self._members.items()}
        return {name: lines for name, lines in said.items() if lines}

    def failure(self, reason: str) -> DemoError:
        """Build an error with the last output of whoever ended by itself, or else of the gateway."""
        ended = [
            member
            for name, member in self._members.items()
            if member.process.returncode is not None and name not in self._held
        ]
        tails = [member.tail() for member in ended or [self._members[GATEWAY]]]
        return DemoError("\n".join([reason, *tails]))

    async def stop(self) -> None:
        """End every process, the receiver last, so that it hears what the services still have to say."""
        for held in self._held.values():
            held.close()
        receiver = [member for name, member in self._members.items() if name == RECEIVER]
        services = [member for name, member in self._members.items() if name != RECEIVER]
        await _end(services)
        await _end(receiver)


@dataclass(frozen=True, slots=True)
class Stage:
    """A fleet, and what can be broken in it while it runs."""

    fleet: Fleet
    sabotage: Sabotage


@asynccontextmanager
async def running_fleet(surroundings: Surroundings, tell: Tell) -> AsyncIterator[Stage]:
    """Start the services, and the receiver unless there is an outside collector; end them on leaving.

    Args:
        surroundings: What they start from.
        tell: What to do with a notice.

    Raises:
        DemoError: There are no free ports, or the collector cannot be taken away as was asked for.
    """
    otlp = surroundings.otlp
    ports = PORTS if otlp else {RECEIVER: RECEIVER_PORT, **PORTS}
    listeners = listen(ports, tell, [WEBHOOK_PORT])
    urls = {name: url_of(port_of(listener)) for name, listener in listeners.items()}
    surroundings.marks.mkdir()
    fleet = Fleet()
    async with AsyncExitStack() as stack:
        road = Road(otlp or urls[RECEIVER]) if surroundings.detachable else None
        if road:
            await stack.enter_async_context(road)
        stack.push_async_callback(fleet.stop)
        for program in _programs(surroundings, urls, road.url if road else otlp or urls[RECEIVER]):
            fleet.add(await program.start(listeners[program.name]))
        sabotage = Sabotage(fleet, surroundings.marks, surroundings.database, road)
        stack.push_async_callback(sabotage.release)
        yield Stage(fleet, sabotage)


def _programs(surroundings: Surroundings, urls: Mapping[str, str], otlp: str) -> list[Program]:
    directory = surroundings.directory
    environ = surroundings.environ if surroundings.otlp else _isolated(surroundings.environ, directory)
    return [
        Program(name, command, directory, environ)
        for name, command in _commands(surroundings, urls, otlp).items()
    ]


def _isolated(environ: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Drop what would send telemetry elsewhere, sample it, or put a proxy before loopback."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("OTEL_", "TERCET_"))}
    settings = directory / "tercet.toml"
    settings.touch()
    return kept | {"TERCET_CONFIG": str(settings), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _commands(surroundings: Surroundings, urls: Mapping[str, str], otlp: str) -> dict[str, tuple[str, ...]]:
    options = (
        f"--otlp={otlp}",
        f"--database={surroundings.database}",
        f"--faults={surroundings.marks}",
        f"--environment={surroundings.environment}",
        f"--export-seconds={_CALMLY if surroundings.otlp else _SWIFTLY}",
        *(f"--peer={name}={url}" for name, url in urls.items()),
    )
    receiver: dict[str, tuple[str, ...]] = {RECEIVER: ("tercet.console",)} if RECEIVER in urls else {}
    return receiver | {name: ("tercet.demo", name, *options) for name in PORTS}


async def _answer(client: httpx.AsyncClient, member: Member) -> None:
    path = "/api/stats" if member.name == RECEIVER else "/health"
    try:
        # The socket listens before the process runs, so the request waits there: no polling.
        response = await client.get(member.url + path, timeout=_START_SECONDS)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise DemoError(f"{member.name} did not start: {error!r}.\n{member.tail()}") from error


def _parsed(line: str) -> dict[str, object]:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


async def _end(members: list[Member]) -> None:
    for member in members:
        if member.process.stdin:
            member.process.stdin.close()
    await asyncio.gather(*(_end_one(member.process) for member in members))


async def _end_one(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # It may have ended just now.
        process.kill()
    await process.wait()
