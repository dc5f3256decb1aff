"""One connection of HTTP/2, for one request at a time, as a unary call of gRPC is.

What is said is h2's, in Python and with no I/O, over a socket like any other: the threads and locks of a C
library do not outlive a fork.
"""

import errno
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple

from tercet.export.answer import LONGEST_ANSWER, Cut, harmless

_AT_ONCE = 64 * 1024
_FRAME_HEADER = 9
_LONGEST_FRAME = _FRAME_HEADER + 16_384
_SETTINGS, _GOAWAY = 0x4, 0x7
_STREAMS = 2**31 - 1
# Who says more than this between two requests is no collector.
_READS_BETWEEN = 16
_CONFIG = H2Configuration(
    # What is sent was looked at in the settings; what comes need not be pretty to be understood.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
)
# It writes each header into the log, and tokens are among them.
logging.getLogger("hpack.hpack").addFilter(lambda record: record.levelno > logging.DEBUG)


class Broken(OSError):  # noqa: N818 - it never leaves this room
    """Say what the other side does that no HTTP/2 is."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.EPROTO, what)


class Reset(Exception):  # noqa: N818 - it never leaves this room
    """Say that the other side gave the request up, and by which code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Response:
    """What has come of one response: headers and trailers as one, and the bytes between them."""

    headers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    is_whole: bool = False


class _Http(H2Connection):
    """Forget requests that are over; h2 remembers the last 65,536."""

    MAX_CLOSED_STREAMS = 16


class Connection:
    """Ask over a socket that is connected, and encrypted if it shall be."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._http = _Http(_CONFIG)
        self._http.local_settings = Settings(initial_values={SettingCodes.ENABLE_PUSH: 0})
        self._http.initiate_connection()
        self._read = bytearray()
        self._stream = 0
        self._last_stream: int | None = None
        self._response = Response()
        self._deadline = 0.0
        self._has_greeted = False

    def __del__(self) -> None:
        self._wire.close()

    def is_open(self) -> bool:
        """Take what has come since the last request, and say whether another one can be sent."""
        try:
            for _ in range(_READS_BETWEEN):
                self._wire.settimeout(0)
                self._receive()
        except (BlockingIOError, ssl.SSLWantReadError):
            return self._last_stream is None
        except Exception:  # Closed, or broken: a new one will do.
            return False
        return False

    def ask(self, headers: Iterable[tuple[str, str]], body: bytes, deadline: float) -> Response:
        """Send a request, and wait for the response.

        Raises:
            Cut: The connection ended before the response.
            Reset: The other side gave up.
            Broken: It does not speak HTTP/2.
            TimeoutError: The deadline, by the monotonic clock, has come.
        """
        self._deadline = deadline
        self._response = Response()
        try:
            # Who hangs up while we send may have said why.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                self._send_headers(headers)
                self._send_body(body)
            while not self._response.is_whole:
                self._wait()
        except (ConnectionError, ssl.SSLError) as error:
            raise Cut from error
        except ProtocolError as error:
            raise Broken(f"it does not keep to HTTP/2: {harmless(str(error))}") from error
        return self._response

    def _send_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        self._stream = self._http.get_next_available_stream_id()
        # In no table, so that no proxy keeps a token: RFC 7541, 6.2.3.
        self._http.send_headers(self._stream, [NeverIndexedHeaderTuple(*each) for each in headers])

    def _send_body(self, body: bytes) -> None:
        """Send as the other side makes room; it may answer before it has all."""
        left = memoryview(body)
        while left and not self._response.is_whole:
            room = min(_AT_ONCE, self._http.local_flow_control_window(self._stream))
            if room <= 0:
                self._wait()
                continue
            part, left = left[:room], left[room:]
            self._send_part(part, is_last=not left)
        if left:
            with suppress(StreamClosedError):  # It may have said itself that it wants no more.
                self._http.reset_stream(self._stream, ErrorCodes.CANCEL)
            self._flush()

    def _send_part(self, part: memoryview, *, is_last: bool) -> None:
        longest = self._http.max_outbound_frame_size
        while part:
            data, part = part[:longest], part[longest:]
            self._http.send_data(self._stream, data, end_stream=is_last and not part)
        self._flush()

    def _flush(self) -> None:
        if to_send := self._http.data_to_send():
            self._wire.settimeout(self._left())
            self._wire.sendall(to_send)

    def _wait(self) -> None:
        """Say what is to be said, and wait until something comes."""
        self._flush()
        self._wire.settimeout(self._left())
        self._receive()

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _receive(self) -> None:
        data = self._wire.recv(_AT_ONCE)
        if not data:
            raise Cut
        self._read += data
        for frame in self._frames():
            if frame[3] == _GOAWAY:
                self._take_farewell(frame)
                continue
            for event in self._http.receive_data(frame):
                self._take(event)

    def _frames(self) -> Iterator[bytes]:
        """Tell frames from what is none: h2 waits for the end of whatever it takes for one, up to 16 MiB."""
        while len(self._read) >= _FRAME_HEADER:
            end = _FRAME_HEADER + int.from_bytes(self._read[:3])
            if not self._has_greeted and self._read[3] != _SETTINGS:
                raise Broken("what listens there speaks no HTTP/2, and so no gRPC")
            self._has_greeted = True
            if end > _LONGEST_FRAME:
                raise Broken("a frame is longer than it may be")
            if len(self._read) < end:
                return
            frame = bytes(self._read[:end])
            del self._read[:end]
            yield frame

    def _take_farewell(self, frame: bytes) -> None:
        """Let the last request end; h2 would not: https://github.com/python-hyper/h2/issues/1181."""
        self._last_stream = int.from_bytes(frame[_FRAME_HEADER : _FRAME_HEADER + 4]) & _STREAMS
        if self._stream > self._last_stream and not self._response.is_whole:
            raise Cut

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived() | TrailersReceived():
                self._response.headers.update((_text(name), _text(value)) for name, value in event.headers)
            case DataReceived():
                self._take_data(event)
            case StreamEnded():
                self._response.is_whole = True
            case StreamReset(stream_id=self._stream) if not self._response.is_whole:
                if event.error_code == ErrorCodes.REFUSED_STREAM:
                    raise Cut  # By its definition, nothing has been done with the request.
                raise Reset(event.error_code)

    def _take_data(self, event: DataReceived) -> None:
        self._response.data += event.data
        if len(self._response.data) > LONGEST_ANSWER:
            raise Broken("the answer is longer than any collector's")
        self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace")
