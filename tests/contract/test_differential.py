"""The same requests against tercet's edges and contrib's: every difference is listed, with its reason."""

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PROBE = Path(__file__).parent / "differential_probe.py"
ABSENT = "absent"
ANY = "any value"


class Difference(NamedTuple):
    """What is said of a request, by whom; in the table, request and fact are patterns.

    Attributes:
        request: A request of the probe.
        fact: What is said of: a part of its span, or of a point of a metric.
        ours: What tercet says.
        theirs: What contrib says.
    """

    request: str
    fact: str
    ours: Any
    theirs: Any

    def covers(self, other: "Difference") -> bool:
        """Say whether a row of the table lists a difference."""
        return (
            fnmatchcase(other.request, self.request)
            and fnmatchcase(other.fact, self.fact)
            and self.ours in (other.ours, ANY)
            and self.theirs in (other.theirs, ANY)
        )


SERVER = "http.server.request.duration"
CLIENT = "http.client.request.duration"
TEMPLATE = "/tenants/{tenant}/orders/{order}"
ONE_OWNER = "one owner per request: contrib gives a mounted application a second span and a second point"
WHOLE_ROUTE = "the route of a mounted application is the whole template, on the span and on the metric"
BY_NAME = "a crash is counted by the exception's name, so that a RED table tells one crash from another"
MEASURED = (
    "contrib leaves failed calls out of the metric, so that its error rate is 0 when the callee is down"
)
PROTOCOL = "the protocol version doubles series, and says nothing of rate, errors or duration"
SIZES = "body sizes are no RED metrics; contrib's response size is left over from earlier responses, too"

# fmt: off
LISTED = [
    (Difference("*", "span correlation_id", "some", ABSENT), "one id that a person can search by"),
    (Difference("*", f"{SERVER} network.protocol.version", ABSENT, "1.1"), PROTOCOL),
    (Difference("outgoing*", f"{CLIENT} network.protocol.version", ABSENT, "1.1"), PROTOCOL),
    (Difference("*", "http.server.response.body.size *", ABSENT, ANY), SIZES),
    (Difference("*", "http.server.request.body.size *", ABSENT, ANY), SIZES),
    (Difference("*", "span server.address", "shop.example", "10.0.0.1:8443"),
     "the conventions want the host that was asked, without the port, which is server.port"),
    (Difference("*", "span client.port", ABSENT, 4711), "the caller's port is opt-in, for it finds nothing"),
    (Difference("query with a secret", "span url.query", "page=2&token=REDACTED", "page=2&token=abc"),
     "secrets stay out of telemetry"),
    (Difference("outgoing with a secret", "span url.full", "http://REDACTED:REDACTED@/200?token=REDACTED",
                "http://REDACTED:REDACTED@/200?token=abc"), "secrets stay out of telemetry"),
    (Difference("crash", f"{SERVER} error.type", "LookupError", "500"), BY_NAME),
    (Difference("crash", "span error.type", "LookupError", "500"), BY_NAME),
    (Difference("crash", "span status description", "LookupError: no such order", None), BY_NAME),
    (Difference("mounted", "spans", 1, 2), ONE_OWNER),
    (Difference("mounted", "span kind", "SERVER", "INTERNAL"), ONE_OWNER),
    (Difference("mounted", "span parent", None, "some"), ONE_OWNER),
    (Difference("mounted", f"{SERVER} count", 1, 2), ONE_OWNER),
    (Difference("mounted", "span name", f"GET {TEMPLATE}", "GET /orders/{order}"), WHOLE_ROUTE),
    (Difference("mounted", "span http.route", TEMPLATE, "/orders/{order}"), WHOLE_ROUTE),
    (Difference("mounted", f"{SERVER} http.route", TEMPLATE, "/tenants/{tenant}"), WHOLE_ROUTE),
    (Difference("websocket", "span name", "WS /rooms/{room}", "GET /rooms/{room}"),
     "a websocket is told from a request at a glance, as in FastAPI's own telemetry"),
    (Difference("websocket", "span http.response.status_code", 101, ABSENT), "the answer to the handshake"),
    (Difference("outgoing*", "span network.peer.address", ABSENT, "127.0.0.1"),
     "contrib repeats the host of the URL, which is server.address; only the transport knows the peer"),
    (Difference("outgoing*", "span network.peer.port", ABSENT, "some"), "likewise"),
    (Difference("outgoing refused", "span error.type", "httpx.ConnectError", "ConnectError"),
     "the conventions want the full name"),
    (Difference("outgoing refused", f"{CLIENT} *", ANY, ABSENT), MEASURED),
]
# fmt: on


def observed(edges: str) -> dict[str, dict[str, Any]]:
    """Run the requests in a process of their own, and return what was said of each."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TERCET_"))},
        "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    }
    command = [sys.executable, str(PROBE), edges]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return said


@pytest.fixture(scope="module")
def said() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    return observed("tercet"), observed("contrib")


@pytest.fixture(scope="module")
def differences(said) -> list[Difference]:
    ours, theirs = said
    assert list(ours) == list(theirs)
    return [
        Difference(request, fact, ours[request].get(fact, ABSENT), theirs[request].get(fact, ABSENT))
        for request in ours
        for fact in sorted({*ours[request], *theirs[request]})
        if ours[request].get(fact, ABSENT) != theirs[request].get(fact, ABSENT)
    ]


def test_both_say_something_of_every_request(said):
    """A probe that observes nothing would find no difference."""
    for facts in said:
        assert [request for request in facts if "spans" not in facts[request]] == ["at rest"]


def test_every_difference_is_listed(differences):
    """Whoever changes an edge says here what, and why."""
    assert [each for each in differences if not any(row.covers(each) for row, _ in LISTED)] == []


@pytest.mark.parametrize("row", [row for row, _ in LISTED], ids=lambda row: f"{row.request}: {row.fact}")
def test_every_listed_difference_still_occurs(differences, row):
    """A release of contrib may mend what is listed; then it goes."""
    assert any(row.covers(each) for each in differences)
