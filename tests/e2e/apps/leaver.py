"""Fill the queues of all signals, and come to an end without waiting for anything.

Arguments: how many spans, and how to end: `end`, or `sigterm`, which must then come.
"""

import logging
import signal
import sys

from opentelemetry import metrics, trace

from tercet import setup_observability

setup_observability("leaver", log_format="off")
tracer, logger = trace.get_tracer("leaver"), logging.getLogger("leaver")
for number in range(int(sys.argv[1])):
    with tracer.start_as_current_span(f"span {number}"):
        logger.info("record %d", number)
metrics.get_meter("leaver").create_counter("work").add(1)
sys.stdout.write("ending\n")
sys.stdout.flush()
if sys.argv[2] == "sigterm":
    signal.pause()
