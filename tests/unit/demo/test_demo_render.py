"""Evidence as text."""

import re

import pytest
from order_evidence import evidence, log, orders, red, use

from tercet.demo.render import (
    ansi,
    render_evidence,
    render_logs,
    render_outcome,
    render_progress,
    render_red,
    render_sent,
    render_undelivered,
    render_use,
    render_waterfall,
)


def test_a_trace_is_the_documents_waterfall():
    """Tree, offsets, durations, tags, bars and axis, as the document draws them."""
    assert render_waterfall(evidence()["trace"], width=98) == (
        "Trace 0af7651916cd43dd8448eb211c80319c\n"
        "correlation id c1\n"
        "\n"
        "gateway                   0.0   150.0 ms ├───────────────────────────────────────────────────────┤\n"
        "├─ auth-service           5.0    20.0 ms  ├──────┤\n"
        "│      user_id=usr_123\n"
        "├─ order-service         30.0   100.0 ms            ├────────────────────────────────────┤\n"
        "│  ├─ database           35.0    45.0 ms              ├───────────────┤\n"
        "│  │      query=SELECT...\n"
        "│  └─ payment-service    85.0    40.0 ms                                 ├─────────────┤\n"
        "│         amount=150.0\n"
        "└─ notification         135.0    10.0 ms                                                    ├──┤\n"
        "       type=email\n"
        "                                         0ms      25ms      50ms     75ms      100ms    125ms\n"
        "Total: 150.0 ms, 6 spans"
    )


@pytest.mark.parametrize("width", [1, 60, 80, 100, 200])
def test_no_line_of_a_waterfall_is_wider_than_the_terminal(width):
    """Down to a least width, whatever the names and tags."""
    trace = evidence()["trace"]
    trace["spans"][1]["attributes"]["query"] = "SELECT " * 100
    trace["spans"][1]["service"] = "a-service-with-a-very-long-name"

    widest = max(len(line) for line in render_waterfall(trace, width).splitlines())

    assert widest <= max(width, 60)


@pytest.mark.parametrize("duration", [0.0, 0.4, 3.0, 99_999.0])
def test_an_axis_fits_any_duration(duration):
    """A trace of nothing and one of minutes have a picture too."""
    trace = evidence()["trace"]
    trace["duration_ms"] = duration

    assert "0ms" in render_waterfall(trace, 80)


def test_red_is_a_table_of_services():
    """Rate, error percentage and three percentiles, a service a line."""
    rows = red(requests=200, errors=1)[:1]

    assert render_red(rows) == (
        "RED                requests       rate   errors        p50        p95        p99\n"
        "gateway                 200    150.0/s     0.5%    45.0 ms   120.0 ms   350.0 ms"
    )


def test_what_was_not_measured_is_a_dash():
    """No number is invented."""
    (row,) = red()[:1]
    row |= {"rate": None, "p50_ms": None, "p95_ms": None, "p99_ms": None}

    assert render_red([row]).splitlines()[1].split() == ["gateway", "20", "-", "0.0%", "-", "-", "-"]


def test_a_log_line_shows_time_level_service_message_and_fields():
    """The ids that all lines share are not repeated."""
    assert render_logs([log("orders", "order_created", order_id=7)]).splitlines() == [
        "Logs of this correlation id",
        "00:00:00.123 INFO    orders           order_created      order_id=7",
    ]


def test_foreign_text_cannot_command_the_terminal():
    """Control characters of telemetry are shown, never sent."""
    hostile = log("orders", "\x1b[2J\r\n\x07", note="\x9b31m")

    assert re.findall(r"[^\x20-\x7e\n]", render_logs([hostile])) == []


def test_colour_changes_no_text():
    """Without its colours the coloured picture is the plain one."""
    coloured = render_evidence(evidence(), 80, ansi)

    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_evidence(evidence(), 80)


def test_errors_are_red():
    """A span that failed and a service that did stand out."""
    trace = evidence()["trace"]
    trace["spans"][5]["status"] = "error"

    pictures = [
        render_waterfall(trace, 80, ansi),
        render_red(red(errors=1), ansi),
        render_logs([log("orders", "request_failed", level="ERROR")], ansi),
    ]

    assert ["\x1b[31m" in picture for picture in pictures] == [True, True, True]


@pytest.mark.parametrize(("sent", "orders"), [(1, "1 order "), (20, "20 orders ")])
def test_an_outside_collector_is_where_to_look(sent, orders):
    """The line names how many, where and which trace."""
    assert render_sent("abc123", sent, "http://c:4318") == (
        f"{orders}sent to http://c:4318. Look there for trace abc123."
    )


def test_progress_is_a_bar():
    """The bar is as full as the work is done."""
    assert render_progress(5, 20, columns=8) == "[##......] 5/20 orders"


def test_the_outcome_names_what_is_broken_and_what_it_did():
    """A line for each fault, and one for the orders."""
    outcome = orders(20, pending=2) | {"good": 10, "bad": 8, "slow": 9}

    assert render_outcome(outcome, ["payment-slow"]) == (
        "Fault payment-slow: the payment provider takes 3 seconds to answer\n"
        "Orders  20 sent, 10 good, 8 bad, 9 slow, 2 on the way (slow: more than 500 ms)"
    )


def test_a_call_in_vain_says_whom_it_called_and_why():
    """There is no span of the other side to say it."""
    trace = evidence()["trace"]
    trace["spans"][5] |= {"kind": "client", "name": "POST"}
    trace["spans"][5]["attributes"] = {"error.type": "httpx.ConnectError", "url.full": "http://x/notify"}

    assert "error.type=httpx.ConnectError url.full=http://x/notify" in render_waterfall(trace, 98)


def test_memory_is_shown_where_it_is_the_fault():
    """And left out where nobody asks."""
    told = [render_evidence(evidence(*faults), 80) for faults in ((), ("memory-pressure",))]

    assert ["USE" in text for text in told] == [False, True]
    assert render_use([use()[0], use()[1] | {"memory_bytes": None}]) == (
        "USE                  memory\ngateway              70 MiB\nauth-service              -"
    )


def test_a_traceback_does_not_bury_the_other_lines():
    """The log has it; the picture has what it says."""
    line = log("orders", "failed", **{"exception.message": "locked", "exception.stacktrace": "Traceback ..."})

    assert render_logs([line]).splitlines()[1].endswith("failed             exception.message=locked")


def test_what_is_undelivered_is_told_by_the_services():
    """Or nothing has been said yet."""
    assert render_undelivered({"gateway": ["Cannot deliver logs"]}).splitlines()[1:] == [
        "gateway          Cannot deliver logs"
    ]
    assert render_undelivered({}).splitlines()[1:] == ["nothing yet"]
