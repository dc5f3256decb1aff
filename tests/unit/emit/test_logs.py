"""Logs: every record once, with its ids and whatever the caller added, however logging is configured."""

import datetime
import decimal
import enum
import functools
import io
import json
import logging
import logging.config
import logging.handlers
import queue
import signal
import subprocess
import sys
import threading
import types
import uuid
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_lines import fresh_logging, written
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context, attach, detach, set_value
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.resources import Resource
from uvicorn.config import LOGGING_CONFIG

from tercet.emit import asgi, logs, records
from tercet.emit.correlation import with_correlation_id
from tercet.emit.logs import LogStream, access_logger
from tercet.export.processors import BatchedLogs
from tercet.export.records import LeanLoggerProvider
from tercet.export.text import console_line, json_line

RECORD = {"name": "orders", "levelname": "INFO", "levelno": logging.INFO}
CONSOLE = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}


@pytest.fixture
def lines(seen):
    """The lines that the test writes."""
    with written() as out:
        yield out


@pytest.fixture
def logger(lines):
    return logging.getLogger("orders")


def own(line):
    """Keep what the caller added."""
    return {key: value for key, value in line.items() if key not in logs.STANDARD}


class Unspeakable:
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Colour(enum.IntEnum):
    RED = 1


def circular():
    value = {"name": "loop"}
    value["self"] = value
    return value


def deep(levels):
    value = "bottom"
    for _ in range(levels):
        value = [value]
    return value


class BrokenMapping(dict):
    def items(self):
        raise RuntimeError("no items")


def test_a_line_has_the_standard_fields_first(logger, lines):
    """Service, ids and the caller's fields, on one line."""
    with trace.get_tracer("t").start_as_current_span("serve", context=Context()) as span:
        token = attach(with_correlation_id("abc"))
        logger.info("paid %d", 5, extra={"user_id": 7})
        detach(token)
    line = lines.one()
    ids = span.get_span_context()
    assert tuple(line) == (*logs.STANDARD, "user_id")
    assert (line["message"], line["service"], line["user_id"]) == ("paid 5", "shop", 7)
    assert (line["trace_id"], line["span_id"]) == (f"{ids.trace_id:032x}", f"{ids.span_id:016x}")
    assert line["correlation_id"] == "abc"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ({"a": [float("inf")]}, {"a": ["inf"]}),
        (2**70, str(2**70)),
        (10**5000, "<int that cannot be shown>"),
        (Colour.RED, 1),
        (b"x", "b'x'"),
        ((1, 2), [1, 2]),
        ({5: {None: 1}}, {"5": {"None": 1}}),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (ValueError("x"), "x"),
        ("\ud800", "\\ud800"),
        ({"\ud800": "\udfff"}, {"\\ud800": "\\udfff"}),
        ("日本\r\n\x00\x1b", "日本\r\n\x00\x1b"),
        (Unspeakable(), "<Unspeakable that cannot be shown>"),
        ([Unspeakable()], ["<Unspeakable that cannot be shown>"]),
        (BrokenMapping(), "<BrokenMapping that cannot be shown>"),
    ],
    ids=lambda value: ascii(type(value)),
)
def test_a_field_of_any_type_is_said_in_json_and_in_otlp(value, shown, logger, lines, seen):
    """What neither can say becomes text, and no record is lost for it."""
    logger.info("x", extra={"field": value})
    assert own(lines.one()) == {"field": shown}
    (attribute,) = encode_logs(seen.logs).resource_logs[0].scope_logs[0].log_records[0].attributes
    assert attribute.key == "field"


def test_a_broad_value_costs_no_more_than_a_thousand_items(logger, lines):
    """A value that holds itself a dozen times would be millions."""
    broad = []
    broad += [broad] * 12
    logger.info("broad", extra={"value": broad})
    assert len(lines.getvalue()) < 10_000


class Consoled(logging.Handler):
    """Like rich's handler: no stream of its own, but a console that has one."""

    def __init__(self):
        super().__init__()
        self.console = types.SimpleNamespace(file=sys.stdout)
        self.written = []

    def emit(self, record):
        self.written.append(record)


def test_a_handler_with_a_console_is_kept_quiet_too(logger, lines):
    """Rich writes to the terminal as well, and would say everything twice."""
    handler = Consoled()
    logger.addHandler(handler)
    logger.info("once")
    logger.removeHandler(handler)
    assert (lines.one()["message"], handler.written) == ("once", [])


def test_circular_and_deep_values_end(logger, lines, seen):
    """Nesting is followed for a few levels."""
    logger.info("x", extra={"loop": circular(), "deep": deep(50), "abyss": deep(100_000)})
    assert lines.one()["loop"]["self"]["name"] == "loop"
    assert lines.one()["deep"] == [[[[[["…"]]]]]]
    assert len(encode_logs(seen.logs).resource_logs) == 1


@given(
    message=st.text(),
    extra=st.dictionaries(
        st.text(),
        st.recursive(st.text() | st.floats() | st.integers() | st.none(), st.lists),
    ),
)
def test_any_text_is_one_line_of_json(message, extra):
    """No message and no field ends a line or breaks JSON."""
    extra = {f"x{key}": value for key, value in extra.items()}
    record = logging.makeLogRecord(RECORD | extra | {"msg": message})
    out = io.StringIO()
    LogStream(service="shop", render=json_line, provider=None, stream=out).take(record)
    (line,) = out.getvalue().splitlines()
    read = json.loads(line, parse_constant=pytest.fail)
    assert own(read).keys() == {records._text(key) for key in extra}


def test_an_event_that_structlog_wrapped_for_a_formatter_is_said(logger, lines):
    """Where structlog's own edge is off, its events come as dictionaries."""
    logger.info({"event": "paid", "amount": 5, "level": "info", "timestamp": "now"})
    assert (lines.one()["message"], own(lines.one())) == ("paid", {"amount": 5})


def test_a_huge_message_is_one_line(logger, lines):
    """A megabyte arrives whole."""
    logger.info("x" * 1_000_000)
    assert len(lines.one()["message"]) == 1_000_000


def test_fields_that_bear_a_standard_name_keep_both(logger, lines, seen):
    """The line's own stay what they are, the caller's are renamed, on stdout and over OTLP alike."""
    logger.info("x", extra={"service": "acme", "level": "high", "trace_id": "mine", "timestamp": 5})
    assert own(lines.one()) == {
        "extra.service": "acme",
        "extra.level": "high",
        "extra.trace_id": "mine",
        "extra.timestamp": 5,
    }
    assert lines.one()["service"] == "shop"
    assert dict(seen.logs[0].log_record.attributes) == own(lines.one())


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("%d items", ("three",), "%d items ('three',)"),
        ("100%", ("x",), "100% ('x',)"),
        ("%s", (Unspeakable(),), "%s <tuple that cannot be shown>"),
        (Unspeakable(), (), "<Unspeakable that cannot be shown> ()"),
        ("%(a)s", ({"a": 1},), "1"),
        ({"not": "structlog"}, (), "{'not': 'structlog'}"),
        ("\ud800", (), "\\ud800"),
    ],
    ids=lambda value: ascii(type(value)),
)
def test_a_message_is_said_even_where_its_arguments_do_not_fit(message, args, expected):
    """A wrong %-argument costs nothing."""
    with written() as lines:
        logging.getLogger("orders").info(message, *args)
    assert lines.one()["message"] == expected


def test_an_exception_is_described(logger, lines, seen):
    """Under the names of the semantic conventions."""
    try:
        raise json.JSONDecodeError("bad", "", 0)
    except ValueError:
        logger.exception("failed")
    line = own(lines.one())
    assert line["exception.type"] == "json.decoder.JSONDecodeError"
    assert line["exception.message"] == "bad: line 1 column 1 (char 0)"
    assert line["exception.stacktrace"].startswith("Traceback (most recent call last)")
    assert seen.logs[0].log_record.attributes["exception.type"] == line["exception.type"]


def test_an_exception_that_cannot_speak_is_described(logger, lines):
    """Its type and stack are known all the same."""

    class MuteError(Exception):
        __str__ = Unspeakable.__str__

    logger.error("failed", exc_info=MuteError())
    assert lines.one()["exception.message"].endswith("MuteError that cannot be shown>")


def test_a_stack_and_a_formatted_exception_are_kept(logger, lines):
    """Also of records from another process, whose exception is text."""
    logger.info("here", stack_info=True)
    logger.error("no exception", exc_info=True)
    logger.handle(logging.makeLogRecord({"msg": "there", "levelno": 40, "exc_text": "Traceback of there"}))
    here, none, there = lines.all()
    assert here["stack"].startswith("Stack (most recent call last)")
    assert own(none) == {}
    assert own(there) == {"exception.stacktrace": "Traceback of there"}


def basic_config():
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, force=True)


def dict_config():
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": CONSOLE},
            "root": {"handlers": ["console"], "level": "INFO"},
        }
    )


def dict_config_naming_the_logger():
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": True,
            "handlers": {"console": CONSOLE, "errors": {"class": "logging.StreamHandler"}},
            "loggers": {"orders": {"handlers": ["console", "errors"], "level": "INFO", "propagate": False}},
            "root": {"handlers": ["console"]},
        }
    )


def file_config():
    logging.config.fileConfig(
        io.StringIO(
            "[loggers]\nkeys=root\n[handlers]\nkeys=console\n[formatters]\nkeys=\n"
            "[logger_root]\nlevel=INFO\nhandlers=console\n"
            "[handler_console]\nclass=StreamHandler\nargs=(sys.stderr,)\n"
        ),
        disable_existing_loggers=False,
    )


def no_handlers():
    logging.getLogger().handlers = []


def server_like():
    """Configure as gunicorn and hypercorn do: a handler on the logger, which does not propagate."""
    logger = logging.getLogger("orders")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stdout))


CONFIGURATIONS = [
    basic_config,
    dict_config,
    dict_config_naming_the_logger,
    file_config,
    no_handlers,
    server_like,
]


@pytest.mark.parametrize("configure", CONFIGURATIONS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_each_record_is_written_once_however_logging_is_configured(configure, when, seen, capsys):
    """Before setup or after it, with handlers on the console or with none."""
    with fresh_logging():
        if when == "before":
            configure()
        logger = logging.getLogger("orders")
        with written(stream=None) as _:
            configure()
            logger.info("paid")
    out, err = capsys.readouterr()
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["paid"]
    assert err == ""
    assert [record.log_record.body for record in seen.logs] == ["paid"]


def test_the_loggers_of_uvicorn_are_written_once(seen, capsys):
    """Its own configuration puts handlers on loggers that do not propagate, and colours into records."""
    with written(stream=None):
        logging.config.dictConfig(LOGGING_CONFIG)
        logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[36mStarted"})
        logging.getLogger("uvicorn.access").info('%s - "%s" %d', "1.2.3.4", "GET /", 200)
    out, err = capsys.readouterr()
    read = [json.loads(line) for line in out.splitlines()]
    assert [line["message"] for line in read] == ["Started", '1.2.3.4 - "GET /" 200']
    assert [own(line) for line in read] == [{}, {}]
    assert err == ""


def test_lines_of_excluded_paths_are_left_out_unless_they_warn(lines):
    """Probes say nothing about users, whoever writes about them; what is wrong is said all the same."""
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    token = attach(set_value(asgi.EXCLUDED, True))
    logging.getLogger("uvicorn.access").info("GET /health")
    logging.getLogger("orders").info("asked for health")
    logging.getLogger("orders").warning("not well")
    detach(token)
    assert lines.one()["message"] == "not well"


def test_access_lines_cannot_be_switched_off_by_accident(lines):
    """`dictConfig` disables loggers that it does not name, by default."""
    logger = access_logger()
    logging.config.dictConfig({"version": 1, "root": {"level": "WARNING"}})
    logger.info("request_completed")
    assert lines.one()["logger"] == "tercet.access"


@pytest.mark.parametrize("level", ["DEBUG", "WARNING"])
def test_the_access_logger_keeps_the_level_that_it_was_given(level, lines, monkeypatch):
    """Whether a setting or the application gave it, before or after."""
    monkeypatch.delitem(logging.Logger.manager.loggerDict, "tercet.access", raising=False)
    logging.getLogger("tercet.access").setLevel(level)
    assert logging.getLevelName(access_logger().level) == level
    assert access_logger() is logging.getLogger("tercet.access")


def test_files_and_other_handlers_are_the_applications_own(lines, logger, tmp_path, caplog):
    """Only the console is ours."""
    handler = logging.FileHandler(tmp_path / "app.log")
    logger.addHandler(handler)
    kept = logging.StreamHandler(io.StringIO())
    logger.addHandler(kept)
    logger.info("paid")
    handler.close()
    assert (tmp_path / "app.log").read_text() == "paid\n"
    assert kept.stream.getvalue() == "paid\n"
    assert caplog.messages == ["paid"]
    assert lines.one()["message"] == "paid"


def test_a_queue_between_logger_and_console_writes_nothing_twice(seen, capsys):
    """A QueueListener hands records to handlers, past the loggers."""
    with written(stream=None):
        waiting = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(waiting, logging.StreamHandler(sys.stdout))
        logger = logging.getLogger("orders")
        logger.addHandler(logging.handlers.QueueHandler(waiting))
        listener.start()
        try:
            raise KeyError("x")
        except KeyError:
            logger.exception("paid")
        listener.stop()
    out, _ = capsys.readouterr()
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["paid"]


def test_records_of_other_processes_are_not_lost(seen, capsys):
    """They reach a listener's console handler, or a logger, without having passed a logger here."""
    with written(stream=None):
        foreign = RECORD | {"name": "worker", "msg": "from afar"}
        logging.StreamHandler(sys.stdout).handle(logging.makeLogRecord(foreign))
        record = logging.makeLogRecord(foreign)
        logging.getLogger("worker").handle(record)
        logging.getLogger("worker").handle(record)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "from afar"
    assert json.loads(second)["logger"] == "worker"


def test_without_lines_the_applications_handlers_are_left_alone(seen, capsys):
    """`log_format=off`: only OTLP."""
    with fresh_logging():
        before = logs._stream_in_use
        logs.install(LogStream(service="shop", render=None, provider=before._provider))
        logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
        logging.getLogger("orders").info("paid")
        logs.install(before)
    assert capsys.readouterr().out == "paid\n"
    assert [record.log_record.body for record in seen.logs] == ["paid"]


def test_without_a_stream_logging_is_left_to_itself(capsys):
    """`install(None)` takes nothing."""
    before = logs._stream_in_use
    with fresh_logging():
        logs.install(None)
        logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
        logging.getLogger("orders").info("paid")
        logs.install(before)
    assert capsys.readouterr().out == "paid\n"


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("opentelemetry.sdk.trace", False),
        ("urllib3", False),
        ("urllib3.connectionpool", False),
        ("grpc._channel", False),
        ("hpack.hpack", False),
        ("urllib3_extras", True),
        ("requests_service", True),
        ("orders", True),
    ],
)
def test_what_sends_telemetry_is_no_telemetry(name, sent, lines, seen):
    """It would feed itself; its lines are still written."""
    logging.getLogger(name).warning("retrying")
    assert lines.one()["logger"] == name
    assert len(seen.logs) == sent


def test_what_is_logged_during_an_export_is_not_sent(lines, seen):
    """Whoever logs it."""
    token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    logging.getLogger("orders").warning("resolving")
    detach(token)
    assert lines.one()["message"] == "resolving"
    assert seen.logs == []


def test_a_value_that_logs_while_it_is_shown_loses_neither():
    """The inner record stands before the outer."""

    class Chatty:
        def __str__(self):
            logging.getLogger("database").info("asking")
            return "Ann"

    with written() as lines:
        logging.getLogger("orders").info("hello %s", Chatty())
    assert [line["message"] for line in lines.all()] == ["asking", "hello Ann"]


def test_what_sending_logs_is_not_sent(seen):
    """Else one record would be endless."""

    class Loud(io.StringIO):
        def write(self, text):
            logging.getLogger("stream").warning("writing")
            return super().write(text)

    out = Loud()
    with written(stream=out):
        logging.getLogger("orders").info("paid")
    assert json.loads(out.getvalue())["message"] == "paid"
    assert [record.log_record.body for record in seen.logs] == ["paid"]


class Outlet(BatchedLogs):
    """Our own way out, to look at what is put there."""

    def __init__(self):
        self.outbox = self
        self.bodies = []

    def put(self, item):
        self.bodies.append(LogRecord.FromString(item[-1]).body.string_value)


@contextmanager
def interrupted(render, times=1, **options):
    """Let a signal come while a line is made, and its handler log; lines are written as to a real stdout."""
    left = iter(range(times))

    def render_and_be_interrupted(standard, own):
        if standard[2] == "orders" and next(left, None) is not None:
            signal.raise_signal(signal.SIGUSR1)
        return render(standard, own)

    def handle(_number, _frame):
        logging.getLogger("handler").warning("interrupting")

    out, outlet, provider = io.BytesIO(), Outlet(), LeanLoggerProvider(Resource.get_empty())
    provider.add_log_record_processor(outlet)
    before = signal.signal(signal.SIGUSR1, handle)
    stream = io.TextIOWrapper(out)
    try:
        with written(
            **{"stream": stream, "render": render_and_be_interrupted, "provider": provider, **options}
        ):
            yield lambda: [json.loads(line)["message"] for line in out.getvalue().splitlines()], outlet
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_signals_handler_that_logs_while_its_thread_does_loses_neither():
    """Its record is sent after the one that it interrupts, which may hold what it takes to send."""
    with interrupted(json_line) as (lines, outlet):
        logging.getLogger("orders").info("paid")
        assert lines() == outlet.bodies == ["paid", "interrupting"]
        assert logs._stream_in_use.failed == 0


def test_a_signals_handler_that_logs_and_ends_its_thread_loses_nothing():
    """As one that calls `sys.exit`; the record that it interrupts goes with the thread."""

    def exiting(standard, own):
        if standard[2] == "orders":
            raise SystemExit
        return json_line(standard, own)

    with interrupted(exiting) as (lines, outlet):
        with pytest.raises(SystemExit):
            logging.getLogger("orders").info("paid")
        assert lines() == outlet.bodies == ["interrupting"]


def test_what_is_put_aside_without_end_does_not_hold_the_thread():
    """Something is wrong then, but not with the application."""

    def endless(standard, own):
        logging.getLogger("endless").warning("again")
        return json_line(standard, own)

    with interrupted(endless) as (lines, _):
        logging.getLogger("orders").info("paid")
        assert Counter(lines()) == {"paid": 1, "interrupting": 1, "again": 999}


def test_what_sending_logs_through_others_is_counted(seen, capsys):
    """It is not sent, for that would be endless; what libraries say that send telemetry is none."""

    class Loud(io.StringIO):
        def write(self, text):
            logging.getLogger("stream").warning("writing")
            logging.getLogger("urllib3").warning("sending")
            return super().write(text)

    with written(stream=Loud()):
        logging.getLogger("orders").info("paid")
        assert logs._stream_in_use.failed == 1
    said = "tercet: 1 log records lost, last of stream: 'it came while another was sent'\n"
    assert capsys.readouterr().err == said


def test_a_closed_stdout_stops_neither_the_service_nor_the_collector(seen, capsys):
    """Loss is told on stderr once a minute, and OTLP goes on."""
    out = io.StringIO()
    out.close()
    with written(stream=out):
        for _ in range(3):
            logging.getLogger("orders").info("paid")
        assert logs._stream_in_use.failed == 3
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("tercet: 1 log records lost, last of orders: ValueError(")
    assert [record.log_record.body for record in seen.logs] == ["paid"] * 3


def test_without_stdout_and_stderr_nothing_happens(seen, monkeypatch):
    """A service without a console has neither."""
    with written(stream=None):
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", None)
        logging.getLogger("orders").info("paid")
        logs._stream_in_use._tell_of_failure(logging.makeLogRecord({}), ValueError())
    assert len(seen.logs) == 1


class Logged(io.StringIO):
    """A stdout that logs what is written to it, as workers of Celery have."""

    logger = logging.getLogger("redirected")

    def write(self, text):
        if text.strip():
            self.logger.warning(text.rstrip())
        return 0


def test_lines_go_behind_a_stdout_that_logs(lines, monkeypatch):
    """Or each would come back as a record, and be lost; what is printed is a record."""
    monkeypatch.setattr(sys, "__stdout__", lines)
    monkeypatch.setattr(sys, "stdout", Logged())
    with written(stream=None):
        logging.getLogger("orders").warning("paid")
        sys.stdout.write("packed\n")
    assert [(line["logger"], line["message"]) for line in lines.all()] == [
        ("orders", "paid"),
        ("redirected", "packed"),
    ]


def test_a_stdout_that_cannot_say_a_character_gets_its_code(seen):
    """A line in columns is not ASCII; some terminals are."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    render = functools.partial(console_line, colour=False)
    stream = LogStream(service="shop", render=render, provider=None, stream=out)
    stream.take(logging.makeLogRecord(RECORD | {"msg": "für 日本"}))
    assert raw.getvalue().decode().endswith("f\\xfcr \\u65e5\\u672c\n")


def test_debug_in_production_is_refused_with_one_warning(seen):
    """Also through a logger with a level of its own, and also at the application's console."""
    with written(floor=logging.INFO) as out:
        chatty = logging.getLogger("chatty")
        chatty.setLevel(logging.DEBUG)
        for _ in range(3):
            chatty.debug("secret")
        chatty.info("fine")
    warning, fine = out.all()
    assert warning["level"] == "WARNING"
    assert warning["message"].startswith("DEBUG logs are refused in production; chatty writes some.")
    assert fine["message"] == "fine"
    assert len(seen.logs) == 2


@pytest.mark.parametrize(
    ("level", "text", "number"),
    [
        (5, "TRACE", SeverityNumber.TRACE),
        (10, "DEBUG", SeverityNumber.DEBUG),
        (25, "INFO", SeverityNumber.INFO),
        (30, "WARN", SeverityNumber.WARN),
        (40, "ERROR", SeverityNumber.ERROR),
        (50, "FATAL", SeverityNumber.FATAL),
    ],
)
def test_the_same_record_leaves_over_otlp(level, text, number, logger, seen):
    """Severity, body, attributes and ids."""
    logger.setLevel(1)
    with trace.get_tracer("t").start_as_current_span("serve", context=Context()) as span:
        logger.log(level, "paid %s", "Ann", extra={"amount": 5})
    ids = span.get_span_context()
    record = seen.logs[0].log_record
    assert (record.severity_text, record.severity_number, record.body) == (text, number, "paid Ann")
    assert dict(record.attributes) == {"amount": 5, "correlation_id": f"{ids.trace_id:032x}"}
    assert (record.trace_id, record.span_id) == (ids.trace_id, ids.span_id)
    assert abs(record.timestamp - record.observed_timestamp) < 60e9


def test_threads_never_mix_their_lines(seen):
    """Each line is whole."""
    with written() as out:
        threads = [
            threading.Thread(target=lambda: [logging.getLogger("orders").info("x" * 9000) for _ in range(20)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {len(line["message"]) for line in out.all()} == {9000}
    assert len(out.all()) == 80


def test_a_patch_made_before_the_setup_still_runs():
    """Other tools take records where tercet does, also after tercet was imported."""
    program = """
import logging
from tercet.emit import logs
seen, original = [], logging.Logger.callHandlers
def theirs(logger, record):
    seen.append(record.getMessage())
    original(logger, record)
logging.Logger.callHandlers = theirs
logs.install(None); logs.install(None)
logging.getLogger("orders").error("paid")
print(seen)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("['paid']\n", "paid\n")


def test_a_record_that_cannot_be_sent_is_counted_and_raises_nothing(seen, capsys):
    """A record without a level is none of Python's making."""
    with written() as lines:
        logs._stream_in_use.take(logging.makeLogRecord({"name": "odd", "msg": "x"}))
        assert (logs._stream_in_use.failed, lines.all()) == (1, [])
    assert capsys.readouterr().err.startswith("tercet: 1 log records lost, last of odd: TypeError(")


def test_a_filter_that_redacts_for_the_console_redacts_our_line_too(lines):
    """What a filter keeps out of the application's console stays out of the line that stands in its place."""

    def redact(record):
        record.msg = record.msg.replace("4111", "****")
        return "secret" not in record.msg

    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(redact)
    log = logging.getLogger("shop")
    log.addHandler(handler)
    try:
        log.warning("card 4111")
        log.warning("secret")
    finally:
        log.removeHandler(handler)
    assert [line["message"] for line in lines.all()] == ["card ****"]


@pytest.mark.parametrize("name", ["tercet", "tercet.export", "tercet.access"])
def test_what_tercet_itself_says_cannot_be_switched_off_by_accident(seen, name):
    """As `dictConfig` does by default with each logger that it does not name."""
    own = logging.getLogger(name)
    own.disabled = True
    assert not own.disabled
