"""What a fork may not cut in two."""

import os
import threading

import pytest

from tercet.emit.forks import undivided

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork."),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_a_fork_waits_until_a_block_has_ended():
    """And its child can enter one."""
    begun, told, ended = threading.Event(), threading.Event(), []

    def work():
        with undivided():
            begun.set()
            told.wait(0.2)
            ended.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(30)
    child = os.fork()
    if child == 0:
        with undivided():
            os._exit(0 if ended else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_whoever_is_in_a_block_may_fork():
    """A signal's handler may do so in its midst."""
    with undivided():
        child = os.fork()
        if child == 0:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
