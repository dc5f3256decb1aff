"""Views for instruments that tercet does not declare: contrib's, libraries' and the application's own.

The SDK's views can only list the attributes that may stay, which nobody knows of other people's instruments.
"""

from collections.abc import Collection, Iterator
from typing import Any

from opentelemetry.sdk.metrics.view import View

#: What has a value for each client or each request, under its names of today and of before.
UNBOUNDED = frozenset(
    {
        "client.address",
        "client.port",
        "client.socket.address",
        "client.socket.port",
        "http.client_ip",
        "http.target",
        "http.url",
        "http.user_agent",
        "net.peer.port",
        "net.sock.peer.addr",
        "net.sock.peer.name",
        "net.sock.peer.port",
        "network.local.address",
        "network.local.port",
        "network.peer.address",
        "network.peer.port",
        "url.full",
        "url.path",
        "url.query",
        "user_agent.original",
    }
)
#: What a server is called by its clients: they may send any Host header that they like.
HOSTS = frozenset(
    {
        "http.host",
        "http.server_name",
        "net.host.name",
        "net.host.port",
        "net.peer.ip",
        "net.peer.name",
        "server.address",
        "server.port",
        "url.domain",
    }
)
_OF_SERVERS = ("http.server.", "rpc.server.")


def build_views_of_others(declared: Collection[str], limit: int) -> Iterator[View]:
    """Make views that drop hosts and raw paths, and bound the series.

    Args:
        declared: Names of the metrics that have a view of their own.
        limit: How many series each metric may have.
    """
    yield _Others(declared, limit, of_servers=True)
    yield _Others(declared, limit, of_servers=False)


class AllBut(set[str]):
    """The set of everything but a few.

    >>> "http.route" in AllBut({"url.path"}), "url.path" in AllBut({"url.path"})
    (True, False)
    """

    def __contains__(self, key: object) -> bool:
        return not super().__contains__(key)


class _Others(View):
    """A view of the instruments of servers, or of all others, that no declared metric has a view for."""

    def __init__(self, declared: Collection[str], limit: int, *, of_servers: bool) -> None:
        keys = AllBut(UNBOUNDED | HOSTS if of_servers else UNBOUNDED)
        super().__init__(instrument_name="*", attribute_keys=keys, aggregation_cardinality_limit=limit)
        self._declared, self._of_servers = frozenset(declared), of_servers

    def _match(self, instrument: Any) -> bool:
        name: str = instrument.name
        return name not in self._declared and name.startswith(_OF_SERVERS) is self._of_servers
