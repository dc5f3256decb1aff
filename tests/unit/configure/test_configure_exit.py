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
def flush():
    os.write(1, b"flushed\\n")
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
    assert ended("setup_exit(shutdown, flush)") == (0, ["shut down"])


def test_sys_exit_keeps_its_code():
    """Nothing of it is ours."""
    assert ended("setup_exit(shutdown, flush); sys.exit(3)") == (3, ["shut down"])


def test_sigterm_ends_the_process_as_it_would_have():
    """After the shutdown: its parent sees the signal."""
    code, lines = ended(f"setup_exit(shutdown, flush)\n{TERMINATE}")
    assert (code, lines) == (-signal.SIGTERM, ["shut down"])


def test_sigterm_ends_the_process_although_the_shutdown_fails():
    """A failure must not keep it alive."""
    process = subprocess.run(
        [sys.executable, "-c", f"{PRELUDE}\nsetup_exit(lambda: 1 / 0, flush)\n{TERMINATE}"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == -signal.SIGTERM


def test_sigterm_may_come_while_its_thread_holds_what_a_shutdown_needs():
    """As within a measurement: the thread lets go of it, and after that the signal has its meaning."""
    program = """
lock = threading.Lock()
def needs_the_lock():
    with lock:
        shutdown()
setup_exit(needs_the_lock, flush)
with lock:
    os.kill(os.getpid(), signal.SIGTERM)
while True:
    signal.pause()
"""
    assert ended(program) == (-signal.SIGTERM, ["shut down"])


def test_sigterm_is_what_ends_a_process_that_comes_to_its_end_meanwhile():
    """Its parent sees the signal, and what it has printed."""
    program = """
let_go = threading.Event()
setup_exit(lambda: (let_go.wait(10), shutdown()), flush)
os.kill(os.getpid(), signal.SIGTERM)
print("printed")
threading.Timer(0.1, let_go.set).start()
"""
    code, lines = ended(program)
    assert (code, sorted(set(lines))) == (-signal.SIGTERM, ["printed", "shut down"])


def test_whoever_has_taken_sigterm_keeps_it():
    """What is waiting is sent first, for it may end the process at once; the shutdown comes in the end."""
    taken = "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(5)))"
    assert ended(f"{taken}\nsetup_exit(shutdown, flush)\n{TERMINATE}") == (
        5,
        ["flushed", "mine", "shut down"],
    )


def test_whoever_has_taken_sigterm_may_end_at_once():
    """Nothing is lost then."""
    taken = "signal.signal(signal.SIGTERM, lambda *_: os._exit(5))"
    assert ended(f"{taken}\nsetup_exit(shutdown, flush)\n{TERMINATE}") == (5, ["flushed"])


def test_whoever_takes_sigterm_later_has_it():
    """And ends the process in its own way."""
    taken = "signal.signal(signal.SIGTERM, lambda *_: (print('mine', flush=True), sys.exit(5)))"
    assert ended(f"setup_exit(shutdown, flush)\n{taken}\n{TERMINATE}") == (5, ["mine", "shut down"])


def test_whoever_takes_sigterm_later_may_call_who_had_it():
    """The process goes on as if nobody had had it."""
    taken = """
earlier = signal.getsignal(signal.SIGTERM)
signal.signal(signal.SIGTERM, lambda *each: (print("mine", flush=True), earlier(*each)))
os.kill(os.getpid(), signal.SIGTERM)
print("alive", flush=True)
"""
    assert ended(f"setup_exit(shutdown, flush)\n{taken}") == (0, ["mine", "flushed", "alive", "shut down"])


def test_whoever_ignores_sigterm_goes_on_ignoring_it():
    """Then it does not end."""
    ignored = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"""
{ignored}
setup_exit(shutdown, flush)
os.kill(os.getpid(), signal.SIGTERM)
print("alive", flush=True)
"""
    assert ended(code) == (0, ["alive", "shut down"])


def test_another_thread_may_set_up():
    """It cannot take signals; the end of the program is still seen."""
    code = (
        "thread = threading.Thread(target=setup_exit, args=(shutdown, flush)); thread.start(); thread.join()"
    )
    assert ended(code) == (0, ["shut down"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_child_ends_as_its_parent_does():
    """Both shut down, each once."""
    code = f"""
setup_exit(shutdown, flush)
child = os.fork()
if child == 0:
    {TERMINATE.replace(chr(10), chr(10) + "    ")}
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0x7F)
"""
    assert ended(code) == (-signal.SIGTERM & 0x7F, ["shut down"])


FORKING = """
import multiprocessing
def work():
    print("worked", flush=True)
if __name__ == "__main__":
    context = multiprocessing.get_context("{how}")
    {setup}
    process = context.Process(target=work)
    process.start()
    process.join()
    os.write(1, b"joined\\n")
    os._exit(process.exitcode)
"""


@pytest.mark.parametrize("package", ["multiprocessing", "billiard"])
def test_a_child_of_multiprocessing_shuts_down(package):
    """Although it ends without `atexit`."""
    pytest.importorskip(package)
    code = FORKING.format(how="fork", setup="setup_exit(shutdown, flush)")
    assert ended(code.replace("multiprocessing", package)) == (0, ["worked", "shut down", "joined"])


def test_a_child_of_multiprocessing_that_sets_itself_up_shuts_down():
    """Its finalizers have been asked for by then."""
    code = FORKING.format(how="fork", setup="pass").replace(
        "def work():", "def work():\n    setup_exit(shutdown, flush)"
    )
    status, (first, *ends, last) = ended(code)
    assert (status, first, set(ends), last) == (
        0,
        "worked",
        {"shut down"},
        "joined",
    )  # from 3.13, by atexit too
