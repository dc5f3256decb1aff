"""Who emits: the resource of this process."""

import sys
from pathlib import Path

from opentelemetry.sdk.resources import Resource

from tercet.declare.settings import Settings
from tercet.declare.version import VERSION


def build_resource(settings: Settings) -> Resource:
    """Describe this process: the settings over the given attributes over what the SDK detects."""
    named = {
        "service.name": settings.service_name or unnamed(),
        "service.version": settings.service_version,
        "deployment.environment.name": settings.environment,
        "telemetry.distro.name": "tercet",
        "telemetry.distro.version": VERSION,
    }
    own = {key: value for key, value in named.items() if value}
    return Resource.create({**settings.resource_attributes, **own})


def unnamed() -> str:
    """Name a service that nobody named, as the specification wants it: by its program."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] not in ("", "-c") else ""
    return f"unknown_service:{program or 'python'}"
