"""The same shop, in a process whose owner has set a tracer provider of their own."""

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from tercet import setup_observability

trace.set_tracer_provider(TracerProvider(resource=Resource.create({"service.name": "earlier"})))
setup_observability("shop")

from shop import app  # noqa: E402, F401 - uvicorn serves it; the application comes after its telemetry
