"""What to change where a collector does not let us in: the settings by name, in one place."""

import ssl
from collections.abc import Mapping

_HEADERS = "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts"
_ENDPOINT = "otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) must"
_OTHER_NAME = f"{_ENDPOINT} name a host that its certificate is for"
_NO_TLS = f"{_ENDPOINT} begin with http:// if it speaks no TLS"
_AUTHORITY = (
    "otlp_certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) must be the file of the authority that signed "
    "its certificate"
)
_CLIENT = (
    "otlp_client_certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and otlp_client_key "
    "(OTEL_EXPORTER_OTLP_CLIENT_KEY) must be ones that it accepts"
)

_PROXY = "HTTP_PROXY and HTTPS_PROXY must hold the user and the password that the proxy wants"
_WANTS_LOGIN = 407

_BY_CODE: Mapping[int | str, str] = {
    401: _HEADERS,
    403: _HEADERS,
    "UNAUTHENTICATED": _HEADERS,
    "PERMISSION_DENIED": _HEADERS,
    _WANTS_LOGIN: _PROXY,
}
# X509_V_ERR_*: self-signed, in the chain too; an issuer that is not known; and the two of names.
_BY_VERIFY_CODE: Mapping[int, str] = dict.fromkeys((18, 19, 20, 21), _AUTHORITY) | dict.fromkeys(
    (62, 64), _OTHER_NAME
)
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)


def after_status(said: str, code: int | str) -> str:
    """Add what to change to what an HTTP status or a gRPC code says.

    >>> after_status("HTTP 401", 401)
    'HTTP 401. otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts'
    >>> after_status("HTTP 503", 503)
    'HTTP 503'
    """
    return _joined(said, _BY_CODE.get(code))


def after_proxy(said: str, status: int) -> str:
    """Add what to change to the HTTP status of a proxy; of what it forbids, no setting of ours knows."""
    return after_status(said, status) if status == _WANTS_LOGIN else said


def after_tls(error: ssl.SSLError) -> str:
    """Add what to change to what TLS says."""
    said = error.strerror or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return _joined(said, _BY_VERIFY_CODE.get(getattr(error, "verify_code", 0)))
    if isinstance(error, ssl.SSLEOFError):
        # It hung up, and what it said of us may be lost with the connection.
        return _joined(said, f"If it asks who we are, {_CLIENT}")
    # Those that Python makes itself have none.
    reason = getattr(error, "reason", None) or ""
    if reason in _NOT_TLS:
        return _joined(said, _NO_TLS)
    # An alert is what the other side says; of certificates, it says so of ours.
    is_of_ours = "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)
    return _joined(said, _CLIENT if is_of_ours else None)


def _joined(said: str, advice: str | None) -> str:
    return f"{said}. {advice}" if advice else said
