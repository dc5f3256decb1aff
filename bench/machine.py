"""What it was measured on."""

import os
import platform
from collections.abc import Iterable
from typing import Any

from bench.variants import MAIN, Variant
from tercet.fast.stand_in import is_compiled

_SERVICE = ("fastapi", "starlette", "uvicorn", "opentelemetry-sdk", "protobuf")


def machine(variants: Iterable[Variant]) -> dict[str, Any]:
    """Describe this machine, and the versions of what is measured."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "is_compiled": is_compiled(),
        "versions": MAIN.versions(*_SERVICE) | _versions(variants),
    }


def _versions(variants: Iterable[Variant]) -> dict[str, str]:
    """Merge the versions in all environments; the main one's win, and others are named beside it."""
    merged: dict[str, str] = {}
    for variant in variants:
        for name, version in variant.versions().items():
            if merged.setdefault(name, version) != version:
                merged[f"{name} with {variant.key}"] = version
    return merged


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()
