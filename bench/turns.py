"""Turns: processes that are all there from the start, and measure a little each time they are asked.

A machine whose speed changes by the second changes it for all of them, so that differences between them are
worth more than between processes that run one after the other. Each process is a little faster or slower for
all of its life, by where its memory happens to be; so there are new ones each round.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

from bench.counter import receiver
from bench.process import ROOT, RunError, clean_environ, last_line
from bench.request import Run
from bench.rounds import Sample, Samples, interleave
from bench.variants import Variant

Player = tuple[Variant, Run]
_FIGURES = '{"microseconds"'
_PATIENCE = 120.0


def take_turns(part: str, players: Mapping[str, Player], turns: int, rounds: int) -> Samples:
    """Let each player measure once a turn, and collect what each measured; one that fails is left out.

    Args:
        part: What is measured, for those who watch.
        players: Whom, and under which load, by name.
        turns: How often in one round.
        rounds: How often each player is another process.
    """
    samples: Samples = {name: [] for name in players}
    for number in range(rounds):
        with ExitStack() as stack:
            seated = {name: stack.enter_context(_seat(*players[name])) for name in samples}
            found = interleave(f"{part}, round {number + 1}", seated, 1 + turns, tell_every=20)
        # In the first turn, those who come later are still being set up.
        samples = {
            name: samples[name] + [sample | {"seat": number} for sample in taken[1:]]
            for name, taken in found.items()
        }
    return samples


@contextmanager
def _seat(variant: Variant, run: Run) -> Iterator[Callable[[], Sample]]:
    """Start a variant, and give what lets it measure once."""
    with receiver() as server, TemporaryFile("w+") as said:
        process = subprocess.Popen(
            variant.command("-m", "bench.request", run.text()),
            cwd=ROOT,
            env=clean_environ(variant.variables(server.url)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        try:
            yield lambda: _ask(process, said) | {"requests": run.requests, "received": server.counts()}
        finally:
            process.kill()
            process.communicate()


def _ask(process: "subprocess.Popen[str]", said: IO[str]) -> Sample:
    assert process.stdin is not None
    assert process.stdout is not None
    patience = Timer(_PATIENCE, process.kill)
    patience.start()
    try:
        process.stdin.write("\n")
        process.stdin.flush()
        # What it logged while it was set up stands before its figures.
        line = next(line for line in process.stdout if line.startswith(_FIGURES))
    except (OSError, StopIteration) as error:
        process.wait()
        said.seek(0)
        raise RunError(last_line(said.read()) or f"exit status {process.returncode}") from error
    finally:
        patience.cancel()
    figures: Sample = json.loads(line)
    return figures
