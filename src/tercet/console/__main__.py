"""Run the console: `python -m tercet.console`."""

import argparse
import json
import signal
import socket
import sys
import threading

from tercet.console.parent import when_parent_ends
from tercet.console.server import Server
from tercet.console.store import Store


def main(arguments: list[str]) -> int:
    """Serve until SIGTERM, Ctrl-C or the end of the parent; print one JSON line with the URL when ready."""
    options = _parser().parse_args(arguments)
    try:
        listener = _listener(options.port, options.fd)
    except (OSError, OverflowError) as error:
        print(f"--port must be a free port of this machine, got {options.port}: {error}.", file=sys.stderr)
        return 1
    server = Server(listener, Store())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(server))
    if options.with_parent:
        when_parent_ends(server.shutdown)
    print(json.dumps({"url": server.url}), flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m tercet.console", description="Receive OTLP and answer questions."
    )
    parser.add_argument("--port", type=int, default=4318, help="port on 127.0.0.1; 0 for any (default: 4318)")
    parser.add_argument(
        "--fd", type=int, help="a listening socket inherited from the parent, instead of --port"
    )
    parser.add_argument("--with-parent", action="store_true", help="exit when stdin ends")
    return parser


def _listener(port: int, fd: int | None) -> socket.socket:
    if fd is not None:
        return socket.socket(fileno=fd)
    return socket.create_server(("127.0.0.1", port))


def _stop(server: Server) -> None:
    # shutdown() waits for the serving thread, which is the one a signal interrupts.
    threading.Thread(target=server.shutdown, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
