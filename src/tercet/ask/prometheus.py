"""Questions to Prometheus over HTTP, and answers that nobody need trust."""

import base64
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import urllib3

from tercet.declare.parse import Unusable, shown
from tercet.declare.quantity import address
from tercet.errors import PrometheusError, SettingsError

#: Ten thousand objectives have less.
LARGEST_BYTES = 32 * 1024**2
_OK, _MOVED, _DENIED = 200, range(300, 400), (401, 403)
_LONGEST_REASON = 300
# No secret is longer, and a header takes nothing else.
_LONGEST_SECRET = 16 * 1024
_SECRET = re.compile(r"[\x20-\x7e\u00a1-\U0010ffff]+").fullmatch
_TOKEN = re.compile(r"[\x21-\x7e]+").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where Prometheus is, and what it wants to know of who asks.

    Attributes:
        address: Its address, without a path below it.
        headers: What it knows us by; never shown.
        authority: File of the authority that signed its certificate; the system's when None.
        timeout: Seconds for one question.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    authority: Path | None = None
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer, with its value."""

    labels: Mapping[str, str]
    value: float


def load_access(
    url: str,
    *,
    token_file: Path | None = None,
    user: str | None = None,
    password_file: Path | None = None,
    authority: Path | None = None,
    timeout: float = 10.0,
) -> Access:
    """Gather how Prometheus is reached; what is secret comes from files.

    Args:
        url: Its address.
        token_file: Holds a bearer token.
        user: For basic authentication, with the password in `password_file`.
        password_file: Holds the password.
        authority: File of the authority that signed its certificate.
        timeout: Seconds for one question.

    Raises:
        SettingsError: Something of it cannot be used.
    """
    try:
        base = address(url)
    except Unusable as unusable:
        raise SettingsError(
            f"--prometheus must be {unusable.rule}, got {shown(url)}. "
            "Write http://127.0.0.1:9090; what is secret stays in a file."
        ) from None
    if (user is None) != (password_file is None) or (user is not None and token_file is not None):
        raise SettingsError(
            "--user must be given with --password-file and without --token-file, got only one of the two or "
            "all. Name the files of one way to be known."
        )
    if user is not None and (":" in user or not _SECRET(user)):
        raise SettingsError(f"--user must be a name without a colon, got {shown(user)}. Correct it.")
    headers = {}
    if token_file is not None:
        headers["authorization"] = f"Bearer {_secret(token_file, '--token-file')}"
    if user is not None and password_file is not None:
        pair = f"{user}:{_secret(password_file, '--password-file')}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return Access(address=base, headers=headers, authority=authority, timeout=timeout)


def _secret(path: Path, option: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST_SECRET).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{option} must be a readable file, got {path}: {why}. Correct it.") from None
    if not (_TOKEN if option == "--token-file" else _SECRET)(text):
        raise SettingsError(
            f"{option} must hold one line with the secret, got <hidden>. Write it into {path}, and no more."
        )
    return text


class Prometheus:
    """Answer questions in PromQL, as they are answered now.

    Args:
        access: How it is reached.

    Raises:
        SettingsError: The file of the authority cannot be used.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        # The pool reads no proxies from the environment.
        self._pool = urllib3.PoolManager(retries=False, ssl_context=_tls(access.authority))

    def query(self, expression: str) -> list[Sample]:
        """Evaluate an expression now.

        Returns:
            A sample for each series of the result; none when nothing is known.

        Raises:
            PrometheusError: It cannot be asked, or what it says makes no sense.
        """
        status, body = self._answered(expression)
        if status in _MOVED:
            raise self._error("it sends us elsewhere", "Write the address that answers, or give a token.")
        if status in _DENIED:
            raise self._error(f"it answered {status}", "Give --token-file, or --user and --password-file.")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            raise self._error(f"it answered {status}, not with JSON", "Is it Prometheus' address?") from None
        if status != _OK:
            raise self._error(f"it answered {status}{_reason(answer)}", "Look at its log.")
        try:
            return list(_samples(answer))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError):
            raise self._error("its answer is none of Prometheus'", "Is it Prometheus' address?") from None

    def _answered(self, expression: str) -> tuple[int, bytes]:
        # On a thread, for nothing else bounds how long a name may take to be found, or headers to come.
        outcome: SimpleQueue[tuple[int, bytes] | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                outcome.put(self._asked(expression))
            except Exception as error:  # Handed to who waits.
                outcome.put(error)

        Thread(target=ask, daemon=True).start()
        try:
            answer = outcome.get(timeout=self._access.timeout)
        except Empty:
            raise self._error("no answer in time", "Raise --timeout, or look at its load.") from None
        if isinstance(answer, PrometheusError):
            raise answer
        if isinstance(answer, Exception):
            raise self._error(_why(answer), "Start it, or correct the address.") from None
        return answer

    def _asked(self, expression: str) -> tuple[int, bytes]:
        response = self._pool.request(
            "POST",
            f"{self._access.address}/api/v1/query",
            fields={"query": expression},
            encode_multipart=False,
            headers={"accept-encoding": "identity", **self._access.headers},
            timeout=urllib3.Timeout(total=self._access.timeout),
            redirect=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            body = response.read(LARGEST_BYTES + 1)
        finally:
            response.close()
        if len(body) > LARGEST_BYTES:
            raise self._error(f"its answer has more than {LARGEST_BYTES} bytes", "Is it Prometheus' address?")
        return response.status, body

    def _error(self, what: str, mend: str) -> PrometheusError:
        return PrometheusError(
            f"--prometheus must be a Prometheus that answers, got {self._access.address}: {what}. {mend}"
        )


def _tls(authority: Path | None) -> ssl.SSLContext:
    # urllib3's own, for what it knows of old systems' OpenSSL; it checks certificates and names.
    tls = urllib3.util.ssl_.create_urllib3_context()
    if authority is None:
        tls.load_default_certs()
        return tls
    try:
        tls.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(
            f"--ca-file must be a PEM file that can be read, got {authority}: {why}. Correct the path."
        ) from None
    return tls


def _samples(answer: Any) -> Iterator[Sample]:
    if answer["status"] != "success" or answer["data"]["resultType"] != "vector":
        raise ValueError
    for series in answer["data"]["result"]:
        labels = {str(key): _bearable(str(value)) for key, value in series["metric"].items()}
        yield Sample(labels, float(series["value"][1]))


def _reason(answer: Any) -> str:
    """Take what Prometheus says of a failure, as far as a terminal can bear it."""
    reason = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(reason, str):
        return ""
    return f": {_bearable(reason[:_LONGEST_REASON])}"


def _bearable(text: str) -> str:
    """Take what would forge a line or drive a terminal out of what a stranger may have written."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _why(error: Exception) -> str:
    """Find the reason that a person understands, without the address that urllib3 repeats."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    late = isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError)
    return "no answer in time" if late else f"the connection failed ({type(error).__name__})"
