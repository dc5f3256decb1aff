"""Run one service of the demo: `python -m tercet.demo gateway --port 8101`."""

import argparse
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from tercet import __version__, setup_observability
from tercet.console.parent import when_parent_ends
from tercet.demo.catalog import ENVIRONMENT, PORTS
from tercet.demo.services import build_service

_SHUTDOWN_SECONDS = 2.0
# Callers keep a connection for 5 seconds, as uvicorn does by default: then both may let go of it at the same
# moment, and the order that is on its way is lost. So it is always the caller who does.
_KEEP_ALIVE_SECONDS = 75


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C, SIGTERM or the end of the parent, then send what telemetry is left."""
    options = _parser().parse_args(arguments)
    handle = setup_observability(
        options.service,
        service_version=__version__,
        environment=options.environment,
        otlp_endpoint=options.otlp,
        metric_export_interval=options.export_seconds,
        span_export_delay=options.export_seconds,
        log_export_delay=options.export_seconds,
        log_format="json",
        log_level="INFO",
    )
    app = build_service(options.service, options.database, dict(options.peer), options.faults)
    _serve(uvicorn.Server(build_config(app)), _listener(options), with_parent=options.with_parent)
    handle.shutdown(_SHUTDOWN_SECONDS)
    return 0


def build_config(app: FastAPI) -> uvicorn.Config:
    """Say how a service is served."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tercet.demo", description="Run one service of the demo.")
    add = parser.add_argument
    add("service", choices=sorted(PORTS))
    add("--port", type=int, help="port on 127.0.0.1 (default: the service's own)")
    add("--fd", type=int, help="a listening socket inherited from the parent, instead of --port")
    add("--otlp", default="http://127.0.0.1:4318", help="where telemetry goes (default: %(default)s)")
    add("--database", type=Path, default=Path("orders.db"), help="SQLite file (default: %(default)s)")
    add("--faults", type=Path, metavar="DIR", help="folder with a file for each fault that is on")
    add("--environment", default=ENVIRONMENT, help="deployment.environment.name (default: %(default)s)")
    add("--export-seconds", type=float, default=0.25, help="between two exports (default: %(default)s)")
    peer_help = "where another service is, when not on its own port"
    add("--peer", action="append", default=[], type=_peer, metavar="SERVICE=URL", help=peer_help)
    add("--with-parent", action="store_true", help="exit when stdin ends")
    return parser


def _peer(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    return name, url


def _listener(options: argparse.Namespace) -> socket.socket:
    if options.fd is not None:
        return socket.socket(fileno=options.fd)
    return socket.create_server(("127.0.0.1", options.port or PORTS[options.service]))


def _serve(server: uvicorn.Server, listener: socket.socket, *, with_parent: bool) -> None:
    def stop() -> None:
        server.should_exit = True
        # A parent that is gone waits for nobody: neither does its child, whatever hangs.
        timer = threading.Timer(2 * _SHUTDOWN_SECONDS, os._exit, args=(1,))
        timer.daemon = True
        timer.start()

    if with_parent:
        when_parent_ends(stop)
    server.run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
