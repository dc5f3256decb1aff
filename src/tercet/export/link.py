"""The link to the collector: requests of one signal go over it, and it says when nobody is there."""

import codecs
import math
import os
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

import urllib3

from tercet.declare.settings import Otlp, Signal
from tercet.errors import SetupError
from tercet.export.address import host_of
from tercet.export.advice import after_tls
from tercet.export.answer import Answer, Cut
from tercet.export.compression import COMPRESS
from tercet.export.http import Http
from tercet.export.outage import Outage

_SHORTEST_TIMEOUT = 0.001
_WAITS = "It waits, and is sent"
_MEANWHILE: Mapping[Signal, str] = {
    "traces": _WAITS,
    "logs": _WAITS,
    # They are not kept: the next collection has the sums of this one, too, unless they are deltas.
    "metrics": "The sums go on, and are sent",
}
# Nothing may be imported while requests are sent: a child that is forked meanwhile would wait for ever for a
# thread that it does not have. Looking a host up imports this one.
codecs.lookup("idna")


class Carrier(Protocol):
    """One protocol that requests go over."""

    def carry(self, packed: bytes, timeout: float) -> Answer:
        """Send one packed request; raise `Cut` where a new connection may do, and anything else where not."""
        ...

    def renew(self) -> None:
        """Leave what the parent is talking on to the parent; called in a forked child."""
        ...


class Link:
    """Post requests of one signal to the collector, and tell when it goes away and comes back.

    Args:
        otlp: Where and how.
        signal: Of what.
        clock: Seconds that only go forward.

    Raises:
        SettingsError: A certificate, a key, or a setting that the protocol does not have, cannot be used.
        SetupError: gRPC is asked for and not installed.
    """

    def __init__(self, otlp: Otlp, signal: Signal, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = f"{signal} to {host_of(otlp.endpoint)}"
        self._meanwhile = _MEANWHILE[signal]
        self._timeout = otlp.timeout
        self._clock = clock
        self._compress = COMPRESS[otlp.compression]
        self._carrier = _build_carrier(otlp, signal)
        self._start_anew()
        #: Told how many seconds each request took, and what became of it; whoever measures it sets it.
        self.observe: Callable[[float, Answer], None] = lambda seconds, answer: None
        # A forked child must not talk on its parent's connection, nor end its parent's outage.
        os.register_at_fork(after_in_child=self._carrier.renew)
        os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._outage = Outage(self._what, self._meanwhile, self._clock)

    def pack(self, body: bytes) -> bytes:
        """Compress a request as the settings say."""
        return self._compress(body)

    def post(self, packed: bytes, timeout: float = math.inf, at_stake: int | None = None) -> Answer:
        """Send one packed request, and say what became of it; never raise.

        Args:
            packed: What `pack` returned, here or in another process with other settings.
            timeout: Seconds to wait at most, if the setting allows more.
            at_stake: How many points are lost where it cannot be delivered now; None where they are not.
        """
        began = time.perf_counter()
        answer = self._answer(packed, min(timeout, self._timeout))
        try:
            self.observe(time.perf_counter() - began, answer)
        except Exception as error:  # Of somebody else's meter; what is delivered is delivered.
            self.tell(f"a request could not be measured ({type(error).__name__})")
        if answer.kind == "later":
            self._outage.goes_on(answer.reason, at_stake)
        elif answer.kind == "refused":
            self.tell(f"refused by the collector: {answer.reason}")
        else:
            self._outage.is_over()
        if answer.rejected:
            self.tell(f"taken in part, {answer.rejected} rejected: {answer.reason}")
        return answer

    def tell(self, what: str) -> bool:
        """Say something about what is sent here, at most once a minute; return whether it was said."""
        return self._outage.tell(what)

    def _answer(self, packed: bytes, timeout: float) -> Answer:
        deadline = time.monotonic() + timeout
        # What fails at once on a kept connection, which the collector may have closed, is tried on a new one.
        with suppress(Cut):
            return self._attempt(packed, deadline)
        try:
            return self._attempt(packed, deadline)
        except Cut as error:
            return Answer("later", _why(error))

    def _attempt(self, packed: bytes, deadline: float) -> Answer:
        try:
            return self._carrier.carry(packed, max(deadline - time.monotonic(), _SHORTEST_TIMEOUT))
        except Cut:
            raise
        except Exception as error:  # The carrier's own, but also what the system says of a wire.
            return Answer("later", _why(error))


def _build_carrier(otlp: Otlp, signal: Signal) -> Carrier:
    if otlp.protocol == "http/protobuf":
        return Http(otlp, signal)
    try:
        from tercet.export.grpc import Grpc
    except ImportError as error:
        raise SetupError(
            "otlp_protocol (OTEL_EXPORTER_OTLP_PROTOCOL) must be http/protobuf unless gRPC is installed, "
            "got 'grpc'. Write http/protobuf, or install tercet[grpc]."
        ) from error
    return Grpc(otlp, signal)


def _why(error: Exception) -> str:
    """Name a failed connection without the URL, which may hold a password."""
    if isinstance(error, urllib3.exceptions.ProxyError) and isinstance(error.__cause__, Exception):
        return f"no way through the proxy: {_why(error.__cause__)}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLError):
        return after_tls(cause)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if isinstance(error, Cut):
        return "the connection was cut"
    is_late = isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError)
    return "no answer in time" if is_late else type(error).__name__
