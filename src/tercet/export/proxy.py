"""The proxy on the way to a collector: of the environment, as other programs read it, and of nothing else."""

from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

import urllib3

from tercet.declare.parse import is_loopback

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and what lets us through.

    Attributes:
        url: Its address, with nothing secret in it.
        headers: What it is told with each request, or once for each tunnel.
    """

    url: str
    headers: dict[str, str] = field(repr=False)


def find_proxy(endpoint: str) -> Proxy | None:
    """Return the proxy that leads to an endpoint; None for one that is reached directly."""
    address = _address(endpoint)
    return _parsed(address) if address else None


def unusable_proxy(endpoint: str) -> str:
    """Name the variable whose proxy should lead to an endpoint, and speaks no HTTP; "" where none does."""
    address, scheme = _address(endpoint), urllib3.util.parse_url(endpoint).scheme
    return f"{scheme}_proxy".upper() if address and _parsed(address) is None else ""


def _address(endpoint: str) -> str:
    """Look in the environment, as it is now."""
    url, proxies = urllib3.util.parse_url(endpoint), getproxies_environment()
    address = proxies.get(str(url.scheme), "")
    host, port = str(url.host), url.port or _PORTS.get(str(url.scheme))
    is_direct = (
        not address
        or is_loopback(endpoint)
        or proxy_bypass_environment(f"{host}:{port}", proxies)
        or _is_among(host.strip("[]"), proxies.get("no", ""))
    )
    return "" if is_direct else address


def _is_among(host: str, exceptions: str) -> bool:
    """Say whether an address is in one of the networks that are excepted; Python knows names alone."""
    with suppress(ValueError):
        address = ip_address(host)
        for each in exceptions.split(","):
            with suppress(ValueError):
                if address in ip_network(each.strip(), strict=False):
                    return True
    return False


def _parsed(address: str) -> Proxy | None:
    try:
        url = urllib3.util.parse_url(address if "://" in address else f"http://{address}")
    except urllib3.exceptions.LocationParseError:
        return None
    if url.scheme not in _PORTS or not url.host:
        return None
    login = urllib3.make_headers(proxy_basic_auth=unquote(url.auth)) if url.auth else {}
    return Proxy(f"{url.scheme}://{url.host}:{url.port or _PORTS[url.scheme]}", dict(login))
