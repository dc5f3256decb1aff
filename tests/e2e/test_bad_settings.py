"""Settings that cannot be used: an exception in code, one warning under a launcher."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from receiver import Receiver
from service import serve, started

Environment = Callable[..., dict[str, str]]
UVICORN = ("-m", "uvicorn", "shop:app", "--port", "{port}")
IN_CODE = "import tercet; tercet.setup_observability('shop')"


@dataclass(frozen=True)
class Bad:
    """Settings nobody can use, and what the sentence about them must say: the name, the value, the mend."""

    says: tuple[str, str, str]
    variables: dict[str, str] = field(default_factory=dict)
    file: str | None = None
    missing: str | None = None


BAD = {
    "sampler": Bad(
        ("OTEL_TRACES_SAMPLER_ARG", "got 'lots'", "Write 0.1 to keep one trace in ten."),
        {"OTEL_TRACES_SAMPLER_ARG": "lots"},
    ),
    "propagator": Bad(("OTEL_PROPAGATORS", "got 'nope'", "install it."), {"OTEL_PROPAGATORS": "nope"}),
    "exporter": Bad(
        ("OTEL_TRACES_EXPORTER", "got 'pigeon'", "write otlp."), {"OTEL_TRACES_EXPORTER": "pigeon"}
    ),
    "protocol": Bad(
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "got 'grpc'", "install tercet[grpc]."),
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        missing="h2",
    ),
    "level": Bad(("TERCET_LOG_LEVEL", "got 'LOUD'", "Write INFO."), {"TERCET_LOG_LEVEL": "LOUD"}),
    "file": Bad(("tercet.toml", "line 1", "Correct the file."), file="log_format = = INFO\n"),
    "value in the file": Bad(
        ("tercet.toml: log_format", "got 'loud'", "Write "), file='log_format = "loud"\n'
    ),
    "name in the file": Bad(("tercet.toml", "log_fromat", "log_format"), file='log_fromat = "json"\n'),
}


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> Bad:
    """Each of them in turn."""
    return BAD[request.param]


@pytest.fixture
def settings(
    bad: Bad, environment: Environment, receiver: Receiver, tmp_path: Path, apps: Path
) -> dict[str, str]:
    """The environment of a service that has the bad settings, its code beside its file of settings."""
    if bad.file is not None:
        (tmp_path / "tercet.toml").write_text(bad.file)
    if bad.missing is not None:
        (tmp_path / f"{bad.missing}.py").write_text("raise ImportError('not installed')")
    path = os.pathsep.join([str(tmp_path), str(apps)])
    return environment(receiver.endpoint, **bad.variables, PYTHONPATH=path)


LAUNCHERS = {
    "tercet run": ("-m", "tercet.cli.main", "run", "--"),
    "opentelemetry-instrument": (
        "-c",
        "import opentelemetry.instrumentation.auto_instrumentation as agent; agent.run()",
    ),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_under_a_launcher_one_warning_is_given_and_the_service_answers(
    launcher: str, bad: Bad, settings: dict[str, str], tmp_path: Path
) -> None:
    """The warning has the name, the value and the mend, and no traceback."""
    if launcher == "opentelemetry-instrument" and bad is BAD["propagator"]:
        pytest.skip("upstream's launcher fails before it starts anything of ours")
    command = [sys.executable, *LAUNCHERS[launcher], sys.executable, *UVICORN]
    with serve(command, settings, tmp_path) as service:
        assert service.get("/orders/7").json() == {"order_id": 7}
        service.stop()
        said = service.said()
    (warning,) = [line for line in said.splitlines() if "Telemetry is off: " in line]
    assert [part for part in bad.says if part not in warning] == [], warning
    assert "Traceback" not in said


def test_in_code_they_raise_with_the_same_sentence(
    bad: Bad, settings: dict[str, str], tmp_path: Path
) -> None:
    """The developer sees the sentence as the last line of the traceback."""
    with started([sys.executable, "-c", IN_CODE], settings, tmp_path) as script:
        script.stop(0)
        last = script.stderr.so_far()[-1]
    assert (script.process.returncode, last.partition(".")[0]) == (1, "tercet"), last
    assert [part for part in bad.says if part not in last] == [], last
