"""`make stack`: what it starts, and what it says where it cannot."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def engine(tmp_path):
    """Install a container engine that writes down what it is asked for, and cannot do all of it."""

    def install(cannot: str) -> None:
        program = tmp_path / "engine"
        program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\ncase "$2" in {cannot}) exit 1;; esac\n')
        program.chmod(0o755)

    return install


def stack(tmp_path, *words):
    """Return whether the door opened, what it said, and what it asked the engine for last."""
    done = subprocess.run(
        ["make", "-s", "stack", "COMPOSE=engine compose", *words],
        cwd=ROOT,
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    asked = tmp_path / "asked"
    return done.returncode == 0, done.stderr, asked.read_text().splitlines()[-1] if asked.exists() else ""


def test_it_starts_everything(tmp_path, engine):
    """Built and in the background."""
    engine("nothing")
    assert stack(tmp_path) == (True, "", "compose up --build --detach")


def test_it_stops_everything(tmp_path, engine):
    """Or does whatever else the engine can."""
    engine("nothing")
    assert stack(tmp_path, "ARGS=down --volumes") == (True, "", "compose down --volumes")


def test_it_says_that_there_is_no_engine(tmp_path):
    """And what to install."""
    started, said, _ = stack(tmp_path)
    assert not started
    assert said.startswith("make stack needs a container engine, and there is no engine here. Install Docker")


def test_it_says_that_the_engine_knows_no_compose(tmp_path, engine):
    """As a docker without its plugin."""
    engine("version")
    started, said, asked = stack(tmp_path)
    assert (started, asked) == (False, "compose version")
    assert said.startswith("make stack needs 'engine compose', which this engine does not have.")


def test_it_says_that_the_engine_does_not_run(tmp_path, engine):
    """Before it begins to build."""
    engine("ps")
    started, said, asked = stack(tmp_path)
    assert (started, asked) == (False, "compose ps --quiet")
    assert said.startswith("make stack needs a running container engine. Start it first.")
