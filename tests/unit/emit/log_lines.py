"""What tests of logs share: a stdout to read, and a fresh `logging` to configure."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import _logs

from tercet.emit import logs
from tercet.export.text import json_line


class Lines(io.StringIO):
    """A stdout whose lines can be asked for."""

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def one(self) -> dict[str, Any]:
        (line,) = self.all()
        return line


@contextmanager
def written(**options: Any) -> Iterator[Lines]:
    """Write JSON lines while it is open, with `logging` as Python starts with it; restore both."""
    lines, before = Lines(), logs._stream_in_use
    provider = options.pop("provider", _logs.get_logger_provider())
    stream = logs.LogStream(
        service="shop", provider=provider, **{"render": json_line, "stream": lines, **options}
    )
    with fresh_logging():
        logs.install(stream)
        try:
            yield lines
        finally:
            logs.install(before)


@contextmanager
def fresh_logging() -> Iterator[None]:
    """Give the root logger no handlers and INFO, and put everything back in the end."""
    root, known = logging.getLogger(), dict(logging.Logger.manager.loggerDict)
    kept = {
        name: (each.level, each.handlers[:], each.propagate, each.disabled, each.filters[:])
        for name, each in known.items()
        if isinstance(each, logging.Logger)
    }
    root_level, root_handlers = root.level, root.handlers[:]
    root.handlers[:] = []
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(root_level)
        root.handlers[:] = root_handlers
        for name in logging.Logger.manager.loggerDict.keys() - known.keys():
            logging.getLogger(name).handlers[:] = []
            del logging.Logger.manager.loggerDict[name]
        for name, (level, handlers, propagate, disabled, filters) in kept.items():
            each = logging.getLogger(name)
            each.setLevel(level)
            each.handlers[:], each.propagate, each.filters[:] = handlers, propagate, filters
            each.disabled = disabled
