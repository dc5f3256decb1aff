"""Emit numbered log records and count them, as `emit 100` says; `account` tells what became of them."""

import json
import logging
import os
import sys
from dataclasses import asdict

from tercet import Counter, setup_observability

observability = setup_observability(os.environ["OTEL_SERVICE_NAME"], log_format="off")
logger = logging.getLogger("numbers")
emitted = Counter("numbers.emitted", "Numbers that were emitted.")
number = 0

for line in sys.stdin:
    answer: object = "done"
    if line == "account\n":
        answer = asdict(observability.exporters()["logs"].account())
    else:
        for _ in range(int(line.split()[1])):
            logger.info("a number", extra={"number": number})
            emitted.add(1)
            number += 1
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
