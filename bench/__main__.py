"""Measure each variant in turn, round by round, so that the drift of the machine cancels; print a table.

Beside the cost stands what a local receiver saw: a variant is only as cheap as it is complete.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PYTHON = sys.executable
COMMON = {"OTEL_SERVICE_NAME": "bench", "OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_BLRP_SCHEDULE_DELAY": "500"}
UPSTREAM = {
    "OTEL_PYTHON_DISTRO": "distro",
    "OTEL_PYTHON_CONFIGURATOR": "configurator",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "BENCH_FORMATS_ITSELF": "1",
}
LAUNCH = "import opentelemetry.instrumentation.auto_instrumentation as agent; agent.run()"


@dataclass(frozen=True)
class Variant:
    """One way to observe the same requests."""

    name: str
    launcher: tuple[str, ...]
    environ: dict[str, str]


@dataclass
class Result:
    """What the rounds of a variant measured."""

    microseconds: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    spans: int = 0
    log_records: int = 0


VARIANTS = (
    Variant("bare FastAPI, one log line", (), {"OTEL_SDK_DISABLED": "true", "BENCH_FORMATS_ITSELF": "1"}),
    Variant("opentelemetry-instrument, three signals", (PYTHON, "-c", LAUNCH), UPSTREAM),
    Variant(
        "tercet, three signals",
        (PYTHON, "-m", "tercet.cli.main", "run", "--"),
        {"TERCET_LOG_FORMAT": "json", "TERCET_ACCESS_LOG": "false"},
    ),
)


@contextmanager
def receiver() -> Iterator[str]:
    """Run the embedded receiver, and yield its address."""
    command = [PYTHON, "-m", "tercet.console", "--port", "0", "--with-parent"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        process.wait(10)


def received(url: str) -> tuple[int, int]:
    """Return how many spans and log records the receiver has seen."""
    with urllib.request.urlopen(f"{url}/api/stats") as answer:
        stats = json.load(answer)
    return stats["traces"]["received"], stats["logs"]["received"]


def measure(variant: Variant, requests: int, result: Result) -> None:
    """Run a variant once, and add what it measured."""
    with receiver() as url:
        environ = os.environ | COMMON | {"OTEL_EXPORTER_OTLP_ENDPOINT": url} | variant.environ
        command = [*variant.launcher, PYTHON, "-m", "bench.request", str(requests)]
        run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        figures = json.loads(run.stdout.splitlines()[-1])
        spans, log_records = received(url)
    result.microseconds.append(figures["microseconds"])
    result.megabytes.append(figures["megabytes"])
    result.spans, result.log_records = spans, log_records


def table(results: dict[str, Result], requests: int) -> Iterator[str]:
    """Render the results, each against the first."""
    bare = statistics.median(next(iter(results.values())).microseconds)
    upstream = statistics.median(results[VARIANTS[1].name].microseconds) - bare
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    yield f"{requests} requests a round; {machine}\n"
    yield "| variant | µs CPU a request | tax over bare | tax ÷ upstream's | memory | spans, logs received |"
    yield "|---|---|---|---|---|---|"
    for name, result in results.items():
        cost = statistics.median(result.microseconds)
        tax, share = ("-", "-") if cost == bare else (f"{cost - bare:.0f}", f"{(cost - bare) / upstream:.2f}")
        memory = f"{statistics.median(result.megabytes):.0f} MB"
        yield f"| {name} | {cost:.0f} | {tax} | {share} | {memory} | {result.spans}, {result.log_records} |"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = {variant.name: Result() for variant in VARIANTS}
    for number in range(options.rounds):
        for variant in VARIANTS:
            print(f"round {number + 1} of {options.rounds}: {variant.name}", file=sys.stderr)
            measure(variant, options.requests, results[variant.name])
    if options.json:
        print(json.dumps({name: vars(result) for name, result in results.items()}, indent=2))
    else:
        print("\n".join(table(results, options.requests)))


if __name__ == "__main__":
    main()
