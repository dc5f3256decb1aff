"""Emit a little of everything, again and again, until somebody ends it."""

import logging
import time

from opentelemetry import metrics, trace

from tercet import setup_observability

setup_observability("steady", log_format="off")
counter = metrics.get_meter("steady").create_counter("work")
while True:
    with trace.get_tracer("steady").start_as_current_span("work"):
        logging.getLogger("steady").info("work")
    for number in range(4):
        counter.add(1, {"number": number})
    time.sleep(0.02)
