"""Every setting is one row of one table: field, variables, parser, default, help.

The table is the `Settings` class itself. The row drives loading, the error messages, the command line of
`tercet run`, the settings page of the docs and its own test; a new setting is one new row.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from tercet.declare import parse
from tercet.declare.metric import DURATION_BUCKETS, MOST_SERIES
from tercet.errors import SettingsError, UnknownSettingError

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")

CONFIG_VARIABLE = "TERCET_CONFIG"
CONFIG_FILE = "tercet.toml"
#: Paths that are asked all day by machines and say nothing about users.
PROBE_PATHS = ("/health", "/healthz", "/livez", "/live", "/readyz", "/ready", "/metrics", "/metrics/")
PRODUCTION = frozenset({"production", "prod", "live"})
DEVELOPMENT = frozenset({"development", "dev", "test", "local"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SECONDS = "Write seconds, for example 5."
_INTERVAL = parse.number(0.01, 86_400, _SECONDS)
_MILLISECONDS = parse.Unusable("milliseconds from 10 to 86400000", "Write 1000 for one second.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table, without its field name and default, which the dataclass keeps.

    Attributes:
        parse: From what the user gave to the value.
        variables: The environment variables that set it; the first one found wins.
        help: What it does, in one line.
        milliseconds: Whether the variables count milliseconds, as the specification wants it for this one.
        secret: Whether the value is never shown.
        per_signal: Whether one signal can have its own value: `otlp_traces_endpoint`, and
            `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`.
    """

    parse: parse.Parser[Any]
    variables: tuple[str, ...]
    help: str
    milliseconds: bool = False
    secret: bool = False
    per_signal: bool = False


def _row(default: Any, parser: parse.Parser[Any], *variables: str, about: str, **traits: bool) -> Any:
    row = Row(parse=parser, variables=variables, help=about, **traits)
    # A factory for all: dataclasses refuse a mapping as a plain default.
    return field(default_factory=lambda: default, metadata={"row": row})


def _otlp(default: Any, parser: parse.Parser[Any], variable: str, *, about: str, **traits: bool) -> Any:
    return _row(default, parser, f"OTEL_EXPORTER_OTLP_{variable}", about=about, per_signal=True, **traits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Otlp:
    """Where and how one signal leaves over OTLP, after the per-signal settings have been applied."""

    endpoint: str
    protocol: str
    headers: Mapping[str, str]
    timeout: float
    compression: str
    certificate: str | None
    client_key: str | None
    client_certificate: str | None
    insecure: bool


# fmt: off
@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """The effective settings of one process; immutable, comparable, and safe to print.

    >>> Settings.load({"OTEL_SERVICE_NAME": "orders"}).service_name
    'orders'
    """

    service_name: str = _row("", parse.text, "OTEL_SERVICE_NAME", about="Name of the service, the same in all its processes.")
    service_version: str = _row("", parse.text, "TERCET_SERVICE_VERSION", about="Version of the running code.")
    environment: str = _row("", parse.text, "TERCET_ENVIRONMENT", about="Deployment environment; production, prod and live turn DEBUG logs off.")
    resource_attributes: Mapping[str, str] = _row(_NOTHING, parse.pairs, "OTEL_RESOURCE_ATTRIBUTES", about="More attributes of the resource, as key=value pairs.")
    disabled: bool = _row(False, parse.boolean, "OTEL_SDK_DISABLED", about="Turn tercet off: nothing is installed, nothing is sent.")
    propagators: tuple[str, ...] = _row(("tracecontext", "baggage", "correlation"), parse.words, "OTEL_PROPAGATORS", about="How context crosses processes.")

    traces_exporter: tuple[str, ...] = _row(("otlp",), parse.words, "OTEL_TRACES_EXPORTER", about="otlp, console, none, or the name of an installed exporter.")
    metrics_exporter: tuple[str, ...] = _row(("otlp",), parse.words, "OTEL_METRICS_EXPORTER", about="otlp, prometheus, console, none, or the name of an installed exporter.")
    logs_exporter: tuple[str, ...] = _row(("otlp",), parse.words, "OTEL_LOGS_EXPORTER", about="otlp, console, none, or the name of an installed exporter.")

    otlp_endpoint: str | None = _otlp(None, parse.optional(parse.endpoint), "ENDPOINT", about="Address of the collector, for gRPC also host:port; http://localhost:4318 (4317 for gRPC) when unset.")
    otlp_protocol: str = _otlp("http/protobuf", parse.choice("http/protobuf", "grpc"), "PROTOCOL", about="http/protobuf, or grpc with the extra tercet[grpc].")
    otlp_headers: Mapping[str, str] = _otlp(_NOTHING, parse.headers, "HEADERS", about="Headers of each export, such as a token.", secret=True)
    otlp_timeout: float = _otlp(10.0, parse.number(0.001, 3_600, "Write 10 for ten seconds."), "TIMEOUT", about="Seconds for one export, in the variable too, as the Python SDK has it.")
    otlp_compression: str = _otlp("auto", parse.choice("auto", "gzip", "deflate", "none"), "COMPRESSION", about="gzip, deflate (HTTP only), none, or auto: gzip, but none to a collector on this machine without a spool.")
    otlp_certificate: str | None = _otlp(None, parse.optional(parse.text), "CERTIFICATE", about="File of the authority that signed the collector's certificate.")
    otlp_client_key: str | None = _otlp(None, parse.optional(parse.text), "CLIENT_KEY", about="File of the client's key, for mTLS.")
    otlp_client_certificate: str | None = _otlp(None, parse.optional(parse.text), "CLIENT_CERTIFICATE", about="File of the client's certificate, for mTLS.")
    otlp_insecure: bool = _otlp(False, parse.boolean, "INSECURE", about="gRPC without TLS to an endpoint that is host:port, and so does not say.")

    export_max_bytes: int = _row(16 * 1024**2, parse.whole(1024, 2**40, "Write 16777216."), "TERCET_EXPORT_MAX_BYTES", about="Bytes of each signal that may wait in memory while the collector is away; the oldest go beyond.")
    export_batch_bytes: int = _row(4 * 1024**2, parse.whole(1024, 2**30, "Write 4194304."), "TERCET_EXPORT_BATCH_BYTES", about="Bytes of spans or log records in one export before compression, at most, unless a single one has more.")
    spool_directory: str | None = _row(None, parse.optional(parse.text), "TERCET_SPOOL_DIRECTORY", about="Directory where spans and logs wait while the collector is away; in memory when unset.")
    spool_max_bytes: int = _row(256 * 1024**2, parse.whole(1024, 2**40, "Write 268435456."), "TERCET_SPOOL_MAX_BYTES", about="Bytes of each signal that may wait on disk, over all processes.")
    spool_max_files: int = _row(10_000, parse.whole(1, 1_000_000, "Write 10000."), "TERCET_SPOOL_MAX_FILES", about="Requests of each signal that may wait on disk, over all processes.")
    spool_max_age: float = _row(172_800.0, parse.number(1, 31_536_000, "Write 172800 for two days."), "TERCET_SPOOL_MAX_AGE", about="Seconds that a request may wait on disk.")

    traces_sampler: str = _row("parentbased_traceidratio", parse.text, "OTEL_TRACES_SAMPLER", about="A sampler of the specification, or the name of an installed one.")
    traces_sampler_arg: str = _row("1.0", lambda value: str(value).strip(), "OTEL_TRACES_SAMPLER_ARG", about="Share of traces to keep, 0 to 1, for the ratio samplers.")
    span_export_delay: float = _row(1.0, _INTERVAL, "OTEL_BSP_SCHEDULE_DELAY", about="Seconds a span waits for company before it is sent.", milliseconds=True)
    span_queue_size: int = _row(16_384, parse.whole(1, 1_000_000, "Write 16384."), "OTEL_BSP_MAX_QUEUE_SIZE", about="Spans that may wait for export.")
    span_batch_size: int = _row(2048, parse.whole(1, 100_000, "Write 2048."), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", about="Spans in one export, at most.")

    metric_export_interval: float = _row(60.0, _INTERVAL, "OTEL_METRIC_EXPORT_INTERVAL", about="Seconds between two exports of metrics.", milliseconds=True)
    metric_export_timeout: float = _row(30.0, _INTERVAL, "OTEL_METRIC_EXPORT_TIMEOUT", about="Seconds for one export of metrics.", milliseconds=True)
    metric_temporality: str = _row("cumulative", parse.choice("cumulative", "delta", "lowmemory"), "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", about="cumulative, which Prometheus needs; delta or lowmemory.")
    exemplar_filter: str = _row("trace_based", parse.choice("trace_based", "always_on", "always_off"), "OTEL_METRICS_EXEMPLAR_FILTER", about="Which measurements may become exemplars.")
    duration_buckets: tuple[float, ...] = _row(DURATION_BUCKETS, parse.buckets, "TERCET_DURATION_BUCKETS", about="Upper bounds of the request durations, in seconds.")
    metric_series_limit: int = _row(MOST_SERIES, parse.whole(1, 1_000_000, "Write 2000."), "TERCET_METRIC_SERIES_LIMIT", about="Series that each metric may have; what is beyond is counted in one more, marked otel.metric.overflow.")
    metric_errors: str = _row("auto", parse.choice("auto", "raise", "count"), "TERCET_METRIC_ERRORS", about="What breaks the rules of a declared metric: raise an error, count it, or auto: raise where the environment is development, dev, test or local.")
    prometheus_host: str = _row("127.0.0.1", parse.text, "OTEL_EXPORTER_PROMETHEUS_HOST", about="Address that the own Prometheus port listens on.")
    prometheus_port: int | None = _row(None, parse.optional(parse.whole(0, 65_535, "Write 9464.")), "OTEL_EXPORTER_PROMETHEUS_PORT", about="Own Prometheus port; none when unset, unless prometheus is among the metrics exporters (then 9464).")
    workers_directory: str = _row("auto", parse.text, "TERCET_WORKERS_DIRECTORY", about="Directory in which workers of one service share what each of them counts, for a scrape of any; auto: one of this user's in /dev/shm, or among temporary files; off: each speaks for itself.")
    workers_interval: float = _row(5.0, _INTERVAL, "TERCET_WORKERS_INTERVAL", about="Seconds between two looks of a worker after that directory: what instruments of the SDK counted since is lost where it is killed.")

    usage: str = _row("host", parse.choice("host", "process", "off"), "TERCET_USAGE", about="What is measured of CPU, memory, network and disk: host (each process, and by one of them the host and its container), process, or off.")
    runtime_metrics: bool = _row(True, parse.boolean, "TERCET_RUNTIME_METRICS", about="Measure garbage collection, event loop lag, and waiting for threads and pooled connections.")

    log_level: str | None = _row(None, parse.optional(parse.level), "TERCET_LOG_LEVEL", about="Lowest level of the root logger; when unset, INFO in place of Python's WARNING, and any other level stays.")
    log_levels: Mapping[str, str] = _row(_NOTHING, parse.levels, "TERCET_LOG_LEVELS", about="A level for single loggers: orders=DEBUG,sqlalchemy.engine=WARNING.")
    log_format: str = _row("auto", parse.choice("auto", "json", "text", "off"), "TERCET_LOG_FORMAT", about="Lines on stdout: json, text, auto (text on a terminal), or off, which leaves the application's own handlers alone.")
    log_export_delay: float = _row(1.0, _INTERVAL, "OTEL_BLRP_SCHEDULE_DELAY", about="Seconds a log record waits for company before it is sent.", milliseconds=True)
    log_queue_size: int = _row(16_384, parse.whole(1, 1_000_000, "Write 16384."), "OTEL_BLRP_MAX_QUEUE_SIZE", about="Log records that may wait for export.")
    log_batch_size: int = _row(2048, parse.whole(1, 100_000, "Write 2048."), "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", about="Log records in one export, at most.")
    debug_in_production: bool = _row(False, parse.boolean, "TERCET_DEBUG_IN_PRODUCTION", about="Let DEBUG records out in production after all.")
    access_log: bool = _row(True, parse.boolean, "TERCET_ACCESS_LOG", about="Write request_completed and request_failed for each request.")

    http_edges: str = _row("tercet", parse.choice("tercet", "contrib", "off"), "TERCET_HTTP_EDGES", about="Who observes HTTP: tercet's own edges, contrib's with our buckets, or off: whoever does without tercet, such as FastAPI.")
    excluded_paths: tuple[str, ...] = _row(PROBE_PATHS, parse.words, "TERCET_EXCLUDED_PATHS", about="Paths left out of all three signals; a trailing * takes all below.")
    disabled_instrumentations: tuple[str, ...] = _row((), parse.words, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", about="Contrib instrumentors not to activate; * for none.")
    shutdown_timeout: float = _row(5.0, parse.number(0, 600, _SECONDS), "TERCET_SHUTDOWN_TIMEOUT", about="Seconds that the exit may take to deliver what is left, over all signals.")

    overrides: Mapping[tuple[str, str], Any] = field(default_factory=lambda: MappingProxyType({}))
    # fmt: on

    @classmethod
    def load(cls, environ: Mapping[str, str], /, **arguments: Any) -> Self:
        """Load the settings: arguments over variables over tercet.toml over defaults.

        An argument that is None counts as not given.

        Args:
            environ: The environment, read here and nowhere else.
            arguments: Settings by field name, or `otlp_traces_endpoint` and the like for one signal.

        Raises:
            SettingsError: A value cannot be used; the message says which one, the rule and the mend.
            UnknownSettingError: An argument or a key of tercet.toml is no setting.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        filed, where = _filed(environ)
        _refuse_unknown(given, "setup_observability()")
        _refuse_unknown(filed, where)
        values: dict[str, _Found] = {}
        overrides: dict[tuple[str, str], Any] = {}
        for slot in slots():
            found = _find(slot, given, environ, filed, where)
            if found is not None and slot.signal:
                overrides[slot.signal, slot.field] = found.value
            elif found is not None:
                values[slot.field] = found
        return cls(**_named_by_resource(values), overrides=MappingProxyType(overrides))

    @property
    def production(self) -> bool:
        """Whether this process serves real users."""
        return self.environment.lower() in PRODUCTION

    @property
    def raises_metric_errors(self) -> bool:
        """Whether the misuse of a declared metric raises."""
        if self.metric_errors == "auto":
            return self.environment.lower() in DEVELOPMENT
        return self.metric_errors == "raise"

    def otlp(self, signal: Signal) -> Otlp:
        """Say where and how `signal` leaves: its own settings over the ones for all signals.

        >>> Settings(otlp_endpoint="http://c:4318").otlp("traces").endpoint
        'http://c:4318/v1/traces'

        Raises:
            SettingsError: The endpoint is no URL, and the protocol needs one.
        """
        values = {
            row_field.name.removeprefix("otlp_"): self.overrides.get(
                (signal, row_field.name), getattr(self, row_field.name)
            )
            for row_field in fields(self)
            if row_field.name.startswith("otlp_")
        }
        own = self.overrides.get((signal, "otlp_endpoint"))
        values["endpoint"] = own or _default_endpoint(self.otlp_endpoint, values["protocol"], signal)
        if "://" not in values["endpoint"]:
            values["endpoint"] = _with_scheme(**values)
        if values["compression"] == "auto":
            # Within one machine, it would cost a fifth of the delivery and save nothing.
            saves_nothing = self.spool_directory is None and parse.is_loopback(values["endpoint"])
            values["compression"] = "none" if saves_nothing else "gzip"
        return Otlp(**values)

    def shown(self) -> dict[str, str]:
        """List every setting as text, secrets hidden."""
        table = {name: parse.shown(getattr(self, name), secret=row.secret) for name, row in rows()}
        for (signal, name), value in self.overrides.items():
            table[_signal_field(name, signal)] = parse.shown(value, secret=dict(rows())[name].secret)
        return table

    def differences(self, other: "Settings") -> tuple[str, ...]:
        """Name the settings in which two processes' settings differ."""
        mine, theirs = self._values(), other._values()
        return tuple(sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name)))

    def _values(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name, _ in rows()}
        return own | {_signal_field(name, signal): v for (signal, name), v in self.overrides.items()}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value}' for name, value in self.shown().items())})"


def rows() -> Iterator[tuple[str, Row]]:
    """Walk the table: the field name and the row of each setting."""
    for row_field in fields(Settings):
        if "row" in row_field.metadata:
            yield row_field.name, row_field.metadata["row"]


@dataclass(frozen=True, slots=True)
class Slot:
    """Name a place a value can come to: a row, or a row for one signal.

    Attributes:
        field: The field of `Settings` that the row describes.
        row: The row.
        name: What the user calls it: the field, or `otlp_traces_endpoint` and the like.
        variables: The environment variables that set it.
        signal: The only signal it is for.
    """

    field: str
    row: Row
    name: str
    variables: tuple[str, ...]
    signal: Signal | None = None


# The places that a value can come from; a lower one wins.
_ARGUMENT, _VARIABLE, _FILE, _NOWHERE = range(4)


@dataclass(frozen=True, slots=True)
class _Found:
    """A value, and the place that it comes from."""

    value: Any
    place: int


def slots() -> Iterator[Slot]:
    """Walk all places a value can come to: the rows, each followed by its own for single signals."""
    for name, row in rows():
        yield Slot(name, row, name, row.variables)
        for signal in SIGNALS if row.per_signal else ():
            variables = tuple(v.replace("OTLP_", f"OTLP_{signal.upper()}_") for v in row.variables)
            yield Slot(name, row, _signal_field(name, signal), variables, signal)


def _signal_field(name: str, signal: str) -> str:
    return name.replace("otlp_", f"otlp_{signal}_", 1)


def _find(
    slot: Slot, given: Mapping[str, Any], environ: Mapping[str, str], filed: Mapping[str, Any], where: str
) -> _Found | None:
    if slot.name in given:
        return _Found(_parsed(slot, given[slot.name], slot.name), _ARGUMENT)
    for variable in slot.variables:
        # The specification: an empty variable counts as unset.
        if text := environ.get(variable, "").strip():
            return _Found(_parsed(slot, text, variable, milliseconds=slot.row.milliseconds), _VARIABLE)
    if slot.name in filed:
        return _Found(_parsed(slot, filed[slot.name], f"{where}: {slot.name}"), _FILE)
    return None


def _parsed(slot: Slot, value: object, name: str, *, milliseconds: bool = False) -> Any:
    try:
        return slot.row.parse(_in_seconds(value) if milliseconds else value)
    except parse.Unusable as unusable:
        broken = _MILLISECONDS if milliseconds else unusable
        got = parse.shown(value, secret=slot.row.secret)
        raise SettingsError(f"{name} must be {broken.rule}, got {got}. {broken.mend}") from None


def _in_seconds(value: object) -> float:
    try:
        return float(str(value)) / 1000
    except ValueError:
        return math.nan


def _filed(environ: Mapping[str, str]) -> tuple[Mapping[str, Any], str]:
    named = environ.get(CONFIG_VARIABLE, "").strip()
    path = Path(named or CONFIG_FILE)
    try:
        with path.open("rb") as file:
            import tomllib  # Few have such a file.

            return tomllib.load(file), str(path)
    except FileNotFoundError:
        if named:
            raise SettingsError(
                f"{CONFIG_VARIABLE} must be a file that exists, got {named!r}. Correct the path or unset it."
            ) from None
        return {}, str(path)
    except (OSError, ValueError) as error:  # no TOML, or no UTF-8
        raise SettingsError(f"{path} must be readable TOML, got {error}. Correct the file.") from error


def _refuse_unknown(names: Mapping[str, Any], where: str) -> None:
    known = [slot.name for slot in slots()]
    for name in names:
        if name not in known:
            raise UnknownSettingError(f"{where} has no setting {name!r}. {_suggestion(name, known)}")


def _suggestion(name: str, known: list[str]) -> str:
    import difflib  # Hardly anybody needs it.

    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {close[0]!r}?" if close else "docs/settings.md lists them all."


_OF_CONTRIB = "Write TERCET_EXCLUDED_PATHS, or choose contrib's edges with TERCET_HTTP_EDGES=contrib."
_CREDENTIALS = (
    "Write OTEL_EXPORTER_OTLP_HEADERS, or OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY."
)
_NO_EFFECT = {
    "OTEL_PYTHON_EXCLUDED_URLS": _OF_CONTRIB,
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": _OF_CONTRIB,
    "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS": _OF_CONTRIB,
    "OTEL_PYTHON_HTTPX_EXCLUDED_URLS": _OF_CONTRIB,
    "OTEL_CONFIG_FILE": "Write tercet.toml.",
    "OTEL_PYTHON_ID_GENERATOR": "Ids are random, as the specification wants them.",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "Write TERCET_DURATION_BUCKETS.",
    "OTEL_PYTHON_TRACER_CONFIGURATOR": "Every tracer is on. Write OTEL_TRACES_SAMPLER.",
    "OTEL_PYTHON_METER_CONFIGURATOR": "Every meter is on.",
    "OTEL_PYTHON_LOGGER_CONFIGURATOR": "Every logger is on. Write TERCET_LOG_LEVELS.",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "What is tried again is the specification's.",
} | {
    f"OTEL_PYTHON_EXPORTER_OTLP_{protocol}_{signal}CREDENTIAL_PROVIDER": _CREDENTIALS
    for protocol in ("HTTP", "GRPC")
    for signal in ("", *(f"{signal.upper()}_" for signal in SIGNALS))
}


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Find variables that set nothing here, each with what was probably meant, or what does it instead.

    >>> unknown_variables({"TERCET_LOG_LEVLE": "INFO"})
    {'TERCET_LOG_LEVLE': "Did you mean 'TERCET_LOG_LEVEL'?"}
    """
    known = [CONFIG_VARIABLE, *(variable for slot in slots() for variable in slot.variables)]
    misspelt = {
        name: _suggestion(name, [k for k in known if k.startswith("TERCET_")])
        for name in environ
        if name.startswith("TERCET_") and name not in known
    }
    return misspelt | {name: mend for name, mend in _NO_EFFECT.items() if environ.get(name)}


def _named_by_resource(found: dict[str, _Found]) -> dict[str, Any]:
    """Take name, version and environment from the resource attributes, unless a place as good gives them."""
    values = {name: each.value for name, each in found.items()}
    attributes, place = values.get("resource_attributes", _NOTHING), _NOWHERE
    if "resource_attributes" in found:
        place = found["resource_attributes"].place
    keys = (
        ("service_name", "service.name"),
        ("service_version", "service.version"),
        # As the conventions called it until 1.27, and most deployments still do; a later row wins.
        ("environment", "deployment.environment"),
        ("environment", "deployment.environment.name"),
    )
    for name, key in keys:
        if key in attributes and (name not in found or place < found[name].place):
            values[name] = attributes[key]
    return values


def _with_scheme(endpoint: str, protocol: str, insecure: bool, **_others: Any) -> str:
    if protocol == "grpc":
        return f"{'http' if insecure else 'https'}://{endpoint}"
    raise SettingsError(
        f"otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) must be an http or https URL unless the protocol is grpc, "
        f"got {parse.shown(endpoint)}. Write http:// in front of it."
    )


def _default_endpoint(endpoint: str | None, protocol: str, signal: Signal) -> str:
    if protocol == "grpc":
        return endpoint or "http://localhost:4317"
    return f"{(endpoint or 'http://localhost:4318').removesuffix('/')}/v1/{signal}"
