"""(c) Start-up: time and peak memory of a whole process that does nothing but set up telemetry and end."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.counter import receiver
from bench.process import run_json
from bench.rounds import Sample, Samples, interleave
from bench.variants import MAIN, TERCET, UPSTREAM, VARIANTS, Variant

_STOPWATCH = ("-I", "-S", "-s", str(Path(__file__).with_name("stopwatch.py")))
_PROVIDERS = """
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
"""
_LOGFIRE = "import logfire; logfire.configure(send_to_logfire=False, console=False)"
_BY_KEY = {variant.key: variant for variant in VARIANTS}
#: The program that the bar is about.
SETUP = '`setup_observability("orders")`'


@dataclass(frozen=True)
class Program:
    """A program that does nothing but start.

    Attributes:
        name: What the table calls it.
        command: How it is run.
        variant: Whose variables and environment it has.
    """

    name: str
    command: Sequence[str]
    variant: Variant


def programs() -> list[Program]:
    """List what is started."""
    logfire, ddtrace = _BY_KEY["logfire"], _BY_KEY["ddtrace"]
    in_code = 'from tercet import setup_observability; setup_observability("orders")'
    return [
        Program("Python alone", (MAIN.python, "-c", "pass"), _BY_KEY["bare"]),
        Program("importing the SDK's three providers", (MAIN.python, "-c", _PROVIDERS), _BY_KEY["bare"]),
        Program(SETUP, (MAIN.python, "-c", in_code), TERCET),
        Program("`tercet run`", TERCET.command("-c", "pass"), TERCET),
        Program("`opentelemetry-instrument`", UPSTREAM.command("-c", "pass"), UPSTREAM),
        Program("`logfire.configure`", (logfire.environment.python, "-c", _LOGFIRE), logfire),
        Program("`ddtrace-run`", ddtrace.command("-c", "pass"), ddtrace),
    ]


def measure(variants: Sequence[Variant], rounds: int) -> Samples:
    """Start each program once a round; the round before the first fills the caches of files."""
    known = [program for program in programs() if program.variant in variants]
    jobs = {program.name: functools.partial(measure_once, program) for program in known}
    samples = interleave("start-up", jobs, 1 + rounds)
    return {name: figures[1:] for name, figures in samples.items()}


def measure_once(program: Program) -> Sample:
    """Start a program, with the counting server there to take what it sends when it ends."""
    with receiver() as server:
        stopwatch = (MAIN.python, *_STOPWATCH, *program.command)
        return run_json(stopwatch, program.variant.variables(server.url))
