"""Attributes and values of any type as OTLP protobuf bytes.

The field numbers are from opentelemetry/proto/common/v1/common.proto.
"""

import logging
from collections.abc import Mapping, Sequence
from operator import index
from struct import Struct
from typing import Any

from tercet.export.wire import LONGEST_KEPT, Memo, delimited, varints
from tercet.fast.stand_in import has_twin

_logger = logging.getLogger(__name__)

_UINT64_MASK = 2**64 - 1
_INT64_LIMIT = 2**63
# What may nest within a value, so that the request stays below the 100 levels at which decoders give up.
_NESTED_MESSAGES = 94
_MESSAGES_A_LIST = 2
_MESSAGES_A_MAP = 3

#: Types of values that need no cleaning.
SIMPLE = frozenset({str, int, float, bool})
_TEXTS = frozenset({str})
_TRUE = b"\x10\x01"
_FALSE = b"\x10\x00"
_DOUBLE_TAG = 0x21
_pack_double = Struct("<Bd").pack


class _Heads(dict[int, bytes]):
    """What stands before a value in a `KeyValue` with one key: the same for every value of one size.

    Looked up by the size of a text, or by `~size` of any other value. Whole pairs would be the usual thing to
    cache; heads are found as fast, serve values that never repeat as well, and keep no value in memory.
    """

    __slots__ = ("_key", "_keys")

    def __init__(self, key: str, keys: "_Keys") -> None:
        super().__init__()
        self._key = delimited(b"\x0a", str.encode(key)) + b"\x12"
        self._keys = keys

    def __missing__(self, size: int) -> bytes:
        text_head = b"\x0a" + varints[size] if size >= 0 else b""
        value_size = len(text_head) + size if size >= 0 else ~size
        before_value = self._key + varints[value_size] + text_head
        pair_size = len(before_value) - len(text_head) + value_size
        head = varints[pair_size] + before_value
        if len(head) <= LONGEST_KEPT:
            self._keys.count_head()
            self[size] = head
        return head


class _Keys(dict[str, _Heads]):
    """The heads of every key; at most so many, then it starts again empty.

    The bound is 4 MB with keys of common length.
    """

    _MOST_HEADS = 16_384

    def __init__(self) -> None:
        super().__init__()
        self._heads = 0

    def __missing__(self, key: str) -> _Heads:
        heads = _Heads(key, self)
        if len(key) <= LONGEST_KEPT:
            self.count_head()
            self[key] = heads
        return heads

    def count_head(self) -> None:
        self._heads += 1
        if self._heads > self._MOST_HEADS:
            self.clear()
            self._heads = 0


def _integer_value(number: int) -> bytes:
    if not -_INT64_LIMIT <= number < _INT64_LIMIT:
        raise ValueError(f"an integer must fit into 64 bits, got {number!r}. Write it as text.")
    return b"\x18" + varints[number & _UINT64_MASK]


_keys = _Keys()
_integers: Memo[int] = Memo(_integer_value, 4096)


def attributes_field(tag: bytes, attributes: Any) -> bytes:
    """Encode attributes as `KeyValue`s, each behind the tag.

    One that cannot be encoded is told to the log and left out, as upstream does.

    Args:
        tag: Of the field that holds them.
        attributes: A mapping, or None.

    Returns:
        The fields; empty when there are no attributes.
    """
    if type(attributes) is not dict:
        attributes = own_copy(attributes)
    pairs = [b""]
    for key, value in attributes.items():
        try:
            # Texts and integers are nearly all there is: spelled out here, they take half the time of a call.
            if type(value) is str:
                text = value.encode()
                pairs.append(_keys[key][len(text)] + text)
            else:
                encoded = _integers[value] if type(value) is int else encode_value(value)
                pairs.append(_keys[key][~len(encoded)] + encoded)
        except Exception as error:
            _logger.exception("Failed to encode key %s: %s", key, error)
    return tag.join(pairs)


def own_copy(attributes: Any) -> dict[str, Any]:
    """Copy attributes into a dictionary; the mappings of the SDK copy themselves at a sixth of the time.

    >>> own_copy(None), own_copy({"status": 200})
    ({}, {'status': 200})
    """
    copy = getattr(attributes, "copy", None)
    copied = copy() if copy is not None else attributes or ()
    return copied if type(copied) is dict else dict(copied)


@has_twin()
def is_simple(attributes: Mapping[str, Any]) -> bool:
    """Say whether attributes need none of the SDK's cleaning: texts and numbers, under names.

    >>> is_simple({"status": 200, "ok": True}), is_simple({"ids": [1]}), is_simple({"": 1})
    (True, False, False)
    """
    return (
        SIMPLE.issuperset(map(type, attributes.values()))
        and _TEXTS.issuperset(map(type, attributes))
        and "" not in attributes
    )


def encode_value(value: Any, room: int = _NESTED_MESSAGES) -> bytes:
    r"""Encode the body of an `AnyValue`.

    >>> encode_value([True, "a"])
    b'*\t\n\x02\x10\x01\n\x03\n\x01a'

    Args:
        value: What attributes and log bodies hold; None gives an empty body.
        room: How many messages may nest within.

    Raises:
        ValueError: An integer does not fit into 64 bits, a text not into UTF-8, or the nesting is too deep.
        TypeError: OTLP has no such type.
    """
    kind = type(value)
    if kind is str:
        return delimited(b"\x0a", value.encode())
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int:
        return _integers[value]
    if kind is float:
        return _pack_double(_DOUBLE_TAG, value)
    if value is None:
        return b""
    return _encode_other(value, room)


def _encode_other(value: Any, room: int) -> bytes:
    if isinstance(value, str):
        return delimited(b"\x0a", str.encode(value))
    if isinstance(value, int):
        return _integers[index(value)]
    if isinstance(value, float):
        return _pack_double(_DOUBLE_TAG, value)
    if isinstance(value, bytes):
        return delimited(b"\x3a", value)
    if isinstance(value, Sequence):
        return _encode_list(value, room - _MESSAGES_A_LIST)
    if isinstance(value, Mapping):
        return _encode_map(value, room - _MESSAGES_A_MAP)
    raise TypeError(
        f"a value must be a text, a number, bytes, a sequence or a mapping, got {value!r}. Write it as text."
    )


def _encode_list(values: Sequence[Any], room: int) -> bytes:
    _require(room)
    return delimited(b"\x2a", b"".join([delimited(b"\x0a", encode_value(value, room)) for value in values]))


def _encode_map(values: Mapping[Any, Any], room: int) -> bytes:
    _require(room)
    pairs = [b""]
    for key, value in values.items():
        encoded = encode_value(value, room)
        pairs.append(_keys[str(key)][~len(encoded)] + encoded)
    return delimited(b"\x32", b"\x0a".join(pairs))


def _require(room: int) -> None:
    if room < 0:
        raise ValueError("a value must nest at most 47 lists or 31 mappings. Write what is deeper as text.")
