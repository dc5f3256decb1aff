import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.emit.http import (
    REDACTED,
    ServerAttributes,
    client_attributes,
    error_type,
    host_and_port,
    known_method,
    known_scheme,
    redacted_query,
    redacted_url,
    span_name,
)


def described(scope, method, host, agent):
    """The attributes of a request with these headers, as a mapping."""
    given = {b"host": host, b"user-agent": agent}
    headers = {name: value.encode("latin-1", "replace") for name, value in given.items() if value is not None}
    return ServerAttributes(scope, method, headers)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("flag", "flag"),
        ("page=2&sort=price", "page=2&sort=price"),
        ("token=abc", "token=***"),
        ("accessToken=abc&id_token=x", "accessToken=***&id_token=***"),
        ("user[password]=x&user.pin=1", "user[password]=***&user.pin=1"),
        ("%74oken=abc", "%74oken=***"),
        ("X-Amz-Signature=a&X-Amz-Security-Token=b", "X-Amz-Signature=***&X-Amz-Security-Token=***"),
        ("X-Goog-Signature=a&AWSAccessKeyId=b&sig=c", "X-Goog-Signature=***&AWSAccessKeyId=***&sig=***"),
        ("api_key=a&api-key=b&apikey=c&key=d", "api_key=***&api-key=***&apikey=***&key=***"),
        ("token=a=b=c", "token=***"),
        ("monkey=1&authority=x&signed=no&keyboard=us", "monkey=1&authority=x&signed=no&keyboard=us"),
        ("&&=&token=", "&&=&token=***"),
    ],
)  # fmt: skip
def test_secret_parameters_lose_their_values_and_nothing_else_does(query, kept):
    """What looks like a secret goes, in whatever spelling; the rest stays as it came."""
    assert redacted_query(query) == kept.replace("***", REDACTED)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("http://shop.example/a", "http://shop.example/a"),
        ("http://me:pw@shop.example:8443/a", "http://***:***@shop.example:8443/a"),
        ("http://me@[::1]:80/", "http://***:***@[::1]:80/"),
        ("http://shop.example/mail/a@b", "http://shop.example/mail/a@b"),
        ("http://shop.example/a?sig=1&x=2", "http://shop.example/a?sig=***&x=2"),
        ("http://shop.example/a#access_token=1", "http://shop.example/a#access_token=***"),
        ("http://a@b@shop.example/", "http://***:***@shop.example/"),
    ],
)
def test_urls_lose_credentials_and_secret_parameters(url, kept):
    """A URL can be stored after this."""
    assert redacted_url(url) == kept.replace("***", REDACTED)


@pytest.mark.parametrize(
    ("header", "server", "scheme", "expected"),
    [
        ("shop.example", None, "http", ("shop.example", 80)),
        ("shop.example", None, "https", ("shop.example", 443)),
        ("SHOP.example:8443", ("10.0.0.1", 80), "https", ("shop.example", 8443)),
        ("[::1]:8000", None, "http", ("::1", 8000)),
        ("shop.example", None, "gopher", ("shop.example", None)),
        ("[::1", None, "http", ("", None)),
        ("shop:port", None, "http", ("", None)),
        ("shop:99999", None, "http", ("", None)),
        (None, ("10.0.0.1", 8000), "http", ("10.0.0.1", 8000)),
        (None, ["10.0.0.1", 8000], "http", ("10.0.0.1", 8000)),
        (None, ("/run/app.sock", None), "http", ("/run/app.sock", None)),
        (None, None, "http", ("", None)),
        ("", None, "http", ("", None)),
    ],
)
def test_the_host_is_the_one_that_the_caller_asked(header, server, scheme, expected):
    """The Host header comes first, then the server's own address; nonsense says nothing."""
    assert host_and_port(header, server, scheme) == expected


def test_an_incoming_request_is_described_in_the_terms_of_the_conventions():
    """Each attribute has its name and place."""
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "https",
        "path": "/orders/7",
        "query_string": b"page=2&token=x",
        "http_version": "2",
        "client": ("192.0.2.7", 1),
        "server": ("10.0.0.1", 443),
    }
    assert dict(described(scope, "GET", "shop.example", "curl/8")) == {
        "http.request.method": "GET",
        "url.path": "/orders/7",
        "url.scheme": "https",
        "url.query": "page=2&token=REDACTED",
        "server.address": "shop.example",
        "server.port": 443,
        "client.address": "192.0.2.7",
        "user_agent.original": "curl/8",
        "network.protocol.version": "2",
    }


def test_an_unknown_method_is_one_value_and_its_original_is_kept_short():
    """A caller can make no new series, and no endless attribute."""
    attributes = described({"method": "X" * 100, "path": "/"}, "_OTHER", None, None)
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "X" * 64


@pytest.mark.parametrize("client", [None, (), [], ("", 0), (None, None)])
def test_a_client_without_an_address_has_no_attribute(client):
    """Unix sockets and test clients name no client."""
    assert "client.address" not in described({"path": "/", "client": client}, "GET", None, None)


def test_an_outgoing_request_is_described_in_the_terms_of_the_conventions():
    """The port is the scheme's when the URL names none."""
    assert client_attributes("GET", "http://pay/x", "pay", None, "http") == {
        "http.request.method": "GET",
        "url.full": "http://pay/x",
        "server.address": "pay",
        "server.port": 80,
    }


def test_an_outgoing_request_of_an_unknown_kind_is_described_as_far_as_it_can_be():
    """Methods are matched letter for letter, and only the schemes of the web have ports."""
    assert client_attributes("get", "ftp://pay/x", "pay", None, "ftp") == {
        "http.request.method": "_OTHER",
        "http.request.method_original": "get",
        "url.full": "ftp://pay/x",
        "server.address": "pay",
    }


def test_what_a_caller_chooses_cannot_become_a_new_series():
    """Methods and schemes come from closed lists."""
    assert [known_method(name) for name in ("GET", "get", "", "G" * 99)] == [
        "GET",
        "_OTHER",
        "_OTHER",
        "_OTHER",
    ]
    assert [known_scheme(name) for name in ("http", "wss", "x")] == ["http", "wss", "_OTHER"]


def test_a_span_is_named_by_its_template():
    """Never by the path."""
    assert span_name("WS", "/live/{room}") == "WS /live/{room}"


def test_an_exception_is_named_in_full():
    """Built-ins bare, the rest with their module."""
    assert error_type(TimeoutError()) == "TimeoutError"
    assert error_type(json.JSONDecodeError("", "", 0)) == "json.decoder.JSONDecodeError"


@given(st.binary(), st.text(), st.text(), st.text())
def test_any_bytes_from_outside_are_described_without_an_error(query, path, host, agent):
    """Hostile input is harmless."""
    scope = {"method": path, "path": path, "scheme": host, "query_string": query, "server": None}
    assert described(scope, "GET", host, agent)["url.path"] == path


@given(st.text(alphabet="abckeytoken=&?#@:/[]%._-; ", max_size=40))
def test_any_query_can_be_redacted(query):
    """It keeps its number of parameters, and redacting again changes nothing."""
    once = redacted_query(query)
    assert once.count("&") == query.count("&")
    assert redacted_query(once) == once
