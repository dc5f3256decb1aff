"""HTTP/2: what one request needs of it, from a peer that says one frame at a time."""

import socket
import threading
import time
import tracemalloc

import pytest
from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tercet.export.answer import Cut
from tercet.export.http2 import Broken, Connection, Reset

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETING = SettingsFrame()
ACK = SettingsFrame(flags=["ACK"])
HEADERS = [(":method", "POST"), ("token", "1")]
SOON = 30.0


def headers(stream, *pairs, flags=("END_HEADERS",)):
    return HeadersFrame(stream, Encoder().encode(pairs), flags=flags)


def answer(stream, data=b""):
    """Make a whole answer."""
    return [
        headers(stream, (":status", "200")),
        DataFrame(stream, data),
        headers(stream, ("grpc-status", "0"), flags=("END_HEADERS", "END_STREAM")),
    ]


class Peer:
    """The other side: says what it is told to, and hears frames."""

    def __init__(self):
        ours, self.wire = socket.socketpair()
        self.wire.settimeout(SOON)
        self.connection = Connection(ours)
        self._file = self.wire.makefile("rb")
        self._thread = None
        self.outcome = None

    def say(self, *frames):
        self.wire.sendall(b"".join(frame.serialize() for frame in frames))

    def hang_up(self):
        self._file.close()
        self.wire.close()

    def hear(self):
        """Wait for one frame."""
        frame, length = Frame.parse_frame_header(memoryview(self._file.read(9)))
        frame.parse_body(memoryview(self._file.read(length)))
        return frame

    def hear_until(self, kind):
        while not isinstance(frame := self.hear(), kind):
            pass
        return frame

    def hear_greeting(self):
        assert self._file.read(len(PREFACE)) == PREFACE
        greeting = self.hear()
        assert greeting.settings[SettingsFrame.ENABLE_PUSH] == 0

    def hear_all_there_is_room_for(self):
        self.hear_until(HeadersFrame)
        assert sum(len(self.hear().data) for _ in range(4)) == 65_535

    def ask(self, body=b"x", patience=SOON, headers=HEADERS):
        """Let the connection ask, in a thread of its own, for the peer to answer meanwhile."""

        def run():
            try:
                self.outcome = self.connection.ask(headers, body, time.monotonic() + patience)
            except Exception as error:
                self.outcome = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def result(self):
        self._thread.join(SOON)
        return self.outcome


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.hang_up()


def test_headers_data_and_trailers_are_one_response(peer):
    """And the connection takes another request."""
    peer.ask(b"question")
    peer.hear_greeting()
    asked, body = peer.hear(), peer.hear()
    assert (asked.stream_id, asked.flags) == (1, {"END_HEADERS"})
    assert (body.data, body.flags) == (b"question", {"END_STREAM"})
    peer.say(GREETING, *answer(1, b"word"))
    response = peer.result()
    assert (response.headers, bytes(response.data)) == ({":status": "200", "grpc-status": "0"}, b"word")
    assert peer.connection.is_open()
    peer.ask()
    assert peer.hear_until(HeadersFrame).stream_id == 3
    peer.say(*answer(3))
    assert peer.result().headers["grpc-status"] == "0"


def test_no_more_is_sent_than_there_is_room(peer):
    """Neither on the connection nor on the stream; settings change the room of streams that are there."""
    peer.ask(b"x" * 100_000)
    peer.hear_greeting()
    peer.hear_all_there_is_room_for()
    peer.say(SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_545}))
    assert peer.hear().flags == {"ACK"}
    peer.say(WindowUpdateFrame(0, 30))
    assert len(peer.hear().data) == 10
    peer.say(WindowUpdateFrame(1, 15))
    assert len(peer.hear().data) == 15
    peer.say(WindowUpdateFrame(0, 1_000_000), WindowUpdateFrame(1, 1_000_000))
    rest = [peer.hear() for _ in range(3)]
    assert sum(len(each.data) for each in rest) == 100_000 - 65_535 - 25
    assert [each.flags == {"END_STREAM"} for each in rest] == [False, False, True]
    peer.say(*answer(1))
    assert peer.result().is_whole


def test_a_peer_may_make_room_for_a_request_that_it_has_seen_only(peer):
    """It hears the headers all the same."""
    peer.say(SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
    assert peer.connection.is_open()
    peer.ask(b"question")
    peer.hear_greeting()
    peer.hear_until(HeadersFrame)
    peer.say(WindowUpdateFrame(1, 8))
    assert peer.hear().data == b"question"
    peer.say(*answer(1))
    assert peer.result().is_whole


def test_a_peer_may_answer_before_it_has_heard_all(peer):
    """The rest is not sent, and the connection goes on."""
    peer.ask(b"x" * 100_000)
    peer.hear_greeting()
    peer.say(GREETING, *answer(1))
    assert peer.hear_until(RstStreamFrame).error_code == 8
    assert peer.result().is_whole
    peer.say(RstStreamFrame(1, 0))
    assert peer.connection.is_open()


def test_a_peer_may_say_that_it_wants_no_more(peer):
    """Together with its answer, as RFC 9113, 8.1 has it."""
    peer.ask(b"x" * 100_000)
    peer.hear_greeting()
    peer.hear_all_there_is_room_for()
    peer.say(GREETING, *answer(1), RstStreamFrame(1, 0))
    assert peer.result().is_whole
    assert peer.connection.is_open()


def test_a_peer_may_answer_and_hang_up(peer):
    """What it said before counts."""
    peer.say(GREETING, *answer(1, b"word"))
    peer.hang_up()
    peer.ask(b"x" * 100_000)
    assert bytes(peer.result().data) == b"word"
    assert not peer.connection.is_open()


def test_long_headers_go_and_come_in_pieces(peer):
    """Each way."""
    peer.ask(headers=[("name", "v" * 40_000)])
    peer.hear_greeting()
    pieces = [peer.hear() for _ in range(3)]
    assert [type(each) for each in pieces] == [HeadersFrame, ContinuationFrame, ContinuationFrame]
    assert [each.flags == {"END_HEADERS"} for each in pieces] == [False, False, True]
    block = Encoder().encode([("name", "w" * 20_000)], huffman=False)
    peer.say(
        GREETING,
        HeadersFrame(1, block[:16_000], flags=["END_STREAM"]),
        ContinuationFrame(1, block[16_000:], flags=["END_HEADERS"]),
    )
    assert peer.result().headers == {"name": "w" * 20_000}


def test_a_peer_that_keeps_no_table_of_headers_is_heeded(peer):
    """Once it has said so, a request says so first: RFC 7541, 4.2."""
    peer.say(SettingsFrame(settings={SettingsFrame.HEADER_TABLE_SIZE: 0}))
    assert peer.connection.is_open()
    peer.ask()
    peer.hear_greeting()
    decoder = Decoder()
    decoder.max_allowed_table_size = 0
    assert decoder.decode(peer.hear_until(HeadersFrame).data) == HEADERS


def test_pings_are_answered_and_the_unknown_is_not(peer):
    """Also what came between two requests, with the next one."""
    peer.say(GREETING, PingFrame(opaque_data=b"12345678"), ExtensionFrame(99, 0), ACK)
    assert peer.connection.is_open()
    peer.ask()
    peer.hear_greeting()
    assert peer.hear().flags == {"ACK"}
    assert peer.hear().opaque_data == b"12345678"
    peer.say(PingFrame(opaque_data=b"87654321", flags=["ACK"]), *answer(1))
    assert peer.result().is_whole


def test_a_late_word_on_an_earlier_request_is_no_answer(peer):
    """It was on its way when the request was given up."""
    peer.ask(b"x" * 100_000)
    peer.hear_greeting()
    peer.hear_all_there_is_room_for()
    peer.say(GREETING, *answer(1))
    assert peer.result().is_whole
    peer.ask()
    assert peer.hear_until(HeadersFrame).stream_id == 3
    peer.say(WindowUpdateFrame(1, 9), DataFrame(1, b"not yours"), RstStreamFrame(1, 2), *answer(3, b"word"))
    assert bytes(peer.result().data) == b"word"


def test_what_is_not_pretty_is_understood(peer):
    """A message may end with a space."""
    peer.ask()
    peer.say(GREETING, headers(1, ("grpc-message", " no "), flags=("END_HEADERS", "END_STREAM")))
    assert peer.result().headers == {"grpc-message": " no "}


def test_a_farewell_lets_the_last_request_end(peer):
    """And no other begin."""
    peer.ask()
    peer.hear_greeting()
    peer.say(GREETING, GoAwayFrame(last_stream_id=2**31 - 1), PingFrame(opaque_data=b"12345678"))
    assert peer.hear_until(PingFrame).flags == {"ACK"}
    peer.say(GoAwayFrame(last_stream_id=1), *answer(1))
    assert peer.result().is_whole
    assert not peer.connection.is_open()


@pytest.mark.parametrize("last_word", [GoAwayFrame(last_stream_id=0), RstStreamFrame(1, 7)])
def test_a_request_that_nobody_has_looked_at_may_be_sent_again(last_word, peer):
    """The peer says so by what it says last."""
    peer.ask()
    peer.say(GREETING, last_word)
    assert isinstance(peer.result(), Cut)


def test_a_reset_has_a_code(peer):
    """That means something to whoever asked."""
    peer.ask()
    peer.say(GREETING, RstStreamFrame(1, 2))
    outcome = peer.result()
    assert isinstance(outcome, Reset)
    assert outcome.code == 2


def test_a_peer_that_hangs_up_has_cut_the_connection(peer):
    """At any moment."""
    peer.ask()
    peer.hear_greeting()
    peer.hang_up()
    assert isinstance(peer.result(), Cut)


@pytest.mark.parametrize("patience", [0, 0.1])
def test_a_deadline_holds_whatever_comes(patience, peer):
    """Also where something always does."""
    peer.ask(patience=patience)
    peer.say(GREETING, *[PingFrame(opaque_data=b"12345678")] * 100)
    assert isinstance(peer.result(), TimeoutError)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([headers(1)], "what listens there speaks no HTTP/2, and so no gRPC"),
        ([GREETING, DataFrame(1, b"x" * 16_385)], "a frame is longer than it may be"),
        (
            [GREETING, headers(1, (":status", "200")), *[DataFrame(1, b"x" * 16_384)] * 5],
            "the answer is longer than any collector's",
        ),
        (
            [GREETING, HeadersFrame(1, b"x"), *[ContinuationFrame(1, b"x" * 16_000)] * 64],
            "it does not keep to HTTP/2: Too many continuation frames received.",
        ),
        (
            [GREETING, PushPromiseFrame(1, 2, b"", flags=["END_HEADERS"])],
            "it does not keep to HTTP/2: Received pushed stream",
        ),
    ],
)
def test_a_peer_that_breaks_the_rules_is_named(frames, words, peer):
    """It gets no more memory than a collector needs."""
    peer.ask()
    peer.say(*frames)
    outcome = peer.result()
    assert isinstance(outcome, Broken)
    assert outcome.strerror == words


class Wire:
    """A wire that needs no other side."""

    def settimeout(self, _seconds):
        pass

    def close(self):
        pass


class Talker(Wire):
    """Something comes all the time."""

    def recv(self, _size):
        return (GREETING.serialize() + PingFrame(opaque_data=b"12345678").serialize()) * 1_000


def test_a_peer_that_talks_all_the_time_is_left():
    """Between two requests there is little to say."""
    assert not Connection(Talker()).is_open()


class Answering(Wire):
    """Each request is answered at once."""

    def __init__(self):
        self._stream, self._said = -1, GREETING.serialize()

    def sendall(self, _request):
        self._stream += 2

    def recv(self, _size):
        said, self._said = self._said, b""
        return said + b"".join(frame.serialize() for frame in answer(self._stream, b"word"))


def test_what_is_over_is_forgotten():
    """A connection holds no more after a thousand requests than after some."""
    connection = Connection(Answering())

    def ask(times):
        for _ in range(times):
            assert connection.ask(HEADERS, b"x", time.monotonic() + SOON).is_whole
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    some = ask(100)
    held = ask(1_000) - some
    tracemalloc.stop()
    assert held < 10_000
