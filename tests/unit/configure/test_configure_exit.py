"""The end of a process: the shutdown is called however it goes, and whoever was there before is honoured."""

import os
import signal
import subprocess
import sys

import pytest

PRELUDE = """
import os, signal, sys, threading
from tercet.configure.exit import setup_exit
def shutdown():
    os.write(1, b"shut down\\n")
"""
TERMINATE = "os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()"


def ended(code):
    """Run a program; return how it ended, and what it wrote."""
    process = subprocess.run(
        [sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=20, check=False
    )
    assert process.stderr == ""
    return process.returncode, process.stdout.split("\n")[:-1]


def test_the_end_of_the_program():
    """Once."""
    assert ended("setup_exit(shutdown)") == (0, ["shut down"])


def test_sys_exit_keeps_its_code():
    """Nothing of it is ours."""
    assert ended("setup_exit(shutdown); sys.exit(3)") == (3, ["shut down"])


def test_sigterm_ends_the_process_as_it_would_have():
    """After the shutdown: its parent sees the signal."""
    code, lines = ended(f"setup_exit(shutdown)\n{TERMINATE}")
    assert (code, lines) == (-signal.SIGTERM, ["shut down"])


def test_sigterm_ends_the_process_although_the_shutdown_fails():
    """A failure must not keep it alive."""
    process = subprocess.run(
        [sys.executable, "-c", f"{PRELUDE}\nsetup_exit(lambda: 1 / 0)\n{TERMINATE}"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == -signal.SIGTERM


def test_whoever_has_taken_sigterm_keeps_it():
    """It ends by itself, and the shutdown comes then."""
    taken = "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(5)))"
    assert ended(f"{taken}\nsetup_exit(shutdown)\n{TERMINATE}") == (5, ["mine", "shut down"])


def test_whoever_ignores_sigterm_goes_on_ignoring_it():
    """Then it does not end."""
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = (
        f"{ignored}\nsetup_exit(shutdown)\nos.kill(os.getpid(), signal.SIGTERM)\nprint('alive', flush=True)"
    )
    assert ended(code) == (0, ["alive", "shut down"])


def test_another_thread_may_set_up():
    """It cannot take signals; the end of the program is still seen."""
    code = "thread = threading.Thread(target=setup_exit, args=(shutdown,)); thread.start(); thread.join()"
    assert ended(code) == (0, ["shut down"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_child_ends_as_its_parent_does():
    """Both shut down, each once."""
    code = f"""
setup_exit(shutdown)
child = os.fork()
if child == 0:
    {TERMINATE.replace(chr(10), chr(10) + "    ")}
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0x7F)
"""
    assert ended(code) == (-signal.SIGTERM & 0x7F, ["shut down"])
