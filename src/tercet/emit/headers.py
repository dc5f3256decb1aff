"""The raw headers of an ASGI request, as what propagators read."""

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, TextMapPropagator, default_getter

from tercet.fast.stand_in import has_twin

#: By name; a list of values where a name came more than once.
HeaderMap = dict[bytes, bytes | list[bytes]]


@has_twin()
def by_name(headers: Iterable[tuple[bytes, bytes]]) -> HeaderMap:
    """Index raw headers once, so that each look-up is one dictionary access.

    >>> by_name([(b"host", b"shop"), (b"baggage", b"a=1"), (b"baggage", b"b=2")])
    {b'host': b'shop', b'baggage': [b'a=1', b'b=2']}
    """
    headers = headers if isinstance(headers, list) else list(headers)
    index: HeaderMap = dict(headers)
    # Servers send names in lower case, as ASGI wants it; not every test client does.
    is_plain = len(index) == len(headers) and b"".join(index).islower()
    return index if is_plain else _repeated(headers)


def _repeated(headers: list[tuple[bytes, bytes]]) -> HeaderMap:
    lists: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lists.setdefault(name.lower(), []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in lists.items()}


def first(headers: HeaderMap, name: bytes) -> str | None:
    """Read one header, the first where it came more than once; None where it did not."""
    value = headers.get(name)
    if value is None:
        return None
    return (value[0] if isinstance(value, list) else value).decode("latin-1")


class _Names(dict[str, bytes]):
    """The names that propagators ask for, always the same few, as they stand on the wire."""

    def __missing__(self, name: str) -> bytes:
        self[name] = raw = name.lower().encode("latin-1")
        return raw


class HeaderGetter(Getter[HeaderMap]):
    """Read the few headers that propagators ask for, and decode no others."""

    def __init__(self) -> None:
        self._names = _Names()

    def get(self, carrier: HeaderMap, key: str) -> list[str] | None:
        """Read all values of a header; None where it is absent."""
        value: Any = carrier.get(self._names[key])
        if value is None:
            return None
        return (
            [each.decode("latin-1") for each in value]
            if isinstance(value, list)
            else [value.decode("latin-1")]
        )

    def keys(self, carrier: HeaderMap) -> list[str]:
        """List the names."""
        return [name.decode("latin-1") for name in carrier]


class Propagators(CompositePropagator):
    """Several propagators as one, of which only those are asked to read whose headers have come.

    Args:
        reading: Each propagator, and the headers that it reads; none where it may read any.
    """

    def __init__(self, reading: Sequence[tuple[TextMapPropagator, frozenset[str]]]) -> None:
        super().__init__([propagator for propagator, _ in reading])
        self._may_read_any = not all(names for _, names in reading)
        self._by_header = [
            (name.lower().encode(), propagator) for propagator, names in reading for name in names
        ]

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Read what the propagators find."""
        if not isinstance(getter, HeaderGetter) or self._may_read_any:
            return super().extract(carrier, context, getter)
        headers: Any = carrier
        found, asked = Context() if context is None else context, None
        for name, propagator in self._by_header:
            # One that reads several headers is asked once.
            if name in headers and propagator is not asked:
                found, asked = propagator.extract(headers, found, getter), propagator
        return found
