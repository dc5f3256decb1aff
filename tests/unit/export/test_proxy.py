"""Proxies: the environment says which one leads to a collector; its refusal is a failure like any other."""

import os
import shutil
import socket
import threading
import time
from contextlib import suppress

import pytest
from collector import answering, certify, collecting, cutting, server_tls

from forward_proxy import forwarding
from tercet.declare.settings import Settings
from tercet.export.answer import Answer
from tercet.export.link import Link
from tercet.export.proxy import find_proxy, unusable_proxy

BODY = b"\x0a\x00"
FAR = "http://collector.example:4318"
LOGIN = "Basic dXNlcjpwQHNz"  # user:p@ss
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


@pytest.fixture
def environ(monkeypatch):
    """An environment without proxies, to put some in."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch.setenv


def link_to(url, **settings):
    return Link(Settings.load({}, otlp_endpoint=url, **settings).otlp("traces"), "traces")


@pytest.mark.parametrize(
    ("variables", "endpoint", "found"),
    [
        ({}, FAR, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, FAR, "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128"}, FAR, "http://proxy:3128"),
        ({"http_proxy": "http://small:1", "HTTP_PROXY": "http://large:2"}, FAR, "http://small:1"),
        ({"HTTP_PROXY": "proxy:3128"}, FAR, "http://proxy:3128"),
        ({"HTTP_PROXY": "https://proxy"}, FAR, "https://proxy:443"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, FAR, None),
        ({"HTTPS_PROXY": "http://proxy"}, "https://vendor.example", "http://proxy:80"),
        ({"HTTP_PROXY": ""}, FAR, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://localhost:4318", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://127.0.0.2:4318", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "http://[::1]:4318", None),
    ],
)
def test_the_environment_says_which_proxy(variables, endpoint, found, environ):
    """Small letters go before large ones, and none leads to this machine."""
    for name, value in variables.items():
        environ(name, value)
    proxy = find_proxy(endpoint)
    assert (proxy and proxy.url) == found


@pytest.mark.parametrize(
    ("exceptions", "host", "is_direct"),
    [
        ("example", "collector.example:4318", True),
        (".example", "collector.example:4318", True),
        ("other, collector.example:4318", "collector.example:4318", True),
        ("collector.example:4317", "collector.example:4318", False),
        ("*", "collector.example", True),
        ("10.0.0.0/8", "10.1.2.3:4318", True),
        ("10.1.2.3", "10.1.2.3:4318", True),
        ("not/a network,fd00::/8", "[fd00::1]:4318", True),
        ("10.0.0.0/8", "11.1.2.3:4318", False),
        ("10.0.0.0/8", "collector.example", False),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_are_reached_directly(name, exceptions, host, is_direct, environ):
    """By name, by its end, by port, by address, or by network."""
    environ("HTTP_PROXY", "http://proxy:3128")
    environ(name, exceptions)
    assert (find_proxy(f"http://{host}") is None) == is_direct


@pytest.mark.parametrize("address", ["socks5://proxy:1080", "http://", "http://[proxy"])
def test_a_proxy_that_speaks_no_http_is_named_and_not_used(address, environ):
    """Its variable is another program's, and no reason not to start."""
    environ("HTTPS_PROXY", address)
    assert find_proxy("https://vendor.example") is None
    assert unusable_proxy("https://vendor.example") == "HTTPS_PROXY"
    assert [unusable_proxy(FAR), unusable_proxy("https://localhost")] == ["", ""]


def test_a_login_is_said_to_the_proxy_and_shown_to_nobody(environ):
    """Its letters may be escaped in an address."""
    environ("HTTP_PROXY", "http://user:p%40ss@proxy:3128")
    proxy = find_proxy(FAR)
    assert proxy.headers == {"proxy-authorization": LOGIN}
    assert repr(proxy) == "Proxy(url='http://proxy:3128')"


def test_requests_go_through_the_proxy(environ):
    """It is told where to; the collector hears nothing of the login, and one connection is kept."""
    with collecting() as collector, forwarding(collector.server_port) as proxy:
        environ("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        link = link_to("http://me:secret@collector.example:4318/v1/traces?a=1")
        assert [link.post(BODY), link.post(BODY)] == [Answer("delivered")] * 2
        assert proxy.asked == ["POST http://collector.example:4318/v1/traces?a=1/v1/traces HTTP/1.1"] * 2
        assert proxy.logins == [LOGIN] * 2
    request = collector.requests[0]
    assert (request.path, request.body) == ("/v1/traces?a=1/v1/traces", BODY)
    assert request.headers["host"] == "collector.example:4318"
    assert request.headers["authorization"] == "Basic bWU6c2VjcmV0"


@needs_openssl
def test_tls_goes_through_a_tunnel(environ, tmp_path):
    """So the proxy sees nothing but where to, and the collector's certificate is checked all the same."""
    ours = certify(tmp_path, "collector", host="collector.example")
    with collecting(tls=server_tls(*ours)) as collector, forwarding(collector.server_port) as proxy:
        environ("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        link = link_to("https://collector.example", otlp_certificate=ours[0])
        assert [link.post(BODY), link.post(BODY)] == [Answer("delivered")] * 2
        other = link_to("https://other.example", otlp_certificate=ours[0]).post(BODY)
        assert "certificate is not valid for 'other.example'" in other.reason
        assert [line.split()[:2] for line in proxy.asked] == [
            ["CONNECT", "collector.example:443"],
            ["CONNECT", "other.example:443"],
        ]
        assert proxy.logins == [LOGIN] * 2
    assert [request.path for request in collector.requests] == ["/v1/traces"] * 2
    assert "proxy-authorization" not in collector.requests[0].headers


MEND = "HTTP_PROXY and HTTPS_PROXY must hold the user and the password that the proxy wants"


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        (FAR, 407, f"HTTP 407. {MEND}"),
        (FAR, 502, "HTTP 502"),
        ("https://vendor.example", 407, f"the proxy answers HTTP 407. {MEND}"),
        ("https://vendor.example", 502, "the proxy answers HTTP 502"),
        ("https://vendor.example", 403, "the proxy answers HTTP 403"),
    ],
)
def test_a_proxy_that_refuses_is_a_failure_like_any_other(url, status, reason, environ, caplog):
    """It waits, for the collector was not asked; the reason is said without what is secret."""
    with forwarding(9) as proxy:
        proxy.refusal = status
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            environ(name, f"http://user:hunter2@127.0.0.1:{proxy.port}")
        assert link_to(url).post(BODY) == Answer("later", reason)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "tercet.export"]
    assert f": {reason}. It waits" in said
    assert "hunter2" not in caplog.text


def test_a_proxy_that_is_not_there_is_told_from_the_collector(environ):
    """Whoever looks for the mistake must know where."""
    environ("HTTP_PROXY", "http://127.0.0.1:9")
    assert link_to(FAR).post(BODY) == Answer("later", "no way through the proxy: Connection refused")


def test_a_proxy_that_drips_costs_the_timeout(environ):
    """For the tunnel is part of the request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip():
            with listener.accept()[0] as wire, suppress(OSError):
                while True:
                    wire.sendall(b"x")
                    time.sleep(0.01)

        threading.Thread(target=drip, daemon=True).start()
        environ("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        answer = link_to("https://vendor.example", otlp_timeout=0.2).post(BODY)
    assert answer == Answer("later", "no answer in time")


def test_a_kept_connection_that_the_proxy_closes_is_no_failure(environ):
    """The request is sent again on a new one, as to a collector."""
    with collecting() as proxy:
        environ("HTTP_PROXY", proxy.url)
        link = link_to(FAR)
        link.post(BODY)
        proxy.answer = lambda handler: (setattr(proxy, "answer", answering()), cutting(handler))
        assert link.post(BODY) == Answer("delivered")
        assert len(proxy.requests) == 3
