"""(b) Over HTTP: one uvicorn worker with its fast parser and loop, and wrk with sixteen connections."""

import functools
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile

from bench.counter import receiver
from bench.process import ROOT, RunError, clean_environ, last_line
from bench.request import TRACEPARENT
from bench.rounds import Sample, Samples, interleave
from bench.variants import Variant

WRK = ("wrk", "-t1", "-c16", "--latency", "-H", f"traceparent: {TRACEPARENT % '01'}")
HOW_TO_GET_WRK = "wrk is missing: `apt-get install wrk` on Debian and its kin"
_UVICORN = ("--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning")
_WARM_UP = 1.0
_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def has_wrk() -> bool:
    return shutil.which(WRK[0]) is not None


def measure(variants: Iterable[Variant], seconds: float, rounds: int) -> Samples:
    """Measure each variant for so many seconds a round."""
    jobs = {variant.key: functools.partial(measure_once, variant, seconds) for variant in variants}
    return interleave("over HTTP", jobs, rounds)


def measure_once(variant: Variant, seconds: float) -> Sample:
    """Start a variant's server, load it, end it, and say how it did and what was delivered by then."""
    with receiver() as counter:
        with _server(variant, counter.url) as url:
            warm = wrk(url, _WARM_UP)
            figures = wrk(url, seconds)
        requests = warm["requests"] + figures["requests"]
        return figures | {"requests": requests, "received": counter.counts()}


def wrk(url: str, seconds: float) -> Sample:
    """Load a server, and read what wrk says."""
    command = [*WRK, f"-d{seconds:.0f}s", f"{url}/orders/42"]
    return parse_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse_wrk(text: str) -> Sample:
    """Read requests, requests a second and the 99th percentile in milliseconds.

    Raises:
        RunError: Not every request was answered well.
    """
    if trouble := re.search(r"(Non-2xx.*|Socket errors.*)", text):
        raise RunError(trouble[1])
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    requests = re.search(r"(\d+) requests in", text)
    if not (rate and p99 and requests):
        raise RunError(f"wrk said: {last_line(text)}")
    return {
        "requests": int(requests[1]),
        "per_second": float(rate[1]),
        "p99": float(p99[1]) * _MILLISECONDS[p99[2]],
    }


@contextmanager
def _server(variant: Variant, counter: str) -> Iterator[str]:
    """Serve a variant for as long as the block runs; afterwards everything has been sent."""
    port = _free_port()
    command = variant.command("-m", "uvicorn", "bench.serve:app", "--port", str(port), *_UVICORN)
    environ = clean_environ(variant.variables(counter))
    with TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=said)
        try:
            _wait_for(port, process, 30)
            yield f"http://127.0.0.1:{port}"
            # Not SIGTERM: uvicorn raises it again when it is done, and then no exporter gets to flush.
            process.send_signal(signal.SIGINT)
            process.wait(60)
        except (OSError, subprocess.SubprocessError) as error:
            said.seek(0)
            raise RunError(last_line(said.read()) or str(error)) from error
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: "subprocess.Popen[bytes]", seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
    raise OSError(f"the server ended with {process.returncode}")
