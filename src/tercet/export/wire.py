"""The protobuf encoding: tags, varints and lengths, and a bounded memory of what was made.

https://protobuf.dev/programming-guides/encoding/ is the source. A tag stands as its bytes, the varint of
`field << 3 | wire type`. A field that holds its default decodes as one that was left out, so the rare
zero costs no branch.
"""

from collections.abc import Callable
from typing import TypeVar

from tercet.fast.stand_in import has_twin

#: Bytes and keys above this length are made anew each time, so that no cache grows large by few entries.
LONGEST_KEPT = 160

_K = TypeVar("_K")
_CONTINUED = 0x80


class Memo(dict[_K, bytes]):
    """Remember what a pure function made, up to a number of entries.

    A full memo starts again empty: to rebuild what is in use costs less than to keep an order of use.
    """

    __slots__ = ("_build", "_entries")

    def __init__(self, build: Callable[[_K], bytes], entries: int) -> None:
        super().__init__()
        self._build = build
        self._entries = entries

    def __missing__(self, key: _K) -> bytes:
        made = self._build(key)
        if len(made) <= LONGEST_KEPT:
            if len(self) >= self._entries:
                self.clear()
            self[key] = made
        return made


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number >= _CONTINUED:
        groups.append(number & (_CONTINUED - 1) | _CONTINUED)
        number >>= 7
    groups.append(number)
    return bytes(groups)


#: Numbers from 0 as varints; a negative one raises ValueError.
varints: Memo[int] = Memo(_varint, 4096)


def delimited(tag: bytes, body: bytes) -> bytes:
    r"""Put a tag and a length before a message, a text or bytes.

    >>> delimited(b"\x0a", b"tercet")
    b'\n\x06tercet'
    """
    return tag + varints[len(body)] + body


@has_twin()
def delimited_each(tag: bytes, bodies: list[bytes]) -> bytes:
    r"""Put a tag and a length before each of many, and join them.

    >>> delimited_each(b"\x0a", [b"ter", b"cet"])
    b'\n\x03ter\n\x03cet'
    """
    parts: list[bytes] = []
    for body in bodies:
        parts += (tag, varints[len(body)], body)
    return b"".join(parts)


def text_field(tag: bytes, text: str | None) -> bytes:
    r"""Encode a text, or nothing for an empty one; a lone surrogate, which UTF-8 cannot hold, becomes `?`.

    >>> text_field(b"\x0a", "a\ud800b")
    b'\n\x03a?b'
    """
    if not text:
        return b""
    try:
        return delimited(tag, text.encode())
    except UnicodeEncodeError:
        return delimited(tag, text.encode(errors="replace"))
