"""Real processes, real sockets, real signals: what every end-to-end test is made of."""

import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from emitter import Emitter
from receiver import Receiver

APPS = Path(__file__).parent / "apps"
# Applications are started, never imported here: some set up the process that they are in.
collect_ignore_glob = ["apps/*"]

_OURS = ("OTEL_", "TERCET_", "FASTAPI_OTEL_", "PYTHONPATH", "COV_CORE", "COVERAGE_")
#: How often a service sends while a test looks on.
_HASTE = {
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "OTEL_BLRP_SCHEDULE_DELAY": "50",
    "OTEL_METRIC_EXPORT_INTERVAL": "250",
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A collector that has received nothing yet."""
    with Receiver() as listening:
        yield listening


@pytest.fixture(params=["http/protobuf", "grpc"])
def either_receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A collector of each protocol in turn."""
    if request.param == Receiver.protocol:
        with Receiver() as listening:
            yield listening
        return
    pytest.importorskip("grpc", reason="gRPC's own server is not installed")
    from grpc_receiver import GrpcReceiver

    with GrpcReceiver() as listening:
        yield listening


@pytest.fixture(scope="session")
def apps() -> Path:
    """The folder of the sample applications, where services are started."""
    return APPS


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Make the environment of a service: this one's, without settings of its own, and those given."""
    home = str(tmp_path_factory.mktemp("home"))  # gunicorn keeps a socket there

    def build(endpoint: str, **settings: str) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
        named = {"OTEL_SERVICE_NAME": "shop", "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        return {**inherited, "PATH": path, "HOME": home, **named, **_chosen(), **_HASTE, **settings}

    return build


@pytest.fixture
def emitter(environment: Callable[..., dict[str, str]], apps: Path) -> Iterator[Callable[..., Emitter]]:
    """Start emitters, and leave none behind."""
    running: list[Emitter] = []

    def start(endpoint: str, **settings: str) -> Emitter:
        env = environment(endpoint, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10", **settings)
        running.append(Emitter(env, apps))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()
        each.process.wait()


def _chosen() -> dict[str, str]:
    """Choose tercet where another distribution is installed beside it, as its warning asks for."""
    alone = len(entry_points(group="opentelemetry_distro")) == 1
    return {} if alone else {"OTEL_PYTHON_DISTRO": "tercet"}
