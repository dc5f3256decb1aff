"""Emit spans by name as lines come in on stdin, and answer each line; `fork 5` has five children emit one."""

import os
import sys
from collections.abc import Iterator

from opentelemetry import trace

from tercet import setup_observability

observability = setup_observability(
    "emitter", metrics_exporter="none", logs_exporter="none", log_format="off"
)
tracer = trace.get_tracer("emitter")


def emit(name: str) -> None:
    with tracer.start_as_current_span(name):
        pass


def fork(number: int) -> int:
    emit(f"parent {number}")
    child = os.fork()
    if child == 0:
        emit(f"child {number}")
        if number % 2:
            sys.exit(0)
        observability.force_flush(10)
        os._exit(0)
    return child


def words() -> Iterator[list[str]]:
    for line in sys.stdin:
        yield line.split()


for verb, *rest in words():
    if verb == "fork":
        for child in [fork(number) for number in range(int(rest[0]))]:
            os.waitpid(child, 0)
    elif verb == "flush":
        observability.force_flush(10)
    else:
        emit(" ".join([verb, *rest]))
    sys.stdout.write("done\n")
    sys.stdout.flush()
