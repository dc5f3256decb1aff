"""One connection of HTTP/2, for one request at a time: as much of RFC 9113 as a unary call of gRPC needs.

In Python, on a socket like any other: the threads and locks of a C library do not outlive a fork.
"""

import errno
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hpack import Decoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tercet.export.answer import LONGEST_ANSWER, Cut
from tercet.export.wire import varints

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# What a connection and a stream may send before their peer says more, and what a frame may hold.
_WINDOW = 65_535
_FRAME = 16_384
_FRAME_HEADER = 9
_AT_ONCE = 64 * 1024
# A header that is never put into a table, so that no proxy keeps a token: RFC 7541, 6.2.3.
_NEVER_INDEXED = b"\x10"
_LONGEST_SHORT = 127
_REFUSED_STREAM, _CANCEL = 0x7, 0x8
# Who says more than this between two requests is no collector.
_READS_BETWEEN = 16


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


class Connection:
    """Ask over a socket that is connected, and encrypted if it shall be."""

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._decoder = Decoder()
        self._read = bytearray()
        self._to_send = bytearray(
            _PREFACE + SettingsFrame(settings={SettingsFrame.ENABLE_PUSH: 0}).serialize()
        )
        self._block: HeadersFrame | None = None
        self._stream = -1
        self._last_stream: int | None = None
        self._window = self._stream_window = self._first_window = _WINDOW
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
            Exception: What comes cannot be understood.
        """
        self._deadline = deadline
        self._stream += 2
        self._stream_window = self._first_window
        self._response = Response()
        try:
            # Who hangs up while we send may have said why.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._send_headers(_header_block(headers))
                self._send_body(body)
            while not self._response.is_whole:
                self._wait()
        except (ConnectionError, ssl.SSLError) as error:
            raise Cut from error
        return self._response

    def _send_headers(self, block: bytes) -> None:
        first, rest = block[:_FRAME], block[_FRAME:]
        self._put(HeadersFrame(self._stream, first, flags=[] if rest else ["END_HEADERS"]))
        while rest:
            first, rest = rest[:_FRAME], rest[_FRAME:]
            self._put(ContinuationFrame(self._stream, first, flags=[] if rest else ["END_HEADERS"]))

    def _send_body(self, body: bytes) -> None:
        """Send as the other side makes room; it may answer before it has all."""
        sent = 0
        while sent < len(body) and not self._response.is_whole:
            room = min(self._window, self._stream_window, _FRAME)
            if room <= 0:
                self._wait()
                continue
            part = body[sent : sent + room]
            sent += len(part)
            self._window -= len(part)
            self._stream_window -= len(part)
            self._put(DataFrame(self._stream, part, flags=["END_STREAM"] if sent == len(body) else []))
            if len(self._to_send) >= _AT_ONCE:
                self._flush()
        if sent < len(body):
            self._put(RstStreamFrame(self._stream, _CANCEL))
        self._flush()

    def _put(self, frame: Frame) -> None:
        self._to_send += frame.serialize()

    def _flush(self) -> None:
        to_send, self._to_send = self._to_send, bytearray()
        self._wire.settimeout(self._left())
        self._wire.sendall(to_send)

    def _wait(self) -> None:
        """Say what is to be said, and wait until something comes."""
        if self._to_send:
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
        while (frame := self._next_frame()) is not None:
            self._take(frame)

    def _next_frame(self) -> Frame | None:
        if len(self._read) < _FRAME_HEADER:
            return None
        frame, length = Frame.parse_frame_header(memoryview(bytes(self._read[:_FRAME_HEADER])))
        if not (self._has_greeted or isinstance(frame, SettingsFrame)):
            raise Broken("what listens there speaks no HTTP/2, and so no gRPC")
        self._has_greeted = True
        if length > _FRAME:
            raise Broken("a frame is longer than it may be")
        end = _FRAME_HEADER + length
        if len(self._read) < end:
            return None
        frame.parse_body(memoryview(bytes(self._read[_FRAME_HEADER:end])))
        del self._read[:end]
        return frame

    def _take(self, frame: Frame) -> None:
        take = _TAKE.get(type(frame))
        if take is not None:  # What is unknown is to be ignored.
            take(self, frame)

    def _take_headers(self, frame: HeadersFrame) -> None:
        self._block = frame
        self._end_headers(frame)

    def _take_continuation(self, frame: ContinuationFrame) -> None:
        if self._block is None or len(self._block.data) > LONGEST_ANSWER:
            raise Broken("headers go on where they may not")
        self._block.data += frame.data
        self._end_headers(frame)

    def _end_headers(self, frame: Frame) -> None:
        if self._block is None or "END_HEADERS" not in frame.flags:
            return
        # Also those of an earlier stream: what they say of the decoder's table counts for all.
        decoded = self._decoder.decode(self._block.data, raw=True)
        block, self._block = self._block, None
        if block.stream_id == self._stream:
            self._response.headers.update((_text(name), _text(value)) for name, value in decoded)
            self._end_stream(block)

    def _take_data(self, frame: DataFrame) -> None:
        if frame.flow_controlled_length:
            self._put(WindowUpdateFrame(0, frame.flow_controlled_length))
        if frame.stream_id != self._stream:
            return
        self._response.data += frame.data
        if len(self._response.data) > LONGEST_ANSWER:
            raise Broken("the answer is longer than any collector's")
        self._end_stream(frame)
        if frame.flow_controlled_length and not self._response.is_whole:
            self._put(WindowUpdateFrame(self._stream, frame.flow_controlled_length))

    def _end_stream(self, frame: Frame) -> None:
        self._response.is_whole = "END_STREAM" in frame.flags

    def _take_reset(self, frame: RstStreamFrame) -> None:
        if frame.stream_id != self._stream or self._response.is_whole:
            return
        if frame.error_code == _REFUSED_STREAM:
            raise Cut  # By its definition, nothing has been done with the request.
        raise Reset(frame.error_code)

    def _take_settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            return
        first = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, self._first_window)
        self._stream_window += first - self._first_window
        self._first_window = first
        self._put(SettingsFrame(flags=["ACK"]))

    def _take_ping(self, frame: PingFrame) -> None:
        if "ACK" not in frame.flags:
            self._put(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))

    def _take_farewell(self, frame: GoAwayFrame) -> None:
        self._last_stream = frame.last_stream_id
        if self._stream > self._last_stream and not self._response.is_whole:
            raise Cut

    def _take_room(self, frame: WindowUpdateFrame) -> None:
        if frame.stream_id == 0:
            self._window += frame.window_increment
        elif frame.stream_id == self._stream:
            self._stream_window += frame.window_increment

    def _take_promise(self, _frame: PushPromiseFrame) -> None:
        raise Broken("a push was promised that nobody wants")


_TAKE: Mapping[type[Frame], Callable[[Connection, Any], None]] = {
    HeadersFrame: Connection._take_headers,
    ContinuationFrame: Connection._take_continuation,
    DataFrame: Connection._take_data,
    RstStreamFrame: Connection._take_reset,
    SettingsFrame: Connection._take_settings,
    PingFrame: Connection._take_ping,
    GoAwayFrame: Connection._take_farewell,
    WindowUpdateFrame: Connection._take_room,
    PushPromiseFrame: Connection._take_promise,
}


def _header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Encode headers by RFC 7541, in the simplest of its ways; hpack's encoder writes tokens into logs."""
    return b"".join(_NEVER_INDEXED + _literal(name) + _literal(value) for name, value in headers)


def _literal(text: str) -> bytes:
    data = text.encode("ascii")
    if len(data) < _LONGEST_SHORT:
        return bytes([len(data)]) + data
    return bytes([_LONGEST_SHORT]) + varints[len(data) - _LONGEST_SHORT] + data


def _text(data: bytes) -> str:
    return data.decode("ascii", "replace")
