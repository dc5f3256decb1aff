"""Fork at any moment: threads measure, trace, log, collect and export while children come and go.

Each child says one thing in each signal, and ends by itself or at once; one that hangs is killed and named.
"""

import faulthandler
import logging
import os
import signal
import sys
import threading
import time

from opentelemetry import metrics, trace

from tercet import setup_observability

FORKS, AT_ONCE, HANGS = int(sys.argv[1]), 4, 60.0

observability = setup_observability("forker", log_format="off")
tracer, logger = trace.get_tracer("forker"), logging.getLogger("forker")
meter = metrics.get_meter("forker")
work = meter.create_counter("work")
seconds = meter.create_histogram("seconds")


def hammer() -> None:
    while True:
        for number in range(100):
            seconds.record(number % 7, {"who": f"parent {number % 10}"})
        with tracer.start_as_current_span("parent"):
            logger.info("parent")
        time.sleep(0.01)  # it is the moments that count, not the load


def collect() -> None:
    while True:
        observability.force_flush(5)
        time.sleep(0.05)


def child(number: int) -> None:
    faulthandler.dump_traceback_later(HANGS * 0.9, exit=False)
    work.add(1)
    seconds.record(1, {"who": "child"})
    with tracer.start_as_current_span("child"):
        logger.info("child")
    if number % 2:
        sys.exit(0)
    os._exit(not observability.force_flush(HANGS / 2))


def reap(running: dict[int, float], down_to: int) -> int:
    hung = 0
    while len(running) > down_to:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            del running[pid]
            hung += status != 0
        else:
            for late in [each for each, began in running.items() if time.monotonic() - began > HANGS]:
                os.kill(late, signal.SIGKILL)
            time.sleep(0.001)
    return hung


work.add(100)
for target in (hammer, hammer, collect):
    threading.Thread(target=target, daemon=True).start()
running: dict[int, float] = {}
hung = 0
for number in range(FORKS):
    pid = os.fork()
    if pid == 0:
        child(number)
    running[pid] = time.monotonic()
    hung += reap(running, AT_ONCE - 1)
hung += reap(running, 0)
sys.stdout.write(f"hung {hung}\n")
sys.stdout.flush()
os._exit(0)  # what the parent said is not what is looked at
