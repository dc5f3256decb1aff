"""What a collector answers, and what it means, whatever it is asked over.

https://opentelemetry.io/docs/specs/otlp/#otlphttp and #otlpgrpc are the source.
"""

from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.message import DecodeError

from tercet.declare.settings import Signal
from tercet.export.advice import after_proxy, after_status

Kind = Literal["delivered", "later", "too_large", "refused"]

#: An answer is a few bytes; whoever sends more is no collector.
LONGEST_ANSWER = 64 * 1024
# A collector that asks for a longer pause is asked again all the same.
_LONGEST_WAIT = 300.0
# Of a proxy without a tunnel, 407: the collector has not been asked.
_LATER = frozenset({407, 429, 502, 503, 504})
_TOO_LARGE = 413
_HARMLESS = frozenset(map(chr, range(32, 127)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Attributes:
        kind: delivered; later, when it may be tried again; too_large, when halves may fit; refused for good.
        reason: Why, in a few words with no secrets in them; "" when delivered.
        wait: Seconds that the collector asked for before the next try, if it did.
        rejected: How many items the collector did not take although it took the request.
    """

    kind: Kind
    reason: str = ""
    wait: float | None = None
    rejected: int = 0


class Cut(Exception):  # noqa: N818 - it never leaves this room
    """Say that the connection ended before the answer; a kept one may have been closed meanwhile."""


def without_success(status: int, wait: float | None = None) -> Answer:
    """Say what an HTTP status means that is not 2xx."""
    reason = after_status(f"HTTP {status}", status)
    if status in _LATER:
        return Answer("later", reason, wait)
    # A redirect too: following it would send the telemetry, and its token, to somewhere nobody chose.
    return Answer("too_large" if status == _TOO_LARGE else "refused", reason)


def without_tunnel(status: int) -> Answer:
    """Say what the HTTP status means with which a proxy refuses a tunnel: the collector was not asked."""
    return Answer("later", after_proxy(f"the proxy answers HTTP {status}", status))


def bounded_wait(seconds: float) -> float:
    """Hold the pause that a collector asks for within reason."""
    return min(max(0.0, seconds), _LONGEST_WAIT)


def harmless(message: str) -> str:
    r"""Keep of a collector's words what breaks no line.

    >>> harmless("too\nold")
    'too?old'
    """
    return "".join(each if each in _HARMLESS else "?" for each in message[:200])


class Successes:
    """Read how many items of a signal a collector rejected although it took the request."""

    def __init__(self, signal: Signal) -> None:
        self._response, self._field = _response_type(signal)

    def read(self, message: bytes) -> Answer:
        """Read the message of an answer; "" is the most usual one."""
        try:
            partial = self._response.FromString(message).partial_success
        except DecodeError:
            return Answer("delivered")  # Some gateways answer 200 with a word of their own.
        return Answer(
            "delivered", harmless(partial.error_message), None, max(0, getattr(partial, self._field))
        )


def _response_type(signal: Signal) -> tuple[Any, str]:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse, "rejected_spans"
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        return ExportMetricsServiceResponse, "rejected_data_points"
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    return ExportLogsServiceResponse, "rejected_log_records"
