"""Where nothing could be compiled, all is the same."""

import doctest
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tercet.fast import stand_in

HAS_COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]) is not None
HAS_HEADERS = (Path(sysconfig.get_path("include")) / "Python.h").exists()

SCRIPT = """
import logging, sys
if sys.argv[1] == "python":
    sys.modules["tercet.fast.twins"] = None
from tercet import setup_observability
from tercet.fast import stand_in
setup_observability("shop")
logging.getLogger("shop").warning("said", extra={"compiled": stand_in.is_compiled(), "äöü": 1.5})
"""


@pytest.mark.skipif(not (HAS_COMPILER and HAS_HEADERS), reason="Nothing can be compiled here.")
@pytest.mark.skipif(bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="It has no stable ABI yet.")
def test_what_can_be_compiled_is():
    """A mistake in it is not mistaken for a machine without a compiler."""
    assert stand_in.is_compiled()


@pytest.mark.parametrize(("way", "is_compiled"), [("python", False), ("c", stand_in.is_compiled())])
def test_a_line_is_written_with_twins_or_without(way, is_compiled):
    """And says what it should."""
    off = dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, way],
        env={**os.environ, "TERCET_LOG_FORMAT": "json", **off},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [json.loads(line) for line in run.stdout.splitlines() if '"said"' in line]
    assert (line["compiled"], line["äöü"], run.stderr) == (is_compiled, 1.5, "")


def test_a_twin_of_an_older_build_is_not_missed(monkeypatch):
    """As in a checkout that was compiled before the function was there: Python does it."""
    monkeypatch.setattr(stand_in, "twins", object())
    monkeypatch.setattr(stand_in, "in_python", {})
    assert stand_in.has_twin()(len) is len


def test_a_twin_that_must_know_something_else_is_not_used(monkeypatch):
    """As in a checkout that has changed since it was compiled."""

    class OlderTwins:
        def len(self, of):
            return 0

        def leave_to(self, name, function):
            """Take no more."""

    monkeypatch.setattr(stand_in, "twins", OlderTwins())
    monkeypatch.setattr(stand_in, "in_python", {})
    assert stand_in.has_twin("more")(len) is len


@pytest.mark.parametrize("name", sorted(stand_in.in_python))
def test_each_promise_holds(name):
    """A function of C has no docstring; the one of its twin is tried on it."""
    function = stand_in.in_python[name]
    results = [
        doctest.DocTestRunner().run(example)
        for example in doctest.DocTestFinder().find(function, name, globs=function.__globals__)
    ]
    assert sum(result.failed for result in results) == 0
