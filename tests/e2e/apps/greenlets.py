"""Many greenlets at once, each with a span and a record of its own, in a process that gevent has patched."""

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402 - all of this comes after the patch, as gevent wants it
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from opentelemetry import metrics, trace  # noqa: E402

if "bare" not in sys.argv:
    from tercet import setup_observability

    setup_observability("greenlets", log_format="off")
work = metrics.get_meter("greenlets").create_counter("work")


def act(number: int) -> None:
    with trace.get_tracer("greenlets").start_as_current_span(f"work {number}"):
        gevent.sleep(0.01)
        logging.getLogger("greenlets").warning("work %d", number)
        work.add(1)


longest = 0.0


def watch() -> None:
    global longest  # noqa: PLW0603
    while True:
        began = time.monotonic()
        gevent.sleep(0.01)
        longest = max(longest, time.monotonic() - began)


gevent.spawn(watch)
for start in range(0, 300, 30):
    gevent.joinall([gevent.spawn(act, number) for number in range(start, start + 30)])
    gevent.sleep(0.1)
sys.stdout.write(f"longest {longest:.3f}\n")
