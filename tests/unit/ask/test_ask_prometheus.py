"""Prometheus is asked, and whatever it answers is either understood or told in a sentence."""

import json
import shutil
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from fake_prometheus import FakePrometheus, certificate, vector

from tercet.ask import prometheus
from tercet.ask.prometheus import Access, Prometheus, Sample, load_access
from tercet.errors import PrometheusError, SettingsError


def ask(fake, **options):
    return Prometheus(Access(address=fake.address, **options)).query("up")


def refusal(*arguments, **options):
    with FakePrometheus(*arguments, **options) as fake, pytest.raises(PrometheusError) as refused:
        ask(fake)
    prefix = f"--prometheus must be a Prometheus that answers, got {fake.address}: "
    assert str(refused.value).startswith(prefix)
    return str(refused.value).removeprefix(prefix)


def test_each_series_of_the_answer_is_a_sample():
    """With its labels and its value; the question goes as a form, of any length."""
    with FakePrometheus(vector(({"job": "a"}, "1"), ({"job": "b"}, "+Inf"))) as fake:
        assert ask(fake) == [Sample({"job": "a"}, 1.0), Sample({"job": "b"}, float("inf"))]
    assert fake.asked == [("/api/v1/query", "up")]
    assert fake.known_as == [None]


def test_a_label_cannot_forge_a_line():
    """Whoever sends telemetry says what its environment is called."""
    with FakePrometheus(vector(({"where": "x\nGREEN\x1b]0;y\x07"}, "1"))) as fake:
        assert ask(fake) == [Sample({"where": "x GREEN ]0;y "}, 1.0)]


def test_a_question_without_an_answer_is_an_empty_list():
    """Nothing is known, which is not zero."""
    with FakePrometheus(vector()) as fake:
        assert ask(fake) == []


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("<html>", 200, "it answered 200, not with JSON. Is it Prometheus' address?"),
        ("", 502, "it answered 502, not with JSON. Is it Prometheus' address?"),
        ("[" * 100_000, 200, "it answered 200, not with JSON. Is it Prometheus' address?"),
        (b"\xff\xfe\x00", 200, "it answered 200, not with JSON. Is it Prometheus' address?"),
        ("null", 200, "its answer is none of Prometheus'. Is it Prometheus' address?"),
        (
            '{"status": "success", "data": {"resultType": "scalar"}}',
            200,
            "its answer is none of Prometheus'.",
        ),
        (vector(({"a": "b"}, "much")), 200, "its answer is none of Prometheus'."),
        (vector(([], "1")), 200, "its answer is none of Prometheus'."),
        (vector(({"a": "b"}, int("1" * 400))), 200, "its answer is none of Prometheus'."),
        (json.dumps({"error": "too \x1b[31mmuch"}), 503, "it answered 503: too  [31mmuch. Look at its log."),
        ("[]", 422, "it answered 422. Look at its log."),
        ("", 302, "it sends us elsewhere. Write the address that answers, or give a token."),
        ("", 401, "it answered 401. Give --token-file, or --user and --password-file."),
    ],
)
def test_what_is_no_answer_is_told(body, status, told):
    """In a sentence, with what to do, and with nothing that a terminal would obey."""
    assert refusal(body, status).startswith(told)


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch):
    """Memory is bounded."""
    monkeypatch.setattr(prometheus, "LARGEST_BYTES", 1000)
    assert refusal(" " * 1001) == "its answer has more than 1000 bytes. Is it Prometheus' address?"


def test_an_answer_that_comes_drop_by_drop_is_late():
    """Though each drop comes in time."""
    began = time.monotonic()
    with FakePrometheus(vector(), slow=30) as fake, pytest.raises(PrometheusError, match="no answer in time"):
        ask(fake, timeout=0.3)
    assert time.monotonic() - began < 15


def test_nobody_there_is_told():
    """With the system's own reason."""
    with FakePrometheus() as fake:
        pass
    with pytest.raises(PrometheusError, match=r"Connection refused\. Start it, or correct the address"):
        ask(fake)


def test_what_is_no_http_is_told():
    """By its kind, for there is no reason of the system's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def hang_up():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0\r\n")
            connection.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(PrometheusError, match="Start it, or correct the address"):
            Prometheus(Access(address=address)).query("up")


def test_an_encoding_that_nobody_asked_for_is_not_unpacked():
    """It may be a bomb."""
    told = refusal(b"\x1f\x8b", headers=[("content-encoding", "gzip")])
    assert told.startswith("it answered 200, not with JSON")


# How we are known.


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"token_file": "s3cret\n"}, "Bearer s3cret"),
        ({"user": "me", "password_file": "pass word\r\n"}, "Basic bWU6cGFzcyB3b3Jk"),
    ],
)
def test_secrets_come_from_files_and_are_never_shown(tmp_path, options, header):
    """As a token, or as a user's password."""
    given = dict(options)
    for name, content in options.items():
        if name.endswith("_file"):
            given[name] = tmp_path / name
            given[name].write_text(content, "utf-8")
    with FakePrometheus(vector()) as fake:
        access = load_access(fake.address, **given)
        Prometheus(access).query("up")
    assert fake.known_as == [header]
    assert header not in repr(access)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "localhost:9090",
            "got 'localhost:9090'. Write http://127.0.0.1:9090; what is secret stays in a file.",
        ),
        ("http://me:pw@host", "got 'http://<hidden>@host'. Write http://127.0.0.1:9090"),
        ("file:///etc/passwd", "Write http://127.0.0.1:9090"),
    ],
)
def test_an_address_holds_no_secret(url, told):
    """And is one of HTTP."""
    with pytest.raises(SettingsError) as refused:
        load_access(url)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"user": "me"}, "--user must be given with --password-file and without --token-file"),
        ({"password_file": "pw"}, "--user must be given with --password-file"),
        ({"user": "me", "password_file": "pw", "token_file": "pw"}, "without --token-file"),
        ({"user": "a:b", "password_file": "pw"}, "--user must be a name without a colon, got 'a:b'"),
        ({"token_file": "missing"}, "--token-file must be a readable file, got missing: No such file"),
        ({"token_file": "binary"}, "--token-file must be a readable file, got binary: it is no text"),
        ({"token_file": "lines"}, "--token-file must hold one line with the secret, got <hidden>."),
        ({"user": "me", "password_file": "lines"}, "--password-file must hold one line with the secret"),
    ],
)
def test_what_cannot_be_a_secret_is_refused(tmp_path, monkeypatch, options, told):
    """And not shown."""
    monkeypatch.chdir(tmp_path)
    for name, content in (("pw", b"pw"), ("binary", b"\xff"), ("lines", b"a\nx-evil: 1")):
        Path(name).write_bytes(content)
    given = {name: Path(value) if name.endswith("_file") else value for name, value in options.items()}
    with pytest.raises(SettingsError) as refused:
        load_access("http://localhost", **given)
    assert told in str(refused.value)
    assert "x-evil" not in str(refused.value)


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


@needs_openssl
def test_a_certificate_is_checked(tmp_path):
    """Against the authority that was named, else against the system's, which know nothing of it."""
    cert, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with FakePrometheus(vector(), tls=tls) as fake:
        assert ask(fake, authority=cert) == []
        with pytest.raises(PrometheusError, match="its certificate is not trusted"):
            ask(fake)


def test_an_authority_that_cannot_be_read_is_told(tmp_path):
    """By its option."""
    with pytest.raises(SettingsError, match="--ca-file must be a PEM file that can be read"):
        Prometheus(Access(address="https://localhost", authority=tmp_path / "missing.pem"))
