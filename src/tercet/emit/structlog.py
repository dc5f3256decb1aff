"""The edge for structlog: its events become log records, so that there is one stream of logs.

The processors that the application configured run as they are; only the last one, which by structlog's
contract renders, gives way to ours. It does not matter when the application calls `structlog.configure()`.
https://www.structlog.org/en/stable/processors.html#adapting-and-rendering
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

import wrapt

from tercet.emit.logs import steady_logger
from tercet.emit.records import FIELDS, SAID_BY_RECORDS

_LEVELS = {"warn": logging.WARNING, "exception": logging.ERROR, "fatal": logging.CRITICAL}
_installed = False


def install(on: bool) -> None:
    """Take structlog's events from now on, also when structlog is imported later; False leaves them alone."""
    global _installed  # noqa: PLW0603 - structlog's configuration is one global too
    _installed = on
    wrapt.register_post_import_hook(_hook, "structlog")


def _hook(structlog: Any) -> None:
    base = structlog.BoundLoggerBase
    if hasattr(base, "_tercet"):
        return
    base._tercet = True
    process_event = base._process_event

    def taken(self: Any, method_name: str, event: str | None, event_kw: dict[str, Any]) -> Any:
        chain = list(self._processors)
        # capture_logs() in a test wants the events for itself.
        if not _installed or any(isinstance(step, structlog.testing.LogCapture) for step in chain):
            return process_event(self, method_name, event, event_kw)
        event_dict = _processed(self, chain[:-1], method_name, event, event_kw)
        _log(self._logger, method_name, event, event_dict)
        raise structlog.DropEvent

    base._process_event = taken


def _processed(
    bound: Any,
    processors: list[Callable[..., Any]],
    method_name: str,
    event: str | None,
    event_kw: dict[str, Any],
) -> dict[str, Any]:
    event_dict = {**bound._context, **event_kw}
    if event is not None:
        event_dict["event"] = event
    for process in processors:
        event_dict = process(bound._logger, method_name, event_dict)
    return event_dict


def _log(wrapped: Any, method_name: str, said: str | None, event_dict: dict[str, Any]) -> None:
    logger = _logger_of(wrapped, event_dict.pop("logger", None))
    level = _LEVELS.get(method_name) or logging.getLevelName(method_name.upper())
    level = level if isinstance(level, int) else logging.INFO
    if not logger.isEnabledFor(level):
        return
    # EventRenamer may have called it message, or anything.
    event = event_dict.pop("event", None) or event_dict.pop("message", said or "")
    error, stack = event_dict.pop("exc_info", None), event_dict.pop("stack", None)
    args = event_dict.pop("positional_args", ())
    record = logger.makeRecord(logger.name, level, "", 0, event, args, _exc_info(error), sinfo=stack)
    vars(record)[FIELDS] = {key: value for key, value in event_dict.items() if key not in SAID_BY_RECORDS}
    logger.handle(record)


def _logger_of(wrapped: Any, named: Any) -> logging.Logger:
    name = getattr(wrapped, "name", None) or named
    # `dictConfig` disables loggers that it does not name; structlog's own, it does not even know.
    return logging.getLogger(str(name)) if name else steady_logger("structlog")


def _exc_info(error: Any) -> Any:
    """Understand whatever logging itself understands."""
    if isinstance(error, BaseException):
        return type(error), error, error.__traceback__
    return error if isinstance(error, tuple) else sys.exc_info() if error else None
