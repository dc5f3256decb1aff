"""Turns: processes that are all there from the start, and measure a little each time they are asked.

A machine whose speed changes by the second changes it for all of them, so that differences between them are
worth more than between processes that run one after the other.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from bench.counter import receiver
from bench.process import ROOT, RunError, clean_environ
from bench.request import Run
from bench.rounds import Sample, Samples, interleave
from bench.variants import Variant

Player = tuple[Variant, Run]


def take_turns(part: str, players: Mapping[str, Player], turns: int) -> Samples:
    """Let each player measure once a turn, and collect what each measured; one that fails is left out.

    Args:
        part: What is measured, for those who watch.
        players: Whom, and under which load, by name.
        turns: How often.
    """
    with ExitStack() as stack:
        jobs = {name: stack.enter_context(_seat(*player)) for name, player in players.items()}
        return interleave(part, jobs, turns, tell_every=20)


@contextmanager
def _seat(variant: Variant, run: Run) -> Iterator[Callable[[], Sample]]:
    """Start a variant, and give what lets it measure once."""
    with receiver() as server:
        process = subprocess.Popen(
            variant.command("-m", "bench.request", run.text()),
            cwd=ROOT,
            env=clean_environ(variant.variables(server.url)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            yield lambda: _ask(process)
        finally:
            process.kill()
            process.communicate()


def _ask(process: "subprocess.Popen[str]") -> Sample:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except OSError as error:
        raise RunError("it has ended") from error
    for line in process.stdout:
        figures: Sample = json.loads(line)
        if "microseconds" in figures:  # and no line that was logged while it was set up
            return figures
    raise RunError("it has ended")
