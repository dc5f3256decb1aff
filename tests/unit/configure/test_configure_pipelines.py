"""From settings to providers: resource, sampler, views, propagators and levels; built, not installed."""

import logging
import sys

import pytest
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from tercet import __version__
from tercet.configure.logs import build_log_processors, build_log_stream, setup_levels
from tercet.configure.metrics import build_meter_provider, build_metric_readers
from tercet.configure.propagation import build_propagator
from tercet.configure.resource import build_resource, unnamed
from tercet.configure.traces import build_sampler, build_span_processors, build_tracer_provider
from tercet.declare.settings import Settings
from tercet.errors import SettingsError


def load(**arguments):
    return Settings.load({}, **arguments)


def test_the_resource_says_who_emits():
    """The settings stand over the given attributes."""
    attributes = build_resource(
        load(
            service_name="orders",
            service_version="1.2",
            environment="prod",
            resource_attributes={"team": "a", "service.name": "other"},
        )
    ).attributes
    named = {
        "service.name": "orders",
        "service.version": "1.2",
        "deployment.environment.name": "prod",
        "telemetry.distro.name": "tercet",
        "telemetry.distro.version": __version__,
        "telemetry.sdk.language": "python",
        "team": "a",
    }
    assert {key: attributes[key] for key in named} == named


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/opt/app/serve.py"], "unknown_service:serve.py"),
        (["-c"], "unknown_service:python"),
        ([""], "unknown_service:python"),
        ([], "unknown_service:python"),
    ],
)
def test_a_service_that_nobody_named_is_named_by_its_program(argv, name, monkeypatch):
    """As the specification wants it."""
    monkeypatch.setattr(sys, "argv", argv)
    assert unnamed() == name
    assert build_resource(load()).attributes["service.name"] == name


@pytest.mark.parametrize(
    ("sampler", "argument", "description"),
    [
        ("always_on", "", "AlwaysOnSampler"),
        ("always_off", "", "AlwaysOffSampler"),
        ("traceidratio", "0.25", "TraceIdRatioBased{0.25}"),
        ("parentbased_always_on", "", "ParentBased{root:AlwaysOnSampler"),
        ("parentbased_always_off", "", "ParentBased{root:AlwaysOffSampler"),
        ("parentbased_traceidratio", "0.1", "ParentBased{root:TraceIdRatioBased{0.1}"),
    ],
)
def test_every_sampler_of_the_specification_is_known(sampler, argument, description):
    """By its name, with its share."""
    built = build_sampler(load(traces_sampler=sampler, traces_sampler_arg=argument or None))
    assert built.get_description().startswith(description)


@pytest.mark.parametrize("argument", ["lots", "1.1", "-0.1", "nan", ""])
def test_a_share_that_is_none_is_named(argument):
    """With the setting, the variable and the mend."""
    with pytest.raises(SettingsError) as error:
        build_sampler(load(traces_sampler_arg=argument))
    assert str(error.value) == (
        f"traces_sampler_arg (OTEL_TRACES_SAMPLER_ARG) must be a number from 0 to 1, got {argument!r}. "
        "Write 0.1 to keep one trace in ten."
    )


def test_an_unknown_sampler_is_named():
    """And the default is offered."""
    with pytest.raises(SettingsError) as error:
        build_sampler(load(traces_sampler="sometimes"))
    assert str(error.value) == (
        "traces_sampler (OTEL_TRACES_SAMPLER) must be a sampler of the specification or installed, "
        "got 'sometimes'. Write parentbased_traceidratio."
    )


class _Installed:
    """Stand in for an entry point."""

    def __init__(self, made):
        self.made = made

    def load(self):
        return self.made


def test_an_installed_sampler_gets_its_argument(monkeypatch):
    """Found by its entry point, as upstream does it."""
    found = {"always": _Installed(lambda argument: ALWAYS_ON if argument == "on" else ALWAYS_OFF)}
    monkeypatch.setattr(
        "tercet.configure.traces.entry_points", lambda *, group, name: [found[name]] if name in found else []
    )
    assert build_sampler(load(traces_sampler="always", traces_sampler_arg="on")) is ALWAYS_ON


def test_nothing_is_sent_without_exporters():
    """Spans still get their correlation id."""
    settings = load(traces_exporter="none", logs_exporter="none", metrics_exporter="none")
    assert [type(each).__name__ for each in build_span_processors(settings)] == ["Correlated"]
    assert build_log_processors(settings) == []
    assert build_metric_readers(settings) == []


def test_batches_and_intervals_are_those_of_the_settings():
    """A batch is never larger than its queue."""
    settings = load(
        traces_exporter="console",
        logs_exporter="console",
        metrics_exporter="console",
        span_queue_size=10,
        span_batch_size=100,
        metric_export_interval=5,
    )
    _, batch = build_span_processors(settings)
    (records,), (reader,) = build_log_processors(settings), build_metric_readers(settings)
    assert batch._batch_processor._max_export_batch_size == 10
    assert reader._export_interval_millis == 5000
    for each in (batch, records, reader):
        each.shutdown()


def series_of(settings, instrument, attributes, value=0.3):
    """Record one value as any library may, and return the attributes and bounds of its series."""
    reader = InMemoryMetricReader()
    provider = build_meter_provider(settings, Resource.get_empty(), [reader])
    meter = provider.get_meter("any.library")
    meter.create_histogram(instrument, "s").record(value, attributes)
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    return dict(point.attributes), tuple(point.explicit_bounds)


@pytest.mark.parametrize("side", ["server", "client"])
def test_hosts_and_raw_paths_never_reach_a_series(side):
    """Whoever emits the metric."""
    kept = {"http.request.method": "GET", "http.response.status_code": 200}
    if side == "server":
        kept |= {"url.scheme": "http", "http.route": "/orders/{id}"}
    attributes, bounds = series_of(
        load(),
        f"http.{side}.request.duration",
        kept
        | {"net.host.name": "evil", "url.path": "/orders/7", "user_agent.original": "x", "url.full": "y"},
    )
    assert attributes == kept
    assert bounds == (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def test_buckets_are_those_of_the_settings():
    """Other histograms keep their own."""
    settings = load(duration_buckets=[0.1, 1])
    assert series_of(settings, "http.server.request.duration", {})[1] == (0.1, 1.0)
    assert series_of(settings, "other", {"host": "x"})[0] == {"host": "x"}


@pytest.mark.parametrize(("chosen", "kept"), [("trace_based", 0), ("always_on", 1), ("always_off", 0)])
def test_exemplars_are_those_of_the_settings(chosen, kept):
    """Outside of a trace, only always_on keeps one."""
    reader = InMemoryMetricReader()
    provider = build_meter_provider(load(exemplar_filter=chosen), Resource.get_empty(), [reader])
    provider.get_meter("t").create_counter("c").add(1)
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    assert len(metric.data.data_points[0].exemplars) == kept


def test_a_ratio_of_none_samples_nothing():
    """The provider uses the sampler of the settings."""
    provider = build_tracer_provider(load(traces_sampler_arg=0), Resource.get_empty())
    with provider.get_tracer("t").start_as_current_span("x") as span:
        assert not span.get_span_context().trace_flags.sampled


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (None, {"traceparent", "tracestate", "baggage", "X-Correlation-ID"}),
        ("correlation", {"X-Correlation-ID"}),
        ("none", set()),
        ("none,baggage", {"baggage"}),
    ],
)
def test_propagators_are_those_of_the_settings(names, fields):
    """All three by default."""
    propagator = build_propagator(load(propagators=names))
    assert isinstance(propagator, TextMapPropagator)
    assert propagator.fields == fields


def test_an_unknown_propagator_is_named():
    """With the setting, the variable and the mend."""
    with pytest.raises(SettingsError) as error:
        build_propagator(load(propagators="b33"))
    assert str(error.value) == (
        "propagators (OTEL_PROPAGATORS) must be tracecontext, baggage, correlation, none or installed ones, "
        "got 'b33'. Correct the name, or install it."
    )


def test_an_installed_propagator_is_found(monkeypatch):
    """By its entry point."""
    found = [_Installed(lambda: build_propagator(load(propagators="baggage")))]
    monkeypatch.setattr("tercet.configure.propagation.entry_points", lambda **_query: found)
    assert build_propagator(load(propagators="theirs")).fields == {"baggage"}


@pytest.fixture
def _levels_restored():
    names = ("", "httpx", "httpx2", "hpack", "a.b")
    before = {name: logging.getLogger(name).level for name in names}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize(
    ("root", "httpx", "arguments", "levels"),
    [
        ("WARNING", "NOTSET", {}, ("INFO", "WARNING", "NOTSET")),
        ("ERROR", "DEBUG", {}, ("ERROR", "DEBUG", "NOTSET")),
        ("ERROR", "NOTSET", {"log_level": "debug"}, ("DEBUG", "WARNING", "NOTSET")),
        ("WARNING", "NOTSET", {"http_edges": "off"}, ("INFO", "NOTSET", "NOTSET")),
        (
            "WARNING",
            "NOTSET",
            {"log_levels": "a.b=error,httpx=info"},
            ("INFO", "INFO", "ERROR"),
        ),
    ],
)
@pytest.mark.usefixtures("_levels_restored")
def test_levels_are_info_where_nobody_chose(root, httpx, arguments, levels):
    """The settings go before the application's, and those before ours."""
    logging.getLogger().setLevel(root)
    logging.getLogger("httpx").setLevel(httpx)
    logging.getLogger("a.b").setLevel("NOTSET")
    setup_levels(load(**arguments))
    found = [logging.getLevelName(logging.getLogger(name).level) for name in ("", "httpx", "a.b")]
    assert tuple(found) == levels


@pytest.mark.parametrize(
    ("arguments", "floor"),
    [
        ({"environment": "production"}, logging.INFO),
        ({"environment": "production", "debug_in_production": True}, logging.NOTSET),
        ({"environment": "staging"}, logging.NOTSET),
    ],
)
def test_debug_stays_in_unless_it_is_forced_out(arguments, floor):
    """Only production refuses it."""
    stream = build_log_stream(load(log_format="json", **arguments), "orders", None, {})
    assert (stream._floor, stream.writes_lines) == (floor, True)


class _Failing(TextMapPropagator):
    """A propagator that others wrote, and that breaks."""

    fields = frozenset({"x-theirs"})

    def extract(self, carrier, context=None, getter=None):
        raise KeyError("in")

    def inject(self, carrier, context=None, setter=None):
        raise KeyError("out")


def test_a_foreign_propagator_that_fails_fails_no_request(monkeypatch, caplog):
    """The others go on, and the failure is told, once a minute."""
    monkeypatch.setattr("tercet.configure.propagation.entry_points", lambda **_query: [_Installed(_Failing)])
    propagator, outgoing = build_propagator(load(propagators="theirs,correlation")), {}
    context = propagator.extract({"X-Correlation-ID": "abc"}, Context())
    propagator.inject(outgoing, context)
    assert outgoing == {"X-Correlation-ID": "abc"}
    assert "x-theirs" in propagator.fields
    assert caplog.messages == ["The propagator _Failing failed: KeyError('in')"]
