"""The whole pipeline, each case in a process of its own: OpenTelemetry keeps its first providers for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

QUIET = """
import logging, os, sys, time
import tercet
from tercet import setup_observability
from opentelemetry import metrics, trace, _logs
off = dict(traces_exporter="none", metrics_exporter="none", logs_exporter="none", log_format="off")
"""
#: Said in this process because of what else is installed here; not what these cases are about.
ELSEWHERE = "Another distribution is installed: distro."


@pytest.fixture
def run(tmp_path: Path):
    """Run a program in a process of its own; return what it printed and what it warned of."""

    def run(program, **environ):
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TERCET_"))}
        source = str(Path(__file__).parents[3] / "src")
        done = subprocess.run(
            [sys.executable, "-c", QUIET + program],
            env=kept | {"PYTHONPATH": source} | environ,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        warned = done.stderr.splitlines()
        return done.stdout.splitlines(), [line for line in warned if ELSEWHERE not in line]

    return run


def test_the_same_settings_return_the_same_handle(run):
    """Other settings are refused, by their names."""
    out, warned = run("""
one = setup_observability("orders", **off)
print(setup_observability("orders", **off) is one)
try:
    setup_observability("pay", environment="prod", **off)
except tercet.SetupError as error:
    print(error)
""")
    assert out == [
        "True",
        (
            "setup_observability() must get the same settings each time, got others for: environment, "
            "service_name. Call it once, when the process starts."
        ),
    ]
    assert warned == []


def test_after_shutdown_there_is_no_second_setup(run):
    """Whoever was first stays; shutting down twice is fine."""
    out, _ = run("""
with setup_observability("orders", **off) as handle:
    print(handle.is_shut_down)
print(handle.is_shut_down, handle.shutdown(), handle.force_flush())
try:
    setup_observability("orders", **off)
except tercet.SetupError as error:
    print(str(error)[:52])
try:
    handle.metrics_app()
except tercet.SetupError as error:
    print(str(error)[:59])
""")
    assert out == [
        "False",
        "True True True",
        "setup_observability() must not follow shutdown(), fo",
        "metrics_app() must be called before shutdown(). Call it whe",
    ]


def test_disabled_touches_nothing(run):
    """Not even the name of a provider."""
    out, warned = run(
        """
before = [logging.Logger.callHandlers, trace.get_tracer_provider(), logging.getLogger().level]
handle = setup_observability("orders")
print(before == [logging.Logger.callHandlers, trace.get_tracer_provider(), logging.getLogger().level])
print(handle.force_flush(), handle.shutdown(), handle.settings.disabled)
print(type(tercet.metrics_app()).__name__)
""",
        OTEL_SDK_DISABLED="true",
    )
    assert out == [
        "True",
        "True True True",
        "PrometheusApp",
    ]
    assert warned == []


def test_a_setup_that_fails_leaves_nothing_behind(run):
    """The next one starts afresh: nothing is in place twice, and no thread is left."""
    out, _ = run("""
import threading
for wrong in ({"http_edges": "contrib"}, {"traces_sampler": "nope"}, {"propagators": "nope"}):
    try:
        sys.modules["opentelemetry.instrumentation.asgi"] = None
        setup_observability("orders", **off | wrong)
    except tercet.TercetError as error:
        print(type(error).__name__, type(trace.get_tracer_provider()).__name__, threading.active_count())
setup_observability("orders", **off | {"traces_exporter": "console"})
print(len(trace.get_tracer_provider()._active_span_processor._span_processors))
""")
    assert out == [
        "SetupError ProxyTracerProvider 1",
        "SettingsError ProxyTracerProvider 1",
        "SettingsError ProxyTracerProvider 1",
        "1",
    ]


def test_code_that_sets_up_starts_where_the_agent_could_not(run):
    """Under an agent wrong settings are one warning, also for a service that calls setup itself."""
    out, _ = run(
        """
from tercet.configure.distro import TercetConfigurator
TercetConfigurator().configure()
handle = setup_observability("orders")
print(handle.settings.disabled, type(tercet.metrics_app()).__name__)
""",
        OTEL_TRACES_SAMPLER_ARG="lots",
    )
    assert out[-1] == "True PrometheusApp"


def test_a_processor_of_somebody_else_fails_by_itself(run):
    """Neither a traced function nor the next processor notices."""
    out, _ = run("""
from opentelemetry.sdk.trace import SpanProcessor
class Failing(SpanProcessor):
    def on_start(self, span, parent_context=None): raise ValueError("no start")
    def on_end(self, span): raise ValueError("no end")
class Counting(SpanProcessor):
    def on_end(self, span): print("ended", span.name)
setup_observability("orders", **off)
provider = trace.get_tracer_provider()
provider.add_span_processor(Failing())
provider.add_span_processor(Counting())
@tercet.traced("work")
def work(): return "done"
print(work())
""")
    assert [line for line in out if not line.startswith("{")] == ["ended work", "done"]


def test_an_earlier_provider_of_the_sdk_is_adopted_and_named(run):
    """It keeps its own, and gets ours; its owner shuts it down."""
    out, warned = run("""
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk._logs import LoggerProvider
mine = TracerProvider()
trace.set_tracer_provider(mine); metrics.set_meter_provider(MeterProvider())
_logs.set_logger_provider(LoggerProvider())
setup_observability("orders", **off | {"metrics_exporter": "console"}).metrics_app()
print(trace.get_tracer_provider() is mine)
with trace.get_tracer("t").start_as_current_span("x") as span:
    print(span.attributes["correlation_id"] == f"{span.get_span_context().trace_id:032x}")
""")
    assert out[:2] == ["True", "True"]
    assert warned == [
        f"A {kind}Provider was set earlier; tercet adopts it, and its own resource and rules stay."
        for kind in ("Tracer", "Meter", "Logger")
    ]


def test_a_provider_that_cannot_be_extended_is_refused_and_named(run):
    """Nothing is installed then."""
    out, _ = run("""
class Theirs(trace.TracerProvider):
    def get_tracer(self, *args, **kwargs): ...
trace.set_tracer_provider(Theirs())
try:
    setup_observability("orders", **off)
except tercet.SetupError as error:
    print(error)
print(type(metrics.get_meter_provider()).__name__)
""")
    assert out == [
        (
            "The global TracerProvider must be unset or the SDK's, got __main__.Theirs, which tercet cannot "
            "extend. Set up tercet first, or remove what sets it."
        ),
        "_ProxyMeterProvider",
    ]


def test_what_is_odd_is_said(run):
    """A second distribution, a variable that is none, telemetry that would leave twice."""
    _, warned = run(
        """
from tercet.configure import setup
setup.entry_points = lambda group: [type("E", (), {"name": name}) for name in ("tercet", "acme")]
setup_observability("orders", **off)
""",
        TERCET_LOG_LEVLE="DEBUG",
        FASTAPI_OTEL_AUTO_CONFIGURE="true",
    )
    assert warned == [
        "TERCET_LOG_LEVLE has no effect. Did you mean 'TERCET_LOG_LEVEL'?",
        "FASTAPI_OTEL_AUTO_CONFIGURE=true exports everything a second time. Unset it.",
        "Another distribution is installed: acme. Set OTEL_PYTHON_DISTRO=tercet to choose.",
    ]


def test_a_proxy_that_is_not_used_is_said(run):
    """Once for all signals; not where nothing would be sent through it."""
    program = "setup_observability('orders', otlp_endpoint='https://vendor.example', **({}))\nos._exit(0)"
    socks = {"HTTPS_PROXY": "socks5://user:hunter2@proxy:1080"}
    assert run(program.format("dict(log_format='off')"), **socks)[1] == [
        "HTTPS_PROXY has no effect. It must be the address of a proxy that speaks HTTP."
    ]
    by_grpc = program.format("off | dict(traces_exporter='otlp', otlp_protocol='grpc')")
    assert run(by_grpc, **socks)[1] == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("setup_observability(' ')", "service_name must be a name, got ''. Write the name of the service."),
        (
            "setup_observability('orders', log_levle='x')",
            "setup_observability() has no setting 'log_levle'. Did you mean 'log_level'?",
        ),
        (
            "setup_observability('orders', environ={})",
            "setup_observability() has no setting 'environ'. Did you mean 'environment'?",
        ),
    ],
)
def test_wrong_settings_raise_in_the_function(call, message, run):
    """Where the traceback shows the caller."""
    out, _ = run(f"""
try:
    {call}
except tercet.TercetError as error:
    print(error)
""")
    assert out == [message]


@pytest.mark.parametrize(
    ("environ", "warning"),
    [
        ({"TERCET_LOG_LEVEL": "LOUD"}, "Telemetry is off: TERCET_LOG_LEVEL must be one of DEBUG, "),
        ({"TERCET_CONFIG": "nowhere"}, "Telemetry is off: TERCET_CONFIG must be a file that exists, "),
        ({"OTEL_TRACES_EXPORTER": "zipkinn"}, "Telemetry is off: traces_exporter (OTEL_TRACES_EXPORTER) "),
        (
            {"OTEL_TRACES_SAMPLER_ARG": "lots"},
            "Telemetry is off: traces_sampler_arg (OTEL_TRACES_SAMPLER_ARG",
        ),
    ],
)
def test_wrong_settings_are_one_warning_under_the_agent(environ, warning, run):
    """The service starts, without telemetry."""
    out, warned = run(
        """
from tercet.configure.distro import TercetConfigurator, TercetDistro
TercetDistro().configure()
TercetConfigurator().configure(auto_instrumentation_version="x")
print(os.environ["OTEL_PYTHON_CONFIGURATOR"], TercetDistro().settings, "the service runs")
""",
        OTEL_SERVICE_NAME="orders",
        **environ,
    )
    assert out == ["tercet None the service runs"]
    assert len(warned) == 1
    assert warned[0].startswith(warning)


@pytest.mark.parametrize(("chosen", "named"), [("", True), ("tercet", False)])
def test_a_wrong_setting_beside_another_distribution_names_it(chosen, named, run, tmp_path):
    """That one sets variables too, and the user may never have heard of them."""
    info = tmp_path / "neighbour-1.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[opentelemetry_distro]\nneighbour = n:D\n")
    _, (warned,) = run(
        "from tercet.configure.distro import TercetConfigurator\nTercetConfigurator().configure()",
        OTEL_EXPORTER_OTLP_PROTOCOL="carrier",
        OTEL_PYTHON_DISTRO=chosen,
    )
    assert warned.startswith("Telemetry is off: OTEL_EXPORTER_OTLP_PROTOCOL must be")
    assert ("neighbour" in warned, "Set OTEL_PYTHON_DISTRO=tercet to choose." in warned) == (named, named)


def test_a_failure_that_nobody_foresaw_stops_no_service(run):
    """It is one warning, with the traceback."""
    out, warned = run("""
from tercet.configure import distro
def fail(*args, **kwargs): raise ZeroDivisionError
distro.setup_process = fail
distro.TercetConfigurator().configure()
print("the service runs")
""")
    assert out == ["the service runs"]
    assert (warned[0], warned[-1]) == ("Telemetry is off: tercet failed to start.", "ZeroDivisionError")


def test_after_the_agent_the_function_returns_its_handle(run):
    """Its own settings are said to stay, if they differ."""
    out, warned = run(
        """
from tercet.configure.distro import TercetConfigurator, TercetDistro
TercetConfigurator().configure()
print(setup_observability("orders").by_agent, TercetDistro().settings.service_name)
setup_observability("pay")
""",
        OTEL_SERVICE_NAME="orders",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        TERCET_LOG_FORMAT="off",
    )
    assert out == ["True orders"]
    assert warned == ["This process was set up when it started; its settings stay, also for: service_name."]


def test_a_service_without_a_name_is_told_so(run):
    """Under the agent nobody must give one."""
    _, warned = run(
        "from tercet.configure.distro import TercetConfigurator\nTercetConfigurator().configure()",
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        TERCET_LOG_FORMAT="off",
    )
    assert warned == ["This service has no name. Set OTEL_SERVICE_NAME."]


def test_an_instrumentor_that_fails_stops_no_other(run):
    """It is named and left out; those whose work tercet does are not asked."""
    out, warned = run("""
from tercet.configure.edges import Instrumentors
class Entry:
    def __init__(self, name): self.name = name
    def load(self):
        if self.name == "broken": raise ImportError("no such library")
        return type("I", (), {"instrument": lambda _self, **_kwargs: print(self.name)})
some = Instrumentors()
some.settings = tercet.Settings(**{})
for name in ("logging", "httpx", "broken", "sqlite3"):
    some.load_instrumentor(Entry(name))
some.settings = None
some.load_instrumentor(Entry("sqlite3"))
""")
    assert out == ["sqlite3"]
    assert len(warned) == 1
    assert warned[0].startswith("The instrumentor broken failed and is left out: ImportError(")


@pytest.mark.parametrize("action", ["force_flush", "shutdown"])
def test_a_stuck_exporter_holds_nobody_longer_than_the_deadline(action, run):
    """The answer is no, and the process ends."""
    out, warned = run(f"""
import threading
from tercet.configure import traces
from opentelemetry.sdk.trace.export import SpanExporter
class Stuck(SpanExporter):
    def export(self, spans): threading.Event().wait()
    def shutdown(self): threading.Event().wait()
    def force_flush(self, timeout_millis=0): threading.Event().wait()
traces.exporter_names = lambda signal, settings: ["stuck"]
traces.build_exporter = lambda name, signal: Stuck()
handle = setup_observability("orders", shutdown_timeout=0.2, **off)
with trace.get_tracer("t").start_as_current_span("x"): pass
started = time.monotonic()
print(handle.{action}(timeout=0.2), time.monotonic() - started < 2)
sys.stdout.flush()
os._exit(0) if "{action}" == "force_flush" else None
""")
    assert out == ["False True"]
    assert warned == (
        ["tercet: not all telemetry was delivered before the process ended."] if action == "shutdown" else []
    )


def test_a_disabled_agent_activates_nothing(run):
    """Neither providers nor instrumentors."""
    out, warned = run(
        """
from tercet.configure.distro import TercetConfigurator, TercetDistro
TercetConfigurator().configure()
print(TercetDistro().settings, type(trace.get_tracer_provider()).__name__)
""",
        OTEL_SDK_DISABLED="true",
    )
    assert out == ["None ProxyTracerProvider"]
    assert warned == []


AS_A_WORKER = """
sys.modules["gunicorn.arbiter"] = sys  # as it is in a worker of gunicorn's
handle = setup_observability("orders", workers_directory="shared", workers_interval=60, **off)
"""


def test_a_worker_that_is_scraped_shares_what_it_counts(run, tmp_path):
    """From when it serves, and not before: its supervisor sets itself up in the same way."""
    out, warned = run(
        AS_A_WORKER
        + """
handle.metrics_app()
print(os.path.exists("shared"))
handle.begin()
handle.begin()
print(sorted(path.partition(".")[2] for _, _, paths in os.walk("shared") for path in paths))
"""
    )
    assert (out, warned) == (["False", "['', 'numbers']"], [])


@pytest.mark.parametrize(
    ("why", "program"),
    [
        ("nobody scrapes", AS_A_WORKER + "handle.begin()"),
        (
            "nobody supervises",
            AS_A_WORKER + "del sys.modules['gunicorn.arbiter']\nhandle.metrics_app()\nhandle.begin()",
        ),
        ("it is off", AS_A_WORKER.replace('"shared"', '"off"') + "handle.metrics_app()\nhandle.begin()"),
        ("it has ended", AS_A_WORKER + "handle.metrics_app()\nhandle.shutdown()\nhandle.begin()"),
    ],
)
def test_nothing_is_shared_where_nobody_needs_it(run, tmp_path, why, program):
    """A service touches no disk for it."""
    _, warned = run(program)
    assert (warned, list(tmp_path.iterdir())) == ([], []), why


def test_an_app_that_is_made_late_shares_as_well(run, tmp_path):
    """In the middle of serving, for example by its first request."""
    run(AS_A_WORKER + "handle.begin()\nhandle.metrics_app()")
    assert len(list(tmp_path.glob("shared/*/*.numbers"))) == 1


def test_a_directory_that_cannot_be_used_is_a_warning(run, tmp_path):
    """And the worker is scraped for itself."""
    (tmp_path / "shared").write_text("a file")
    _, warned = run(AS_A_WORKER + "handle.metrics_app()\nhandle.begin()")
    (line,) = warned
    assert "TERCET_WORKERS_DIRECTORY" in line
    assert "File exists" in line


TAKEN = (
    """
import socket
sys.orig_argv = ["gunicorn"]
taken = socket.create_server(("127.0.0.1", 0))
port = taken.getsockname()[1]
"""
    + AS_A_WORKER.replace("60", "60, prometheus_port=port")
    + "handle.begin()\n"
)


def test_a_port_that_somebody_else_has_is_named_once(run):
    """It is tried again as long as the worker lives, for that one may go."""
    (line,) = run(TAKEN + "handle.serve_prometheus()\n" * 3)[1]
    assert "OTEL_EXPORTER_PROMETHEUS_PORT must be a free port" in line


def test_a_port_that_a_killed_worker_keeps_an_instant_longer_than_its_lock_is_no_news(run):
    """The worker that takes over in between has it a look later."""
    served = "handle.serve_prometheus()\nprint(handle._server.address[1] == port)"
    assert run(TAKEN + "taken.close()\n" + served) == (["True"], [])


ADDED = """
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

class Spans(SpanExporter):
    def export(self, spans):
        os.write(1, b"spans\\n")
        return SpanExportResult.SUCCESS

class Logs(LogRecordExporter):
    def export(self, batch):
        os.write(1, b"logs\\n")
        return LogRecordExportResult.SUCCESS
    def force_flush(self, timeout_millis=0):
        return True
    def shutdown(self):
        pass

class Metrics(MetricExporter):
    def export(self, metrics_data, timeout_millis=0, **kwargs):
        os.write(1, b"metrics\\n")
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0):
        return True
    def shutdown(self, timeout_millis=0, **kwargs):
        pass

handle = setup_observability("orders", **off)
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(Spans()))
_logs.get_logger_provider().add_log_record_processor(BatchLogRecordProcessor(Logs()))
metrics.get_meter_provider().add_metric_reader(PeriodicExportingMetricReader(Metrics(), 1_000_000))
trace.get_tracer("app").start_span("work").end()
_logs.get_logger("app").emit(body="said")
metrics.get_meter("app").create_counter("done").add(1)
"""


@pytest.mark.parametrize("end", ["", "handle.shutdown()", "sys.exit()"])
def test_what_others_add_to_our_providers_is_sent_in_the_end_too(run, end):
    """As it is without tercet, where providers shut themselves down."""
    out, _ = run(ADDED + end)
    assert sorted(out) == ["logs", "metrics", "spans"]


def test_what_others_add_to_our_providers_is_flushed(run):
    """With ours."""
    out, _ = run(ADDED + "print(handle.force_flush(), flush=True)\nos._exit(0)")
    assert sorted(out) == ["True", "logs", "metrics", "spans"]


def test_what_its_user_has_shut_down_is_not_shut_down_again(run):
    """The end of the process finds it so; who is shut down twice may warn of it."""
    out, err = run(
        ADDED
        + """
from opentelemetry.sdk.trace import SpanProcessor
class Proud(SpanProcessor):
    def shutdown(self):
        print("shut down", flush=True)
trace.get_tracer_provider().add_span_processor(Proud())
logging.basicConfig(stream=sys.stdout, format="%(message)s", force=True)
for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
    provider.shutdown()
"""
    )
    assert (sorted(out), err) == (["logs", "metrics", "shut down", "spans"], [])


def test_an_end_that_is_interrupted_leaves_on_disk_what_waits(run, tmp_path):
    """As by Ctrl-C for the second time."""
    run("""
import socket
from tercet.configure import handle as module
blackhole = socket.create_server(("127.0.0.1", 0))
where = f"http://127.0.0.1:{blackhole.getsockname()[1]}"
handle = setup_observability(
    "orders", metrics_exporter="none", log_format="off", otlp_endpoint=where, spool_directory="spool"
)
trace.get_tracer("app").start_span("work").end()
def interrupted(self):
    raise KeyboardInterrupt
module._SideBySide.run = interrupted
try:
    handle.shutdown()
except KeyboardInterrupt:
    os._exit(0)
""")
    assert len(list(tmp_path.glob("spool/traces/*.otlp"))) == 1
