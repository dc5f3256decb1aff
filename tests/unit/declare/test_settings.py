"""The table of settings: where each value comes from, and what is said when it cannot be used."""

import copy
import dataclasses
from pathlib import Path

import pytest
from opentelemetry.sdk import environment_variables

from tercet.declare.settings import SIGNALS, Settings, rows, slots, unknown_variables
from tercet.errors import SettingsError, TercetError, UnknownSettingError

# For each row: a value as an argument, as a variable with its meaning, as a line of TOML with its meaning,
# and a value that cannot be used, as an argument and as a variable.
SAMPLES = {
    "service_name": ("orders", "pay", "pay", "'mail'", "mail", 5, None),
    "service_version": ("1", "2", "2", "'3'", "3", 5, None),
    "environment": ("a", "b", "b", "'c'", "c", 5, None),
    "resource_attributes": ({"a": "1"}, "b=2", {"b": "2"}, "{c = '3'}", {"c": "3"}, "x", "x"),
    "disabled": (True, "true", True, "true", True, "maybe", "maybe"),
    "propagators": (("b3",), "baggage", ("baggage",), "['none']", ("none",), 5, None),
    "traces_exporter": (("none",), "console", ("console",), "'x,y'", ("x", "y"), 5, None),
    "metrics_exporter": (("none",), "console", ("console",), "'x'", ("x",), 5, None),
    "logs_exporter": (("none",), "console", ("console",), "'x'", ("x",), 5, None),
    "otlp_endpoint": (
        "http://a:1",
        "http://b:2",
        "http://b:2",
        "'http://c:3'",
        "http://c:3",
        "ftp://a:1",
        "ftp://a:1",
    ),
    "otlp_protocol": ("grpc", "grpc", "grpc", "'grpc'", "grpc", "carrier", "carrier"),
    "otlp_headers": ({"a": "1"}, "b=2", {"b": "2"}, "'c=3'", {"c": "3"}, "token-abc", "token-abc"),
    "otlp_timeout": (1, "2", 2.0, "3.5", 3.5, 0, "soon"),
    "otlp_compression": ("none", "deflate", "deflate", "'none'", "none", "zip", "zip"),
    "otlp_certificate": ("a", "b", "b", "'c'", "c", 5, None),
    "otlp_client_key": ("a", "b", "b", "'c'", "c", 5, None),
    "otlp_client_certificate": ("a", "b", "b", "'c'", "c", 5, None),
    "otlp_insecure": (True, "1", True, "true", True, "maybe", "maybe"),
    "export_max_bytes": (2048, "4096", 4096, "8192", 8192, 1, "much"),
    "export_batch_bytes": (2048, "4096", 4096, "8192", 8192, 1, "much"),
    "spool_directory": ("a", "b", "b", "'c'", "c", 5, None),
    "spool_max_bytes": (2048, "4096", 4096, "8192", 8192, 1, "much"),
    "spool_max_files": (1, "2", 2, "3", 3, 0, "many"),
    "spool_max_age": (60, "120", 120.0, "180", 180.0, 0, "long"),
    "traces_sampler": ("always_on", "always_off", "always_off", "'x'", "x", 5, None),
    "traces_sampler_arg": (0.5, "0.1", "0.1", "0.2", "0.2", None, None),
    "span_export_delay": (2, "3000", 3.0, "4", 4.0, 0, "0"),
    "span_queue_size": (1, "2", 2, "3", 3, 0, "many"),
    "span_batch_size": (1, "2", 2, "3", 3, 0, "1.5"),
    "metric_export_interval": (2, "3000", 3.0, "4", 4.0, "x", "soon"),
    "metric_export_timeout": (2, "3000", 3.0, "4", 4.0, 10**9, "-1"),
    "metric_temporality": ("delta", "DELTA", "delta", "'lowmemory'", "lowmemory", "x", "x"),
    "exemplar_filter": ("always_on", "always_off", "always_off", "'always_on'", "always_on", "x", "x"),
    "duration_buckets": ((1, 2), "0.1,0.2", (0.1, 0.2), "[1, 2]", (1.0, 2.0), "2,1", "2,1"),
    "metric_series_limit": (1, "2", 2, "3", 3, 0, "x"),
    "metric_errors": ("raise", "count", "count", "'raise'", "raise", "x", "x"),
    "prometheus_host": ("::1", "0.0.0.0", "0.0.0.0", "'h'", "h", 5, None),
    "prometheus_port": (1, "2", 2, "3", 3, 70_000, "x"),
    "workers_directory": ("a", "b", "b", "'c'", "c", None, None),
    "workers_interval": (2, "3", 3.0, "4", 4.0, "x", "soon"),
    "usage": ("off", "process", "process", "'off'", "off", "much", "much"),
    "runtime_metrics": (False, "0", False, "false", False, "maybe", "maybe"),
    "log_level": ("debug", "warn", "WARNING", "'ERROR'", "ERROR", "LOUD", "LOUD"),
    "log_levels": ({"a": "DEBUG"}, "b=info", {"b": "INFO"}, "{c = 'error'}", {"c": "ERROR"}, "x", "a=LOUD"),
    "log_format": ("json", "text", "text", "'off'", "off", "xml", "xml"),
    "log_export_delay": (2, "3000", 3.0, "4", 4.0, 0, "nan"),
    "log_queue_size": (1, "2", 2, "3", 3, 0, "x"),
    "log_batch_size": (1, "2", 2, "3", 3, 0, "x"),
    "debug_in_production": (True, "1", True, "true", True, "maybe", "maybe"),
    "access_log": (False, "0", False, "false", False, "maybe", "maybe"),
    "http_edges": ("off", "contrib", "contrib", "'off'", "off", "x", "x"),
    "excluded_paths": (("/a",), "/b,/c*", ("/b", "/c*"), "['/d']", ("/d",), 5, None),
    "disabled_instrumentations": (("a",), "*", ("*",), "['b']", ("b",), 5, None),
    "shutdown_timeout": (1, "2", 2.0, "3", 3.0, -1, "x"),
}
ROWS = dict(rows())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work where no tercet.toml is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plain(value):
    return dict(value) if hasattr(value, "items") else value


@pytest.mark.parametrize("name", ROWS)
def test_every_row_takes_argument_over_variable_over_file_over_default(name, folder):
    """The first of the four places that says something wins."""
    argument, variable, from_variable, toml, from_toml, *_ = SAMPLES[name]
    row, environ = ROWS[name], {ROWS[name].variables[0]: variable}
    found = [plain(getattr(Settings.load({}), name))]
    (folder / "tercet.toml").write_text(f"{name} = {toml}\n")
    found += [plain(getattr(Settings.load({}), name)), plain(getattr(Settings.load(environ), name))]
    found += [plain(getattr(Settings.load(environ, **{name: argument}), name))]
    assert found == [
        plain(getattr(Settings(), name)),
        from_toml,
        from_variable,
        plain(row.parse(argument)),
    ]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_its_own_variable_and_its_help(name):
    """No row is silent, and none shares a variable."""
    others = {variable for other, row in rows() if other != name for variable in row.variables}
    assert ROWS[name].help.endswith(".")
    assert others.isdisjoint(ROWS[name].variables)


@pytest.mark.parametrize("name", [name for name in ROWS if SAMPLES[name][5] is not None])
def test_every_row_names_the_argument_that_cannot_be_used(name):
    """The message starts with what the user typed."""
    with pytest.raises(SettingsError, match=rf"^{name} must be .+, got .+\. .+\.$"):
        Settings.load({}, **{name: SAMPLES[name][5]})


@pytest.mark.parametrize("name", [name for name in ROWS if SAMPLES[name][6] is not None])
def test_every_row_names_the_variable_that_cannot_be_used(name):
    """The message starts with what the user typed, and hides it where it is secret."""
    variable, value = ROWS[name].variables[0], SAMPLES[name][6]
    got = "<hidden>" if ROWS[name].secret else repr(value)
    with pytest.raises(SettingsError) as error:
        Settings.load({variable: value})
    assert str(error.value).startswith(f"{variable} must be ")
    assert f", got {got}. " in str(error.value)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.per_signal])
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_otlp_row_can_be_set_for_one_signal(name, signal):
    """One signal goes its own way, the others keep to the common one."""
    argument, variable, from_variable, *_ = SAMPLES[name]
    own = f"otlp_{signal}_{name.removeprefix('otlp_')}"
    key = ROWS[name].variables[0].replace("OTLP_", f"OTLP_{signal.upper()}_")
    field = name.removeprefix("otlp_")
    other = next(each for each in SIGNALS if each != signal)
    by_argument, by_variable = Settings.load({}, **{own: argument}), Settings.load({key: variable})
    assert plain(getattr(by_argument.otlp(signal), field)) == plain(ROWS[name].parse(argument))
    assert plain(getattr(by_variable.otlp(signal), field)) == from_variable
    assert getattr(by_variable.otlp(other), field) == getattr(Settings().otlp(other), field)
    assert own in by_variable.shown()


@pytest.mark.parametrize(
    ("arguments", "endpoint"),
    [
        ({}, "http://localhost:4318/v1/traces"),
        ({"otlp_endpoint": "http://c:1/"}, "http://c:1/v1/traces"),
        ({"otlp_traces_endpoint": "http://t:1/in"}, "http://t:1/in"),
        ({"otlp_endpoint": "http://c:1", "otlp_traces_endpoint": ""}, "http://c:1/v1/traces"),
        ({"otlp_protocol": "grpc"}, "http://localhost:4317"),
        ({"otlp_traces_protocol": "grpc", "otlp_endpoint": "https://c:1"}, "https://c:1"),
        ({"otlp_protocol": "grpc", "otlp_endpoint": "c:1"}, "https://c:1"),
        ({"otlp_protocol": "grpc", "otlp_endpoint": "c:1", "otlp_traces_insecure": True}, "http://c:1"),
    ],
)
def test_the_endpoint_of_a_signal(arguments, endpoint):
    """The common endpoint gets the signal's path, its own is used as it stands."""
    assert Settings.load({}, **arguments).otlp("traces").endpoint == endpoint


@pytest.mark.parametrize("name", ["otlp_endpoint", "otlp_traces_endpoint"])
def test_http_needs_a_url(name):
    """A host and a port are enough for gRPC only, and a password is in no message."""
    settings = Settings.load({}, **{name: "me:hunter2@c:4318"})
    with pytest.raises(SettingsError) as error:
        settings.otlp("traces")
    assert "unless the protocol is grpc, got '<hidden>@c:4318" in str(error.value)


def test_secrets_are_hidden_wherever_settings_are_shown():
    """Neither the listing nor the repr says a token or a password."""
    settings = Settings.load(
        {},
        otlp_headers={"authorization": "Bearer abc"},
        otlp_traces_headers="x=def",
        otlp_endpoint="http://me:ghi@c:1",
    )
    shown = settings.shown()
    assert shown["otlp_headers"] == shown["otlp_traces_headers"] == "<hidden>"
    assert shown["otlp_endpoint"] == "'http://<hidden>@c:1'"
    assert not any(secret in repr(settings) for secret in ("abc", "=def", "ghi"))


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("log_levle", "Did you mean 'log_level'?"),
        ("otlp_trace_endpoint", "Did you mean 'otlp_traces_endpoint'?"),
        ("zzz", "docs/settings.md lists them all."),
        ("environ", "Did you mean 'environment'?"),
        ("overrides", "docs/settings.md lists them all."),
    ],
)
def test_an_unknown_argument_is_named_with_what_was_meant(name, mend):
    """A typing error never passes as no setting at all."""
    with pytest.raises(UnknownSettingError) as error:
        Settings.load({}, **{name: "x"})
    assert str(error.value) == f"setup_observability() has no setting {name!r}. {mend}"


def test_errors_are_caught_by_their_builtin_kinds_too():
    """Each error is also what Python calls it."""
    with pytest.raises(TypeError):
        Settings.load({}, nonsense=1)
    with pytest.raises(ValueError, match="log_level"):
        Settings.load({}, log_level="LOUD")
    assert issubclass(SettingsError, TercetError)


def test_none_counts_as_not_given():
    """An argument that is passed through unset changes nothing."""
    assert Settings.load({"TERCET_ENVIRONMENT": "x"}, environment=None).environment == "x"


def test_an_empty_variable_counts_as_unset(folder):
    """As the specification has it."""
    (folder / "tercet.toml").write_text("log_level = 'ERROR'")
    assert Settings.load({"TERCET_LOG_LEVEL": " "}).log_level == "ERROR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"log_levle = 1", "conf.toml has no setting 'log_levle'. Did you mean 'log_level'?"),
        (b"log_level = 'LOUD'", "conf.toml: log_level must be one of DEBUG, "),
        (b"log_level", "conf.toml must be readable TOML, got "),
        (b"\xff = 1", "conf.toml must be readable TOML, got "),
    ],
)
def test_a_wrong_file_is_named(folder, content, message):
    """A message about the file starts with its path."""
    (folder / "conf.toml").write_bytes(content)
    with pytest.raises(TercetError) as error:
        Settings.load({"TERCET_CONFIG": "conf.toml"})
    assert str(error.value).startswith(message)


def test_tercet_config_names_another_file(folder):
    """Its values count, and its path is in the messages."""
    (folder / "tercet.toml").write_text("environment = 'wrong'")
    (folder / "conf").mkdir()
    (folder / "conf" / "prod.toml").write_text("environment = 'right'")
    assert Settings.load({"TERCET_CONFIG": "conf/prod.toml"}).environment == "right"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere.toml", "TERCET_CONFIG must be a file that exists, got 'nowhere.toml'."),
        (".", ". must be readable TOML, got "),
    ],
)
def test_tercet_config_must_be_a_readable_file(named, message):
    """Naming a file is a promise that there is one."""
    with pytest.raises(SettingsError) as error:
        Settings.load({"TERCET_CONFIG": named})
    assert str(error.value).startswith(message)


def test_milliseconds_are_spoken_of_as_milliseconds():
    """Only the variables of the specification count so; arguments and the file are in seconds."""
    with pytest.raises(SettingsError) as error:
        Settings.load({"OTEL_BSP_SCHEDULE_DELAY": "soon"})
    assert str(error.value) == (
        "OTEL_BSP_SCHEDULE_DELAY must be milliseconds from 10 to 86400000, got 'soon'. "
        "Write 1000 for one second."
    )


@pytest.mark.parametrize(
    ("environ", "arguments", "expected"),
    [
        ({}, {}, ("", "", "")),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,service.version=1,deployment.environment.name=prod"},
            {},
            ("a", "1", "prod"),
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod"}, {}, ("", "", "prod")),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=new,deployment.environment=old"},
            {},
            ("", "", "new"),
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, {}, ("b", "", "")),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, {"service_name": "c"}, ("c", "", "")),
        ({}, {"resource_attributes": {"service.name": "d"}}, ("d", "", "")),
        ({"OTEL_SERVICE_NAME": "a"}, {"resource_attributes": {"service.name": "d"}}, ("d", "", "")),
    ],
)
def test_resource_attributes_name_the_service_where_nothing_else_does(environ, arguments, expected):
    """The specification's two ways to name a service lead to one name."""
    settings = Settings.load(environ, **arguments)
    assert (settings.service_name, settings.service_version, settings.environment) == expected


@pytest.mark.parametrize(
    ("environment", "production"),
    [("production", True), ("PROD", True), ("live", True), ("staging", False), ("", False)],
)
def test_production_is_known_by_its_names(environment, production):
    """DEBUG logs depend on it."""
    assert Settings(environment=environment).production is production


def test_differences_name_the_settings():
    """Equal settings have none, others are named, those for one signal too."""
    one = Settings.load({}, service_name="a", otlp_headers={"x": "1"})
    same = Settings.load({}, service_name="a", otlp_headers="x=1")
    other = Settings.load({}, service_name="b", otlp_headers={"x": "1"}, otlp_logs_timeout=3)
    assert one == same
    assert one.differences(same) == ()
    assert one.differences(other) == other.differences(one) == ("otlp_logs_timeout", "service_name")


def test_settings_never_change():
    """What a handle shows stays true."""
    settings = Settings.load({}, resource_attributes={"a": "1"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.service_name = "other"
    with pytest.raises(TypeError):
        settings.resource_attributes["a"] = "2"
    assert copy.copy(settings) == settings


def test_unknown_variables_are_found():
    """Only ours are judged, and every real one is known."""
    known = {variable: "x" for slot in slots() for variable in slot.variables}
    assert unknown_variables({**known, "TERCET_CONFIG": "x", "OTEL_WHATEVER": "x"}) == {}
    assert unknown_variables({"TERCET_LOG_FROMAT": "json", "TERCET_XYZZY_QUUX_PLUGH_QQ": ""}) == {
        "TERCET_LOG_FROMAT": "Did you mean 'TERCET_LOG_FORMAT'?",
        "TERCET_XYZZY_QUUX_PLUGH_QQ": "docs/settings.md lists them all.",
    }


def test_what_upstream_reads_and_we_do_not_is_named():
    """Whoever sets it counts on it."""
    unread = {
        value
        for value in vars(environment_variables).values()
        if str(value).startswith("OTEL_")
        and str(value).endswith(("_CONFIGURATOR", "_CREDENTIAL_PROVIDER", "_RETRYABLE_ERROR_CODES"))
    }
    assert unread
    assert unknown_variables(dict.fromkeys(unread, "x")).keys() == unread


def test_a_variable_that_names_the_service_goes_before_the_file(folder):
    """Also where it does so among the attributes of the resource."""
    (folder / "tercet.toml").write_text("service_name = 'from-file'\n")
    named = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=from-variable"}
    assert Settings.load(named).service_name == "from-variable"


@pytest.mark.parametrize(
    ("given", "compression"),
    [
        ({}, "none"),
        ({"otlp_endpoint": "http://[::1]:4318"}, "none"),
        ({"otlp_endpoint": "http://collector:4318"}, "gzip"),
        ({"spool_directory": "/var/spool/orders"}, "gzip"),
        ({"otlp_compression": "deflate"}, "deflate"),
    ],
)
def test_what_stays_on_this_machine_is_not_compressed(given, compression):
    """Unless it is to wait on a disk, or the settings say so."""
    assert Settings.load({}, **given).otlp("traces").compression == compression


@pytest.mark.parametrize(
    ("given", "raises"),
    [
        ({}, False),
        ({"environment": "Dev"}, True),
        ({"environment": "production"}, False),
        ({"environment": "dev", "metric_errors": "count"}, False),
        ({"environment": "production", "metric_errors": "raise"}, True),
    ],
)
def test_misuse_of_metrics_raises_where_developers_are(given, raises):
    """Unless the setting says otherwise."""
    assert Settings.load({}, **given).raises_metric_errors is raises
