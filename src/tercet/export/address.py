"""Where the collector is, how it is known for the right one, and how we are known to it."""

import ssl
from collections.abc import Callable

import urllib3

from tercet.declare.settings import Otlp
from tercet.declare.version import VERSION
from tercet.errors import SettingsError


def build_headers(otlp: Otlp, content_type: str) -> dict[str, str]:
    """Name each header once: their names know no case, dictionaries do."""
    given = {name.lower(): value for name, value in otlp.headers.items()}
    user = urllib3.util.parse_url(otlp.endpoint).auth
    login = urllib3.make_headers(basic_auth=user) if user else {}
    own = {"content-type": content_type, "user-agent": f"tercet/{VERSION}"}
    return {**login, **given, **own}


def build_tls(otlp: Otlp) -> ssl.SSLContext | None:
    """Make what checks the collector's certificate and shows ours; None where the endpoint wants none.

    Raises:
        SettingsError: A certificate or a key cannot be used.
    """
    if urllib3.util.parse_url(otlp.endpoint).scheme != "https":
        return None
    # urllib3's own, for what it knows of old systems' OpenSSL; it checks certificates and names.
    tls = urllib3.util.ssl_.create_urllib3_context()
    tls.check_hostname = True
    if otlp.certificate is None:
        tls.load_default_certs()
    else:
        _load("certificate", otlp.certificate, tls.load_verify_locations)
    if otlp.client_certificate is not None:
        # An encrypted key would ask for its password on the terminal, and hold the start.
        _load(
            "client_certificate",
            otlp.client_certificate,
            lambda path: tls.load_cert_chain(path, otlp.client_key, password=""),
        )
    return tls


def _load(name: str, path: str, load: Callable[[str], None]) -> None:
    try:
        load(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(
            f"otlp_{name} (OTEL_EXPORTER_OTLP_{name.upper()}) must be a PEM file that can be read, "
            f"and its key must fit, got {path!r}: {reason}. Correct the path or the file."
        ) from error


def host_of(endpoint: str) -> str:
    """Name host and port of an endpoint, and nothing that may be secret."""
    parsed = urllib3.util.parse_url(endpoint)
    return f"{parsed.host}:{parsed.port}" if parsed.port else str(parsed.host)
