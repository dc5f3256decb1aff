"""A script: one span of its own, one counter, one log line, and the end."""

import logging

from opentelemetry import metrics, trace


def main() -> None:
    with trace.get_tracer("script").start_as_current_span("nightly report"):
        metrics.get_meter("script").create_counter("reports").add(1)
        logging.getLogger("script").info("report written")


if __name__ == "__main__":
    main()
