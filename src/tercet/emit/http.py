"""What is known about HTTP: names, attributes and what counts as an error, as pure functions.

https://opentelemetry.io/docs/specs/semconv/http/ is the source of every name and rule here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from tercet.emit.headers import HeaderMap, first

Attributes = dict[str, str | int]

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
OTHER = "_OTHER"
REDACTED = "REDACTED"
FAILURE = 500
CLIENT_FAILURE = 400
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SEPARATOR = r"[-_.\[\]]"
# The signing parameters that the conventions name, and what services call their secrets.
_SECRET_PARAMETER = re.compile(
    rf"(?i)(^|{_SEPARATOR})(awsaccesskeyid|signature|sig|credential|token|bearer|otp|authorization|password|passwd|pwd|passphrase|secret|key"
    rf"|apikey|accesskey|auth|code|jwt|session)({_SEPARATOR}|$)|token$|secret$|password$|apikey$"
).search
_MAY_HIDE_SECRETS = re.compile("[@?#]").search


def known_method(method: str) -> str:
    """Return the method if the conventions know it, so that a caller cannot make new series.

    >>> known_method("GET"), known_method("HACK")
    ('GET', '_OTHER')
    """
    return method if method in METHODS else OTHER


def known_scheme(scheme: str) -> str:
    """Return the scheme if it is one of the web's, so that a caller cannot make new series.

    >>> known_scheme("https"), known_scheme("gopher")
    ('https', '_OTHER')
    """
    return scheme if scheme in _PORTS else OTHER


def span_name(method: str, route: str | None) -> str:
    """Name a span by method and route template, never by the raw path.

    >>> span_name("GET", "/orders/{id}"), span_name("GET", None), span_name("_OTHER", None)
    ('GET /orders/{id}', 'GET', 'HTTP')
    """
    verb = "HTTP" if method == OTHER else method
    return f"{verb} {route}" if route else verb


def redacted_query(query: str) -> str:
    """Replace the values of parameters that look secret.

    >>> redacted_query("page=2&access_token=abc&sig=x")
    'page=2&access_token=REDACTED&sig=REDACTED'
    """
    if "=" not in query:
        return query
    return "&".join(_redacted_parameter(parameter) for parameter in query.split("&"))


def _redacted_parameter(parameter: str) -> str:
    key, equals, _ = parameter.partition("=")
    name = unquote_plus(key) if "%" in key else key
    return f"{key}={REDACTED}" if equals and _SECRET_PARAMETER(name) else parameter


def redacted_url(url: str) -> str:
    """Remove credentials and secret parameters from a URL.

    >>> redacted_url("https://me:pw@shop.example/pay?token=1#top")
    'https://REDACTED:REDACTED@shop.example/pay?token=REDACTED#top'
    """
    if not _MAY_HIDE_SECRETS(url):
        return url
    parts = urlsplit(url)
    netloc = (
        f"{REDACTED}:{REDACTED}@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    )
    query, fragment = redacted_query(parts.query), redacted_query(parts.fragment)
    return urlunsplit(parts._replace(netloc=netloc, query=query, fragment=fragment))


def host_and_port(
    host_header: str | None, server: Iterable[object] | None, scheme: str
) -> tuple[str, int | None]:
    """Say which host the caller asked, from the Host header or else from the server's own address.

    >>> host_and_port("shop.example:8443", None, "https"), host_and_port(None, ("10.0.0.1", 80), "http")
    (('shop.example', 8443), ('10.0.0.1', 80))
    """
    if host_header:
        return _asked_host(host_header, scheme)
    host, port = (*(server or ("", None)), None)[:2]
    return str(host or ""), port if isinstance(port, int) else None


@lru_cache(maxsize=256)  # a service is asked under few names, and whoever makes up others gains nothing
def _asked_host(host_header: str, scheme: str) -> tuple[str, int | None]:
    try:
        parts = urlsplit(f"//{host_header}")
        return parts.hostname or "", parts.port or _PORTS.get(scheme)
    except ValueError:
        return "", None  # A malformed Host says nothing, and stops no request.


class ServerAttributes(Mapping[str, str | int]):
    """Describe an incoming request from its ASGI scope and headers, with what is known before routing.

    The description is made when somebody looks at it: nobody does where a span is not recorded.
    """

    __slots__ = ("_headers", "_made", "_method", "_scope")

    def __init__(self, scope: Mapping[str, Any], method: str, headers: HeaderMap) -> None:
        self._scope = scope
        self._method = method
        self._headers = headers
        self._made: Attributes | None = None

    def copy(self) -> Attributes:
        """Make a dictionary that is the caller's own."""
        return _describe(self._scope, self._method, self._headers)

    def _all(self) -> Attributes:
        if self._made is None:
            self._made = self.copy()
        return self._made

    def __getitem__(self, key: str) -> str | int:
        return self._all()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def _describe(scope: Mapping[str, Any], method: str, headers: HeaderMap) -> Attributes:
    original, scheme = str(scope.get("method", "GET")), str(scope.get("scheme", "http"))
    attributes: Attributes = {
        "http.request.method": method,
        "url.path": str(scope.get("path", "")),
        "url.scheme": scheme,
    }
    if original != method:
        attributes["http.request.method_original"] = original[:64]
    query = scope.get("query_string")
    if query and isinstance(query, bytes):
        attributes["url.query"] = redacted_query(query.decode("latin-1"))
    address, port = host_and_port(first(headers, b"host"), scope.get("server"), scheme)
    if address:
        attributes["server.address"] = address
        if port is not None:
            attributes["server.port"] = port
    client = scope.get("client")
    if client and isinstance(client, list | tuple) and client[0]:
        attributes["client.address"] = str(client[0])
    agent = first(headers, b"user-agent")
    if agent:
        attributes["user_agent.original"] = agent
    version = scope.get("http_version")
    if version:
        attributes["network.protocol.version"] = str(version)
    return attributes


def client_attributes(method: str, url: str, host: str, port: int | None, scheme: str) -> Attributes:
    """Describe an outgoing request.

    >>> client_attributes("GET", "http://pay:8103/charge", "pay", 8103, "http")["server.port"]
    8103
    """
    attributes: Attributes = {
        "http.request.method": known_method(method),
        "url.full": redacted_url(url),
        "server.address": host,
    }
    if known_method(method) == OTHER:
        attributes["http.request.method_original"] = method[:64]
    if port or _PORTS.get(scheme):
        attributes["server.port"] = port or _PORTS[scheme]
    return attributes


def error_type(error: BaseException) -> str:
    """Name an exception as the conventions want it: fully qualified, built-ins bare.

    >>> error_type(KeyError()), error_type(__import__("json").JSONDecodeError("", "", 0))
    ('KeyError', 'json.decoder.JSONDecodeError')
    """
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
