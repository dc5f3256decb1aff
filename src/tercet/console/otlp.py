"""OTLP over HTTP: bytes in, protobuf messages out, within limits.

Encodings, status codes and JSON's hex ids are those of https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import base64
import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.json_format import MessageToJson, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message

from tercet.errors import TercetError

MAX_BODY_BYTES = 16 * 2**20
MAX_INFLATED_BYTES = 64 * 2**20

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_HEX_IDS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})

M = TypeVar("M", bound=Message)


class RefusedError(TercetError):
    """Say why a request cannot be served, and with which HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def decode(kind: type[M], body: bytes, content_type: str, content_encoding: str = "") -> M:
    """Decode one export request.

    Args:
        kind: The message class to decode into.
        body: The request body as it came off the wire.
        content_type: The `Content-Type` header; parameters after `;` are ignored.
        content_encoding: The `Content-Encoding` header: empty, `identity`, `gzip` or `deflate`.

    Raises:
        RefusedError: 413 above a limit, 415 for another type or encoding, 400 for a body that cannot be read.
    """
    parse = _parser(content_type)
    return parse(kind, inflate(body, content_encoding))


def encode(message: Message, content_type: str) -> bytes:
    """Encode a reply in the encoding that its request had."""
    if media_type(content_type) == JSON:
        return MessageToJson(message, indent=None).encode()
    return message.SerializeToString()


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def inflate(body: bytes, encoding: str) -> bytes:
    """Undo a content encoding, never producing more than the limit.

    Raises:
        RefusedError: 413 above a limit, 415 for an unknown encoding, 400 for a broken stream.
    """
    if len(body) > MAX_BODY_BYTES:
        raise RefusedError(
            413, f"body must be at most {MAX_BODY_BYTES} bytes, got {len(body)}. Send smaller batches."
        )
    try:
        inflated = _inflater(encoding)(body)
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(400, f"body must be valid {encoding}: {error}.") from error
    if len(inflated) > MAX_INFLATED_BYTES:
        raise RefusedError(
            413, f"body must inflate to at most {MAX_INFLATED_BYTES} bytes. Send smaller batches."
        )
    return inflated


def _inflater(encoding: str) -> Callable[[bytes], bytes]:
    inflaters: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "identity": bytes,
        "gzip": _gunzip,
        "deflate": _undeflate,
    }
    try:
        return inflaters[encoding.strip().lower()]
    except KeyError:
        raise RefusedError(415, f"Content-Encoding must be gzip or deflate, got {encoding!r}.") from None


def _gunzip(body: bytes) -> bytes:
    return gzip.GzipFile(fileobj=io.BytesIO(body)).read(MAX_INFLATED_BYTES + 1)


def _undeflate(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    inflated = stream.decompress(body, MAX_INFLATED_BYTES + 1)
    if not stream.eof and len(inflated) <= MAX_INFLATED_BYTES:
        raise EOFError("the stream ends early")
    return inflated


def _parser(content_type: str) -> Callable[[type[M], bytes], M]:
    media = media_type(content_type)
    if media == PROTOBUF:
        return _parse_protobuf
    if media == JSON:
        return _parse_json
    raise RefusedError(415, f"Content-Type must be {PROTOBUF} or {JSON}, got {content_type!r}.")


def _parse_protobuf(kind: type[M], body: bytes) -> M:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise RefusedError(400, f"body must be a valid {kind.__name__}: {error}.") from error


def _parse_json(kind: type[M], body: bytes) -> M:
    try:
        document = json.loads(body, object_hook=_ids_to_base64)
        if not isinstance(document, dict):
            raise ParseError("it is no object")
        return ParseDict(document, kind(), ignore_unknown_fields=True)
    # RecursionError: deeply nested JSON. AttributeError, TypeError: a value where an object or text belongs.
    except (ParseError, ValueError, RecursionError, AttributeError, TypeError) as error:
        raise RefusedError(400, f"body must be a valid {kind.__name__} in JSON: {error}.") from error


def _ids_to_base64(fields: dict[str, Any]) -> dict[str, Any]:
    """Turn OTLP's hex ids into the base64 that protobuf's own JSON reader expects of bytes."""
    for name in _HEX_IDS & fields.keys():
        fields[name] = base64.b64encode(bytes.fromhex(fields[name])).decode()
    return fields
