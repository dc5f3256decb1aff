"""Whoever is called: every notification that Alertmanager sends, instead of a telephone."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from backend import ROUTES
from service import LOOPBACK


@dataclass(frozen=True, slots=True)
class Call:
    """One notification.

    Attributes:
        receiver: Whom it reached.
        incident: What Alertmanager groups by: the same for whatever belongs to one incident.
        is_firing: Whether something fires, or all is over.
        service: Which service it names.
        environment: Where.
        alerts: The names of what fires.
    """

    receiver: str
    incident: str
    is_firing: bool
    service: str
    environment: str
    alerts: frozenset[str]


class Pager:
    """Takes calls, and keeps them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                pager._take(self.path.strip("/"), json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)

    def _take(self, receiver: str, said: dict[str, Any]) -> None:
        labels = said["groupLabels"]
        call = Call(
            receiver,
            said["groupKey"],
            said["status"] == "firing",
            labels.get("service", ""),
            labels.get("deployment_environment_name", ""),
            frozenset(
                alert["labels"]["alertname"] for alert in said["alerts"] if alert["status"] == "firing"
            ),
        )
        with self._lock:
            self._calls.append(call)

    def calls(self) -> list[Call]:
        """Return what has come so far."""
        with self._lock:
            return list(self._calls)

    def routes(self, folder: Path) -> Path:
        """Write configs/generated/alertmanager.yaml with this pager in the place of each receiver."""
        config = yaml.safe_load(ROUTES.read_text("utf-8"))
        url = f"http://{LOOPBACK}:{self._server.server_port}"
        config["receivers"] = [
            {
                "name": receiver["name"],
                "webhook_configs": [{"url": f"{url}/{receiver['name']}", "send_resolved": True}],
            }
            for receiver in config["receivers"]
        ]
        written = folder / "alertmanager.yaml"
        written.write_text(yaml.safe_dump(config))
        return written

    @contextmanager
    def listening(self) -> Iterator["Pager"]:
        """Take calls until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
