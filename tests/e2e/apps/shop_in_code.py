"""The same shop, with telemetry set up in code."""

from tercet import setup_observability

setup_observability("shop")

from shop import app  # noqa: E402, F401 - uvicorn serves it; the application comes after its telemetry
