"""Serve a number of requests as fast as they leave the queues; say by how many bytes the process has grown.

Arguments: how many requests, and the attribute of each one's span and record: a word, repeated so many times.
"""

import logging
import os
import signal
import sys
import time

from opentelemetry import trace

from tercet import setup_observability

REQUESTS, LENGTH = int(sys.argv[1]), int(sys.argv[2])
HALF_FULL = 4_000

observability = setup_observability("flood", metrics_exporter="none", log_format="off")
tracer, logger = trace.get_tracer("flood"), logging.getLogger("flood")


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve(number: int) -> None:
    attributes = {"http.route": "/orders/{order_id}", "url.path": f"/orders/{number}", "text": "x" * LENGTH}
    with tracer.start_as_current_span("GET /orders/{order_id}", attributes=attributes):
        logger.info("order %d read %s", number, attributes["text"])


def waiting() -> int:
    return max(each.account().waiting for each in observability.exporters().values())


for number in range(1_000):  # what a process grows by at first is not what is looked at
    serve(number)
observability.force_flush(10)
before = highest = resident()
for number in range(1_000, REQUESTS):
    serve(number)
    if number % 250 == 0:
        highest = max(highest, resident())
        while LENGTH < 100 and waiting() > HALF_FULL:  # two hundred a second would not come to that
            time.sleep(0.005)
observability.force_flush(10)
highest = max(highest, resident())
accounts = {signal: each.account() for signal, each in observability.exporters().items()}
dropped = {signal: dict(account.dropped) for signal, account in accounts.items()}
sys.stdout.write(f"{highest - before} {sum(sum(each.values()) for each in dropped.values())} {dropped}\n")
sys.stdout.flush()
signal.pause()  # until it is killed
