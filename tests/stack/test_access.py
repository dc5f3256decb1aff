"""Who may talk to the collector, over what, and what is said where it does not let us in."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from backend import Backend, Collector, Find, eventually_equal, running_collector
from emitter import Emitter
from fleet import Start, service_environment

SECURED = f"--config={Path(__file__).parent / 'secured.yaml'}"
TOKEN = "Bearer open-sesame"
PROTOCOLS = ("http/protobuf", "grpc")


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate that signs itself, and its key."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Pairs:
    """Whose there are."""

    collector: Pair
    client: Pair


@pytest.fixture(scope="module")
def pairs(folder: Callable[[str], Path]) -> Pairs:
    """Certificates for this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes certificates, is not installed")
    return Pairs(*(_certify(folder(name), name) for name in ("collector", "client")))


def _certify(made: Path, name: str) -> Pair:
    pair = Pair(str(made / "certificate.pem"), str(made / "key.pem"))
    named = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    kind = ["-x509", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", pair.key, "-out", pair.certificate]
    subprocess.run(["openssl", "req", *kind, *named, *files], check=True, capture_output=True)
    return pair


@pytest.fixture(scope="module")
def secured(backend: Backend, find: Find, folder: Callable[[str], Path], pairs: Pairs) -> Iterator[Collector]:
    """A collector that asks for a token, over TLS."""
    with running_collector(find, folder("tls"), _locked(backend, pairs.collector), SECURED) as collector:
        yield collector


@pytest.fixture(scope="module")
def mutual(backend: Backend, find: Find, folder: Callable[[str], Path], pairs: Pairs) -> Iterator[Collector]:
    """One that also asks for a certificate."""
    settings = _locked(backend, pairs.collector) | {"CLIENT_CA": pairs.client.certificate}
    with running_collector(find, folder("mtls"), settings, SECURED) as collector:
        yield collector


def _locked(backend: Backend, pair: Pair) -> dict[str, str]:
    secrets = {"CERTIFICATE": pair.certificate, "KEY": pair.key, "TOKEN": TOKEN.removeprefix("Bearer ")}
    return {**backend.destinations, **secrets}


@pytest.fixture
def emit(start: Start, request: pytest.FixtureRequest) -> Callable[..., Emitter]:
    """Start a process that emits spans, a service named as the test."""

    def start_spans(collector: Collector, protocol: str, scheme: str = "http", **settings: str) -> Emitter:
        address = collector.grpc if protocol == "grpc" else collector.http
        endpoint = address.replace("http:", f"{scheme}:")
        chosen = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "TERCET_SHUTDOWN_TIMEOUT": "1", **settings}
        return start("spans.py", service_environment(request.node.name, endpoint, **chosen))

    return start_spans


@pytest.fixture
def arrived(backend: Backend, request: pytest.FixtureRequest) -> Callable[[], set[str]]:
    """Name the spans of this test that Jaeger has."""
    return lambda: backend.jaeger.spans_of(request.node.name)


def shown(pair: Pair) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": pair.certificate,
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": pair.key,
    }


def trusting(pair: Pair, token: str = TOKEN) -> dict[str, str]:
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization={token.replace(' ', '%20')}"}
    return {"OTEL_EXPORTER_OTLP_CERTIFICATE": pair.certificate, **headers}


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_and_compression_arrives(
    backend: Backend,
    emit: Callable[..., Emitter],
    arrived: Callable[[], set[str]],
    protocol: str,
    compression: str,
) -> None:
    """Whole."""
    emit(backend.collector, protocol, OTEL_EXPORTER_OTLP_COMPRESSION=compression).tell("one", "two", "three")
    eventually_equal(arrived, {"one", "two", "three"})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_and_a_token_let_in(
    secured: Collector,
    pairs: Pairs,
    emit: Callable[..., Emitter],
    arrived: Callable[[], set[str]],
    protocol: str,
) -> None:
    """The certificate that is named is trusted, the token is shown."""
    emit(secured, protocol, "https", **trusting(pairs.collector)).tell("one")
    eventually_equal(arrived, {"one"})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_of_ones_own_lets_in(
    mutual: Collector,
    pairs: Pairs,
    emit: Callable[..., Emitter],
    arrived: Callable[[], set[str]],
    protocol: str,
) -> None:
    """Where the collector asks for it."""
    emit(mutual, protocol, "https", **trusting(pairs.collector), **shown(pairs.client)).tell("one")
    eventually_equal(arrived, {"one"})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_token_is_said(
    secured: Collector, pairs: Pairs, emit: Callable[..., Emitter], protocol: str
) -> None:
    """With the setting that holds it, and without the token."""
    emitter = emit(secured, protocol, "https", **trusting(pairs.collector, "Bearer open-barley"))
    emitter.tell("one")
    line = warning(emitter)
    assert "refused by the collector: " in line
    assert "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts." in line
    assert "barley" not in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_that_is_not_trusted_is_said(
    secured: Collector, pairs: Pairs, emit: Callable[..., Emitter], protocol: str
) -> None:
    """With the setting that says whom to trust."""
    emitter = emit(secured, protocol, "https", **trusting(pairs.client))
    emitter.tell("one")
    line = warning(emitter)
    assert "certificate verify failed" in line
    assert "otlp_certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) must be the file of the authority" in line


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("own", ["none", "unknown"])
def test_a_certificate_of_ones_own_that_is_not_trusted_is_said(
    mutual: Collector, pairs: Pairs, emit: Callable[..., Emitter], protocol: str, own: str
) -> None:
    """Or none."""
    settings = trusting(pairs.collector) | (shown(pairs.collector) if own == "unknown" else {})
    emitter = emit(mutual, protocol, "https", **settings)
    emitter.tell("one")
    line = warning(emitter)
    assert "otlp_client_certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and otlp_client_key" in line


def warning(emitter: Emitter) -> str:
    return emitter.stderr.wait_for(lambda lines: next((line for line in lines if "traces to" in line), ""))
