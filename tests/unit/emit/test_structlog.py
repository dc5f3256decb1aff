"""structlog: its events are records like any other, once each, whatever the application configured."""

import asyncio
import json
import logging
import logging.config
import sys

import pytest
import structlog
from log_lines import written
from opentelemetry import trace
from opentelemetry.context import Context

from tercet.emit import logs
from tercet.emit import structlog as edge

# What an application usually has before its renderer.
USUAL = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.StackInfoRenderer(),
    structlog.processors.TimeStamper(fmt="iso"),
]
FORMATTER = structlog.stdlib.ProcessorFormatter.wrap_for_formatter


@pytest.fixture(autouse=True)
def _default_configuration():
    edge.install(True)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()


@pytest.fixture
def lines(seen):
    """The lines that the test writes."""
    with written() as out:
        yield out


def own(line):
    """Keep what the caller added."""
    return {key: value for key, value in line.items() if key not in logs.STANDARD}


def default():
    pass


def printed_json():
    structlog.configure(
        processors=[*USUAL, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(),
    )


def standard(*last):
    def configure():
        structlog.configure(
            processors=[structlog.stdlib.filter_by_level, structlog.stdlib.add_logger_name, *USUAL, *last],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        handler = logging.StreamHandler(sys.stdout)
        if last == (FORMATTER,):
            handler.setFormatter(
                structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer())
            )
        logging.getLogger().addHandler(handler)

    configure.__name__ = getattr(last[0], "__name__", type(last[0]).__name__)
    return configure


CONFIGURATIONS = [
    default,
    printed_json,
    standard(structlog.stdlib.render_to_log_kwargs),
    standard(FORMATTER),
    standard(structlog.processors.JSONRenderer()),
]


@pytest.mark.parametrize("configure", CONFIGURATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("when", ["before", "after"])
def test_each_event_is_written_once_however_structlog_is_configured(configure, when, seen, capsys):
    """With the caller's own fields, on stdout and over OTLP."""
    logger = structlog.get_logger("orders")
    with written(stream=None):
        configure()
        if when == "before":
            logger = structlog.get_logger("orders")
        logger.bind(order="A1").info("paid", amount=5)
    out, err = capsys.readouterr()
    (line,) = [json.loads(each) for each in out.splitlines()]
    assert (line["message"], line["level"], own(line)) == ("paid", "INFO", {"order": "A1", "amount": 5})
    assert err == ""
    (record,) = seen.logs
    assert record.log_record.body == "paid"
    assert dict(record.log_record.attributes) == {"order": "A1", "amount": 5}


def test_a_cached_logger_is_taken_too(lines):
    """It was made before, and structlog will not look again."""
    structlog.configure(cache_logger_on_first_use=True)
    logger = structlog.get_logger()
    edge.install(False)
    logger.info("off")
    edge.install(True)
    logger.info("on")
    assert lines.one()["message"] == "on"


def test_a_name_and_its_level_count(lines):
    """The standard logger behind decides."""
    standard(FORMATTER)()
    logging.getLogger("orders").setLevel(logging.WARNING)
    structlog.get_logger("orders").info("quiet")
    structlog.get_logger("orders").warning("loud")
    assert (lines.one()["logger"], lines.one()["message"]) == ("orders", "loud")


def test_an_event_without_a_standard_logger_has_a_name_or_ours(lines):
    """`logger` in the event names it."""
    structlog.get_logger().info("one")
    structlog.get_logger().bind(logger="pay").info("two")
    assert [line["logger"] for line in lines.all()] == ["structlog", "pay"]


def test_dict_config_does_not_switch_structlog_off(lines):
    """By default it disables each logger that it does not name."""
    structlog.get_logger().info("before")
    logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
    structlog.get_logger().info("after")
    assert [line["message"] for line in lines.all()] == ["before", "after"]


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", None),
        ("info", "INFO"),
        ("msg", "INFO"),
        ("warn", "WARNING"),
        ("warning", "WARNING"),
        ("error", "ERROR"),
        ("critical", "CRITICAL"),
        ("fatal", "CRITICAL"),
        ("exception", "ERROR"),
    ],
)
def test_each_method_has_its_level(method, level, lines):
    """As in logging; DEBUG is below INFO."""
    getattr(structlog.get_logger(), method)("x")
    assert [line["level"] for line in lines.all()] == ([level] if level else [])


def test_a_level_by_number(lines):
    """`log(level, event)` works for both kinds of loggers."""
    structlog.get_logger().log(logging.WARNING, "x")
    assert lines.one()["level"] == "WARNING"


@pytest.mark.parametrize("name", ["name", "filename", "module", "process", "args", "msg", "thread", "lineno"])
def test_a_field_that_a_record_has_for_itself_is_kept(name, lines, seen):
    """Keywords of structlog have no reserved words."""
    structlog.get_logger().info("x", **{name: "mine"})
    assert own(lines.one()) == {name: "mine"}
    assert dict(seen.logs[0].log_record.attributes) == {name: "mine"}


@pytest.mark.parametrize("configure", [default, standard(FORMATTER)], ids=["default", "standard"])
def test_a_field_that_bears_a_standard_name_is_kept_beside_it(configure, lines):
    """What only repeats the line's own is left out."""
    configure()
    structlog.get_logger("orders").info("x", service="acme", trace_id="", message="mine")
    assert own(lines.one()) == {"extra.service": "acme", "extra.message": "mine"}


def test_a_renamed_event_is_still_the_message(lines):
    """EventRenamer is for the renderer that gives way."""
    structlog.configure(
        processors=[structlog.processors.EventRenamer("message"), structlog.processors.JSONRenderer()]
    )
    structlog.get_logger().info("paid")
    assert (lines.one()["message"], own(lines.one())) == ("paid", {})


def test_a_context_is_on_the_line(lines):
    """Bound to the logger, or to the work at hand."""
    structlog.contextvars.bind_contextvars(request="r1")
    structlog.get_logger().bind(user="u1").info("x", amount=1)
    assert own(lines.one()) == {"request": "r1", "user": "u1", "amount": 1}


@pytest.mark.parametrize("exc_info", [True, 1, "error", "tuple"])
def test_an_exception_is_described(exc_info, lines):
    """In every way that logging itself understands."""
    try:
        raise KeyError("card")
    except KeyError as error:
        given = {"error": error, "tuple": sys.exc_info()}.get(exc_info, exc_info)
        structlog.get_logger().error("failed", exc_info=given)
    assert lines.one()["exception.type"] == "KeyError"


@pytest.mark.parametrize(
    "processor", [structlog.processors.format_exc_info, structlog.processors.dict_tracebacks]
)
def test_an_exception_that_a_processor_has_rendered_stays_so(processor, lines):
    """The application chose its form."""
    structlog.configure(processors=[processor, structlog.processors.JSONRenderer()])
    try:
        raise KeyError("card")
    except KeyError:
        structlog.get_logger().exception("failed")
    assert "KeyError" in json.dumps(lines.one()["exception"])


def test_a_stack_is_kept(lines):
    """StackInfoRenderer says it."""
    structlog.get_logger().info("here", stack_info=True)
    assert lines.one()["stack"].startswith("Stack (most recent call last)")


@pytest.mark.parametrize("configure", [default, standard(FORMATTER)], ids=["default", "standard"])
def test_positional_arguments_are_in_the_message(configure, lines):
    """As in logging."""
    configure()
    structlog.get_logger("orders").info("paid %d of %s", 5, "Ann")
    assert (lines.one()["message"], own(lines.one())) == ("paid 5 of Ann", {})


def test_an_event_may_be_missing(lines):
    """Fields alone are a record too."""
    standard(FORMATTER)()
    structlog.get_logger("orders").info(amount=5)
    assert (lines.one()["message"], own(lines.one())) == ("", {"amount": 5})


def test_asynchronous_methods_belong_to_their_trace(lines, seen):
    """They run in a thread."""

    async def main():
        with trace.get_tracer("t").start_as_current_span("serve", context=Context()) as span:
            await structlog.get_logger().ainfo("paid", amount=5)
            return f"{span.get_span_context().trace_id:032x}"

    assert asyncio.run(main()) == lines.one()["trace_id"]


def test_a_processor_may_drop_an_event(lines):
    """As structlog has it."""

    def drop(_logger, _name, _event):
        raise structlog.DropEvent

    structlog.configure(processors=[drop, structlog.processors.JSONRenderer()])
    structlog.get_logger().info("x")
    assert lines.all() == []


def test_capture_logs_still_captures(lines):
    """A test wants the events for itself."""
    with structlog.testing.capture_logs() as captured:
        structlog.get_logger().info("x", amount=5)
    assert captured == [{"event": "x", "amount": 5, "log_level": "info"}]
    assert lines.all() == []
