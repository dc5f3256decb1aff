"""The documentation runs: what README and the quickstart show is executed as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# Offline, in readable order, and without asking where the line goes.
_QUIET = {
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "TERCET_LOG_FORMAT": "json",
    "OTEL_PYTHON_DISTRO": "tercet",
}
_ASK = """
import asyncio
import httpx

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.get(PATH)
        print("HEADERS", dict(response.headers))
        print("BODY", response.text)

asyncio.run(ask())
"""


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page, in order."""
    return _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def run(code: str) -> list[str]:
    """Run code in a process of its own, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **_QUIET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_quickstart_of_the_readme_answers_with_ids_and_logs_with_the_same_ones() -> None:
    """What README shows makes one log line of the application and one access line, under one id."""
    printed = run(blocks("README.md")[0] + _ASK.replace("PATH", '"/orders/7"'))
    lines = [json.loads(line) for line in printed if line.startswith("{")]
    headers = next(line for line in printed if line.startswith("HEADERS"))
    told = {(line["message"], line["correlation_id"]) for line in lines}
    identifier = lines[0]["correlation_id"]
    assert told == {("order_read", identifier), ("request_completed", identifier)}
    assert f"'x-correlation-id': '{identifier}'" in headers
    assert 'BODY {"order_id":7}' in printed


def test_the_readme_shows_a_log_line_of_today() -> None:
    """The fields of the line in README, and their order, are those of a real line."""
    shown = json.loads(
        re.findall(r"```json\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"))[0]
    )
    printed = run(blocks("README.md")[0] + _ASK.replace("PATH", '"/orders/7"'))
    real = next(json.loads(line) for line in printed if '"order_read"' in line)
    assert list(real) == list(shown)


def test_traced_of_the_readme_knows_its_id() -> None:
    """The second block of README runs after the first, and sees an id inside the span."""
    code = blocks("README.md")[0] + blocks("README.md")[1]
    printed = run(code + "import asyncio\nprint('ID', asyncio.run(charge(1)))")
    assert re.fullmatch(r"ID [0-9a-f]{32}", printed[-1])


PAGES = ("docs/quickstart.md", "docs/usage.md", "docs/objectives.md")


@pytest.mark.parametrize("code", [block for page in PAGES for block in blocks(page)])
def test_each_block_of_the_docs_runs(code: str) -> None:
    """A block of the quickstart, or of a page that explains one thing, runs as it stands."""
    run(code)


def test_a_prometheus_endpoint_mounted_as_shown_has_the_red_metrics() -> None:
    """The mounted endpoint of the quickstart answers Prometheus with what a request measured."""
    ask = _ASK.replace("PATH", '"/nowhere"').replace(
        'print("BODY", response.text)', 'print((await client.get("/metrics/")).text)'
    )
    printed = run(blocks("docs/quickstart.md")[1] + ask)
    assert (
        'http_server_request_duration_seconds_count{http_request_method="GET",'
        'http_response_status_code="404",url_scheme="http"} 1'
    ) in printed


def test_the_metrics_of_the_readme_are_scraped_under_the_names_it_says() -> None:
    """What the passage about metrics declares, a scrape shows, zero included."""
    scrape = (
        "from tercet import metrics_app, setup_observability\n"
        "setup_observability('shop')\n"
        "app = metrics_app()\n" + _ASK.replace("PATH", '"/"')
    ).replace("asyncio.run(ask())", "place_order()\nasyncio.run(ask())")
    printed = run(blocks("README.md")[2] + scrape)
    assert {
        'orders_total{payment_method="card",status="failed"} 0',
        'orders_total{payment_method="card",status="paid"} 1',
        'tercet_operation_active{operation="place order"} 0',
        'tercet_operation_duration_seconds_count{operation="place order"} 1',
    } <= {line.removeprefix("BODY ").removesuffix(".0") for line in printed}


def test_the_promises_of_the_readme_are_counted_from_zero_on() -> None:
    """Before anybody has asked for anything."""
    setup = "from tercet import metrics_app, setup_observability\nsetup_observability('shop')\n"
    printed = run(setup + "app = metrics_app()\n" + blocks("README.md")[3] + _ASK.replace("PATH", '"/"'))
    counted = {line.removesuffix(".0") for line in printed if line.startswith("slo_events_total")}
    assert counted == {
        f'slo_events_total{{outcome="{outcome}",slo="{slo}"}} 0'
        for slo in ("checkout", "checkout-fast")
        for outcome in ("good", "bad")
    }


def test_what_the_page_about_metrics_shows_runs() -> None:
    """Its blocks, one after the other; misuse would raise."""
    setup = "from tercet import setup_observability\nsetup_observability('shop', environment='test')\n"
    run(setup + "".join(blocks("docs/declaring.md")))
