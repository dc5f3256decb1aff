"""A process that emits what it is told to, for tests that look at what becomes of each."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from receiver import Received
from service import PATIENCE, Lines


class Emitter:
    """A process that emits the spans, or whatever its script has, that it is told to."""

    def __init__(self, env: dict[str, str], apps: Path, script: str = "emitter.py") -> None:
        self.process = subprocess.Popen(
            [sys.executable, script],
            env=env,
            cwd=apps,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = Lines(self.process.stdout), Lines(self.process.stderr)
        self._told = 0

    def tell(self, *lines: str) -> None:
        """Hand lines over, and wait until all of them are done."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()
        self._told += len(lines)
        self.stdout.wait_for(lambda said: len(said) >= self._told)

    def end(self) -> float:
        """Let it come to its end, and return how long that took; all that it said has been read then."""
        assert self.process.stdin is not None
        began = time.monotonic()
        self.process.stdin.close()
        status = self.process.wait(PATIENCE)
        took = time.monotonic() - began
        self.stderr.join(PATIENCE)
        assert status == 0, self.stderr.so_far()
        return took


def names(received: Received) -> list[str]:
    return sorted(span.name for span in received.spans)


def span_names(count: int, word: str = "span") -> list[str]:
    return sorted(f"{word} {number}" for number in range(count))


def once(wanted: list[str]) -> Callable[[Received], bool]:
    """Wait for as many; the picture is the caller's."""
    return lambda received: len(received.spans) >= len(wanted)
