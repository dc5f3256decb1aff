"""The same shop, with a scrape endpoint mounted in it."""

from shop import app

from tercet import metrics_app

app.mount("/metrics", metrics_app())
