"""The same shop as several workers serve it: who answers, and a scrape endpoint for all of them."""

import os

from opentelemetry import metrics
from shop_scraped import app

sdk_counter = metrics.get_meter("shop").create_counter("asked")


@app.get("/who")
async def who() -> int:
    sdk_counter.add(1)
    return os.getpid()
