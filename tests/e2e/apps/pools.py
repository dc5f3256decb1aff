"""Have children do one piece of work each, in the way that is asked for; work is seen in all three signals.

With `bare` before the way, telemetry is set up by whoever starts this; else here, in each process.
"""

import concurrent.futures
import logging
import multiprocessing
import os
import sys

from opentelemetry import metrics, trace

if "bare" not in sys.argv:
    from tercet import setup_observability

    setup_observability("pools", log_format="off")
CHILDREN = 3


def work(number: int) -> int:
    with trace.get_tracer("pools").start_as_current_span(f"work {number}"):
        logging.getLogger("pools").warning("work %d", number)
    metrics.get_meter("pools").create_counter("work").add(1, {"number": number})
    return os.getpid()


def in_processes(package: str, start_method: str) -> None:
    context = __import__(package).get_context(start_method)
    processes = [context.Process(target=work, args=(number,)) for number in range(CHILDREN)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def in_a_pool(start_method: str, end: str) -> None:
    with multiprocessing.get_context(start_method).Pool(CHILDREN) as pool:
        pool.map(work, range(CHILDREN), chunksize=1)
        if end == "close":
            pool.close()
            pool.join()


def in_an_executor(start_method: str) -> None:
    context = multiprocessing.get_context(start_method)
    with concurrent.futures.ProcessPoolExecutor(CHILDREN, mp_context=context) as pool:
        list(pool.map(work, range(CHILDREN)))


if __name__ == "__main__":
    way, *details = sys.argv[-1].split("-")
    {"process": in_processes, "pool": in_a_pool, "executor": in_an_executor}[way](*details)
    os._exit(0)  # nothing may come from here
