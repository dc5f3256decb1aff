"""A Celery application whose worker gives itself three tasks as soon as it is ready."""

import logging
import sys

from celery import Celery
from celery.signals import worker_ready
from opentelemetry import metrics, trace

app = Celery("tasks", broker="memory://")
app.conf.task_ignore_result = True


@app.task
def work(number: int) -> None:
    with trace.get_tracer("tasks").start_as_current_span(f"work {number}"):
        logging.getLogger("pools").warning("work %d", number)
        sys.stdout.write(f"worked {number}\n")
    metrics.get_meter("tasks").create_counter("work").add(1, {"number": number})


@worker_ready.connect
def give(**_: object) -> None:
    for number in range(3):
        work.delay(number)
