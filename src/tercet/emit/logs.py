"""Logs: every record once, with its ids, on stdout and over OTLP, however the application configures logging.

Handlers come and go with each `dictConfig`, and servers log past the root logger. So the records are taken
where all of them pass exactly once, `Logger.callHandlers`, and handlers that would write the same record to
the terminal again are kept quiet. Files, sockets and whatever else the application handles are its own.
"""

import functools
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import TextIOWrapper
from time import monotonic, time_ns
from typing import Protocol, TextIO, runtime_checkable

from opentelemetry._logs import Logger, LoggerProvider, SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, get_current
from opentelemetry.trace import SpanContext

from tercet.emit.asgi import EXCLUDED
from tercet.emit.correlation import CARRIED, ids_of, shown_ids
from tercet.emit.records import TAKEN, Fields, said_by

#: What stands first on every line, in the order of `STANDARD`: the first is seconds since 1970.
Standard = tuple[float, str, str, str, str, str, str, str]
#: From what stands on every line, and the fields of one record, to its line.
Render = Callable[[Standard, Fields], str]
#: As OTLP has it: a number and a text.
Severity = tuple[int, str]
#: Sends a record to the collector: when it was made, how severe, its message, fields, ids and context.
Take = Callable[[int, Severity, str, Fields, SpanContext, Context], None]

#: The names of what stands first on every line; the caller's own fields follow.
STANDARD = (
    "timestamp",
    "level",
    "logger",
    "message",
    "service",
    "trace_id",
    "span_id",
    "correlation_id",
)
_STANDARD_KEYS = frozenset(STANDARD)
# Who sends telemetry must not be telemetry: these would feed themselves.
_EXPORTERS = ("opentelemetry.", "tercet.export.", "urllib3.", "requests.", "grpc.", "hpack.", "hyperframe.")
_ACCESS_LOGGERS = frozenset({"uvicorn.access", "hypercorn.access", "gunicorn.access"})
_SEVERITIES = {
    logging.CRITICAL: (SeverityNumber.FATAL.value, "FATAL"),
    logging.ERROR: (SeverityNumber.ERROR.value, "ERROR"),
    logging.WARNING: (SeverityNumber.WARN.value, "WARN"),
    logging.INFO: (SeverityNumber.INFO.value, "INFO"),
    logging.DEBUG: (SeverityNumber.DEBUG.value, "DEBUG"),
}
_MOST_LOGGERS = 1_000
# Records that may wait for their own thread to be done with another one.
_MOST_ASIDE = 1_000
# What these say, of a setting or of a collector that is away, an application's `dictConfig` must not silence.
_OWN_LOGGERS = ("tercet", "tercet.export")


@runtime_checkable
class TakesRecords(Protocol):
    """A logger that takes what is known of a record as it is, without the API's many names."""

    def take(  # noqa: PLR0917 - names cost as much as the rest
        self,
        created: int,
        severity: Severity,
        message: str,
        fields: Fields,
        ids: SpanContext,
        context: Context,
    ) -> None:
        """Send a record on its way; see `Take`."""
        ...


def _by_the_api(logger: Logger) -> Take:
    """Use a logger that somebody else brought."""

    def take(
        created: int, severity: Severity, message: str, fields: Fields, _ids: SpanContext, context: Context
    ) -> None:
        number, text = severity
        logger.emit(
            timestamp=created,
            observed_timestamp=time_ns(),
            context=context,
            severity_text=text,
            severity_number=SeverityNumber(number),
            body=message,
            attributes=fields,
        )

    return take


def _nobody(*_record: object) -> None:
    pass


class LogStream:
    """Send each record to stdout as one line, and to the collector as one log record.

    Args:
        service: The name of the service, on every line.
        render: From what is known of a record to its line; None writes no lines.
        provider: Where records leave over OTLP; None for nowhere.
        floor: Records below this level are refused, with one warning.
        stream: Where lines go; stdout at the moment of writing when not given.
    """

    def __init__(
        self,
        *,
        service: str,
        render: Render | None,
        provider: LoggerProvider | None,
        floor: int = logging.NOTSET,
        stream: TextIO | None = None,
    ) -> None:
        self.writes_lines = render is not None
        self._service = service
        self._render = render
        self._provider = provider
        self._floor = floor
        self._stream = stream
        self._takers: dict[str, Take] = {}
        self._busy = threading.local()
        self._told_of_floor = False
        self._tell_again_at = 0.0
        self.failed = 0
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        """Start with a free lock: in a forked child, whoever held the parent's is not there to free it."""
        self._writing = threading.Lock()
        self._aside: deque[tuple[logging.LogRecord, Context]] = deque()

    def take(self, record: logging.LogRecord) -> None:
        """Send one record on, once; never raise, and never take in what sending it logs itself."""
        state = vars(record)
        if TAKEN in state:
            return
        state[TAKEN] = self.writes_lines
        if getattr(self._busy, "with_a_record", False):
            self._put_aside(record)
            return
        try:
            self._send(record, get_current())
        except Exception as error:
            self._tell_of_failure(record, error)
        finally:  # A signal's handler may have ended it, too.
            if self._aside:
                self._send_aside()

    def _put_aside(self, record: logging.LogRecord) -> None:
        """Let a record wait that came while its own thread sends another, for that one may hold a lock.

        Where all that sends is ours, a signal's handler or a finalizer has logged it. What others have put
        there may log with each record, and that would have no end.
        """
        if self._is_all_ours() and len(self._aside) < _MOST_ASIDE:
            self._aside.append((record, get_current()))
        elif not f"{record.name}.".startswith(_EXPORTERS):
            self._tell_of_failure(record, "it came while another was sent")

    def _is_all_ours(self) -> bool:
        """Say whether nobody else has a part in sending: neither a stdout of theirs nor a processor."""
        stream = _behind(self._stream or sys.stdout) if self.writes_lines else None
        added = getattr(self._provider, "added", None)
        is_sent_by_us = self._provider is None or (added is not None and not added())
        return is_sent_by_us and (stream is None or type(stream) is TextIOWrapper)

    def _send_aside(self) -> None:
        """Send what was put aside, but not for ever: the next record sends what comes meanwhile."""
        for _ in range(_MOST_ASIDE):
            try:
                record, context = self._aside.popleft()
            except IndexError:  # Another thread is at it.
                return
            try:
                self._send(record, context)
            except Exception as error:
                self._tell_of_failure(record, error)

    def _refuses(self, record: logging.LogRecord) -> bool:
        """Say whether a record below the floor, or of work that is excluded, is refused."""
        if record.levelno < self._floor:
            self._tell_of_floor(record)
            return True
        # What a health check says all day is noise, unless it warns; that it was asked is noise always.
        return record.levelno < logging.WARNING or record.name in _ACCESS_LOGGERS

    def _tell_of_floor(self, record: logging.LogRecord) -> None:
        if not self._told_of_floor:
            self._told_of_floor = True
            logging.getLogger("tercet").warning(
                "DEBUG logs are refused in production; %s writes some. "
                "Set TERCET_DEBUG_IN_PRODUCTION=true to let them out.",
                record.name,
            )

    def _tell_of_failure(self, record: logging.LogRecord, error: object) -> None:
        """Count a record that could not be sent, and say so on stderr once a minute: never silently."""
        self.failed += 1
        if sys.stderr is not None and monotonic() >= self._tell_again_at:
            self._tell_again_at = monotonic() + 60
            # RuntimeError is what a stream says to a signal's handler that writes within its own write.
            with suppress(OSError, ValueError, RuntimeError):
                sys.stderr.write(
                    f"tercet: {self.failed} log records lost, last of {record.name}: {error!r}\n"
                )

    def _send(self, record: logging.LogRecord, context: Context) -> None:
        if (record.levelno < self._floor or context.get(EXCLUDED)) and self._refuses(record):
            return
        # Not yet busy: this runs `__str__` of what the caller gave, which may log itself.
        message, own = said_by(record)
        ids = ids_of(context)
        trace, span, identifier = shown_ids(ids, context.get(CARRIED))
        who = record.name
        standard = (record.created, record.levelname, who, message, self._service, trace, span, identifier)
        if own and not _STANDARD_KEYS.isdisjoint(own):
            own = _renamed(own, dict(zip(STANDARD, standard, strict=True)))
        self._busy.with_a_record = True
        try:
            self._write_line(standard, own)
        except Exception as error:  # A closed stdout does not stop what goes to the collector.
            self._tell_of_failure(record, error)
        try:
            take = self._takers.get(who) or self._taker(who)
            if take is not _nobody and not context.get(_SUPPRESS_INSTRUMENTATION_KEY):
                severity = _SEVERITIES.get(record.levelno) or _severity(record.levelno)
                if identifier:
                    own["correlation_id"] = identifier
                take(int(record.created * 1e9), severity, message, own, ids, context)
        finally:
            self._busy.with_a_record = False

    def _taker(self, name: str) -> Take:
        """Find who takes the records of a logger; the provider would make its key anew and lock twice."""
        if len(self._takers) >= _MOST_LOGGERS:
            self._takers.clear()
        if self._provider is None or f"{name}.".startswith(_EXPORTERS):
            self._takers[name] = _nobody
        else:
            logger = self._provider.get_logger(name)
            self._takers[name] = logger.take if isinstance(logger, TakesRecords) else _by_the_api(logger)
        return self._takers[name]

    def _write_line(self, standard: Standard, own: Fields) -> None:
        stream = self._stream or sys.stdout
        if type(stream) is not TextIOWrapper:
            stream = _behind(stream)
        if self._render is None or stream is None:  # a service without a console has no stdout
            return
        line = self._render(standard, own) + "\n"
        with self._writing:  # a stream splits lines that are longer than its buffer
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(line.encode("ascii", "backslashreplace").decode())
            stream.flush()


def _behind(stream: TextIO | None) -> TextIO | None:
    """Look behind a stdout that logs what is written to it, as workers of Celery have.

    There, each line would come back as a record of its own.
    """
    return sys.__stdout__ if isinstance(getattr(stream, "logger", None), logging.Logger) else stream


def _renamed(own: Fields, standard: Fields) -> Fields:
    """Keep a caller's field that bears a standard name under a name of its own, unless it says the same."""
    return {
        f"extra.{key}" if key in standard else key: value
        for key, value in own.items()
        if key not in standard or standard[key] != value
    }


def _severity(level: int) -> Severity:
    """Find the severity of a level that somebody made: that of the next lower one there is."""
    lower = [known for known in _SEVERITIES if known <= level]
    return _SEVERITIES[max(lower)] if lower else (SeverityNumber.TRACE.value, "TRACE")


class SteadyLogger(logging.Logger):
    """A logger that `dictConfig(disable_existing_loggers=True)` cannot switch off, as it does by default."""

    @property
    def disabled(self) -> bool:
        """Say no: only its level silences it."""
        return False

    @disabled.setter
    def disabled(self, _value: bool) -> None:
        pass


def steady_logger(name: str) -> logging.Logger:
    """Return the logger of that name, made steady; one that the application configured keeps its level."""
    logger = logging.getLogger(name)
    logger.__class__ = SteadyLogger
    return logger


def access_logger() -> logging.Logger:
    """Return the logger of the access lines, `tercet.access`, at INFO unless it has a level already."""
    logger = steady_logger("tercet.access")
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    return logger


_stream_in_use: LogStream | None = None


def install(stream: LogStream | None) -> None:
    """Take every record that any logger handles into `stream`; None leaves `logging` to itself."""
    global _stream_in_use  # noqa: PLW0603 - logging itself is one global
    _stream_in_use = stream
    for name in _OWN_LOGGERS:
        steady_logger(name)
    _patch()


@functools.cache  # once, around whatever other tools have put there by then
def _patch() -> None:
    call_handlers, handle = logging.Logger.callHandlers, logging.Handler.handle

    def taken(logger: logging.Logger, record: logging.LogRecord) -> None:
        stream = _stream_in_use
        if stream is not None:
            if _is_filtered(logger):
                admitted = _admitted(logger, record)
                if admitted is not None:
                    stream.take(admitted)
                vars(record).setdefault(TAKEN, stream.writes_lines)
            else:
                stream.take(record)
        call_handlers(logger, record)

    def unless_written(handler: logging.Handler, record: logging.LogRecord) -> bool | logging.LogRecord:
        if vars(record).get(TAKEN) and _writes_to_console(handler):
            return False
        return handle(handler, record)

    logging.Logger.callHandlers = taken  # type: ignore[method-assign,assignment]
    logging.Handler.handle = unless_written  # type: ignore[method-assign,assignment]


def _admitted(logger: logging.Logger, record: logging.LogRecord) -> logging.LogRecord | None:
    """Pass a record through the filters of the console handlers that we stand in for: they may redact it.

    None when every one of those handlers refuses it.
    """
    consoles = [handler for handler in _handlers_of(logger) if _writes_to_console(handler)]
    if not any(handler.filters for handler in consoles):
        return record
    for handler in consoles:
        admitted: object = handler.filter(record)
        if admitted:
            return admitted if isinstance(admitted, logging.LogRecord) else record
    return None


def _is_filtered(logger: logging.Logger) -> bool:
    """Say whether any handler has a filter; asked for each record, so without a generator."""
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if handler.filters:
                return True
        current = current.parent if current.propagate else None
    return False


def _handlers_of(logger: logging.Logger) -> Iterator[logging.Handler]:
    current: logging.Logger | None = logger
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None


def _writes_to_console(handler: logging.Handler) -> bool:
    stream = getattr(handler, "stream", None)
    if stream is None:  # rich's handler writes to a console, which writes to a file
        stream = getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and _is_console(stream)


def _is_console(stream: object) -> bool:
    return any(stream is console for console in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
