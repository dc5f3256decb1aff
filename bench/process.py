"""Processes: each sample comes from one of its own, without what the caller's environment has by chance."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The last: what is started twice is compiled once, as it is wherever a package is installed.
_FOREIGN = ("OTEL_", "TERCET_", "DD_", "LOGFIRE_", "FASTAPI_", "BENCH_", "PYTHONDONTWRITEBYTECODE")


class RunError(RuntimeError):
    """A process ended otherwise than it should have; the message is the last that it said."""


def clean_environ(more: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment without what would set up telemetry, and with something more."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return own | dict(more)


def run_json(command: Sequence[str], environ: Mapping[str, str], timeout: float = 300) -> dict[str, Any]:
    """Run a command to its end, and read the JSON object on its last line.

    Raises:
        RunError: It failed, took too long, or printed something else.
    """
    try:
        run = subprocess.run(
            command,
            cwd=ROOT,
            env=clean_environ(environ),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"no end after {timeout:.0f} s") from error
    if run.returncode:
        raise RunError(last_line(run.stderr) or f"exit status {run.returncode}")
    try:
        found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise RunError(f"no JSON on stdout; on stderr: {last_line(run.stderr)}") from error
    return found


def last_line(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
