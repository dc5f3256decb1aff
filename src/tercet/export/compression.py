"""How requests are compressed; each says so by its first bytes, also years later on a disk."""

import gzip
import zlib
from collections.abc import Callable, Mapping

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    # Level 1: telemetry repeats itself, and higher levels cost three times the time for a tenth of the bytes.
    "gzip": lambda body: gzip.compress(body, 1),
    "deflate": lambda body: zlib.compress(body, 1),
    "none": lambda body: body,
}
# A request that is not compressed starts with 0x0a, the tag of its first field.
_GZIP = b"\x1f\x8b"
_DEFLATE = b"\x78"


def encoding(packed: bytes) -> str:
    """Name the compression of a request, as `Content-Encoding` and the settings do.

    >>> encoding(COMPRESS["deflate"](b"..."))
    'deflate'
    """
    if packed.startswith(_GZIP):
        return "gzip"
    return "deflate" if packed.startswith(_DEFLATE) else "none"


def unpack(packed: bytes) -> bytes:
    """Decompress a request.

    Raises:
        OSError: It is not what its first bytes say.
        EOFError: Its end is missing.
        zlib.error: It is damaged.
    """
    kind = encoding(packed)
    if kind == "gzip":
        return gzip.decompress(packed)
    return zlib.decompress(packed) if kind == "deflate" else packed
