"""The variants: ways to observe the same service, each with its launcher, its variables and its environment.

Each is set up as its own documentation says and keeps its own defaults; only the address, the name of the
service and the number of lines a request are the same for all.
"""

import functools
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import ROOT

_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
_OWN_LINE = {"BENCH_FORMATS_ITSELF": "1"}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> str:
        return self.script("python")

    def script(self, name: str) -> str:
        """Name a command that is installed in it."""
        return str(self.folder / "bin" / name)

    @functools.cache  # noqa: B019 - a handful of them, for the life of the process
    def versions(self, *packages: str) -> dict[str, str]:
        """Say which version of each package it has; those that it lacks are left out."""
        try:
            command = [self.python, "-c", _VERSIONS, *packages]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return {}
        found: dict[str, str] = json.loads(run.stdout)
        return found


MAIN = Environment(Path(sys.prefix))


def _own(name: str) -> Environment:
    return Environment(ROOT / ".cache" / f"bench-{name}")


@dataclass(frozen=True)
class Variant:
    """One way to observe the service.

    Attributes:
        key: What the command line calls it.
        name: What the table calls it.
        launcher: What is written before the command.
        environ: Variables; `{url}` stands for the address of the counting server.
        packages: Whose versions make it what it is; it is left out where one is missing.
        environment: Where it is installed.
        sends: What the counting server gets, beside one line on stdout: spans, traces, logs, points.
        note: What a reader must know to compare it.
    """

    key: str
    name: str
    launcher: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    environment: Environment = MAIN
    sends: tuple[str, ...] = ("server_spans", "logs", "points")
    note: str = ""

    def command(self, *arguments: str) -> list[str]:
        """Say how to run Python with the variant at work."""
        launcher = [self.environment.script(self.launcher[0]), *self.launcher[1:]] if self.launcher else []
        return [*launcher, self.environment.python, *arguments]

    def variables(self, url: str) -> dict[str, str]:
        """Return the variables it is started with, for a counting server at an address."""
        return {"BENCH_COUNTER": url} | {name: value.format(url=url) for name, value in self.environ.items()}

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages; some are missing where it is not installed."""
        return self.environment.versions("fastapi", *self.packages)

    def is_installed(self) -> bool:
        return len(self.versions()) == 1 + len(self.packages)


_OTLP = {
    "OTEL_SERVICE_NAME": "orders",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "{url}",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
}
_SDK = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
_CONTRIB = (
    "opentelemetry-distro",
    "opentelemetry-instrumentation-fastapi",
    "opentelemetry-instrumentation-logging",
)

BARE = Variant("bare", "bare FastAPI", environ=_OWN_LINE, sends=())
UPSTREAM = Variant(
    "upstream",
    "`opentelemetry-instrument`",
    launcher=("opentelemetry-instrument",),
    environ=_OTLP
    | _OWN_LINE
    | {
        # It would choose tercet otherwise, which is installed beside it.
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    },
    packages=(*_SDK, *_CONTRIB),
)
TERCET = Variant(
    "tercet",
    "tercet",
    launcher=("tercet", "run", "--"),
    # Each variant writes one line a request, and this one would write two.
    environ=_OTLP | {"TERCET_LOG_FORMAT": "json", "TERCET_ACCESS_LOG": "false"},
    packages=("tercet",),
    note="its own line, with the ids of trace, span and correlation",
)
VARIANTS = (
    BARE,
    Variant(
        "prometheus",
        "prometheus-fastapi-instrumentator + asgi-correlation-id",
        environ=_OWN_LINE | {"BENCH_SETUP": "prometheus"},
        packages=("prometheus-fastapi-instrumentator", "asgi-correlation-id"),
        environment=_own("prometheus"),
        sends=(),
        note="metrics to be scraped and an id on log records; no traces, nothing is sent",
    ),
    Variant(
        "native",
        "FastAPI native + SDK",
        environ=_OTLP | _OWN_LINE | {"BENCH_SETUP": "native"},
        packages=(*_SDK, "opentelemetry-instrumentation-logging"),
    ),
    UPSTREAM,
    TERCET,
    Variant(
        "logfire",
        "logfire",
        environ=_OTLP | _OWN_LINE | {"BENCH_SETUP": "logfire", "LOGFIRE_IGNORE_NO_CONFIG": "1"},
        packages=("logfire",),
        environment=_own("logfire"),
        note="OTLP to the same server, not to its cloud; its log records are spans, and counted as records",
    ),
    Variant(
        "ddtrace",
        "ddtrace",
        launcher=("ddtrace-run",),
        environ=_OWN_LINE
        | {
            "DD_TRACE_AGENT_URL": "{url}",
            "DD_SERVICE": "orders",
            "DD_LOGS_INJECTION": "true",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
            "DD_CRASHTRACKING_ENABLED": "false",
        },
        packages=("ddtrace",),
        environment=_own("ddtrace"),
        sends=("traces",),
        note="traces to a sink in place of its agent, which would make the metrics and read the log lines",
    ),
)
ESSENTIAL = (BARE, UPSTREAM, TERCET)
