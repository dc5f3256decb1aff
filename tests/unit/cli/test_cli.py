"""Words to calls: `tercet run` and `tercet settings`."""

import json
import os
import runpy
import sys

import pytest

import tercet
from tercet.cli.main import main
from tercet.declare.settings import slots


@pytest.fixture(autouse=True)
def environ(monkeypatch, tmp_path):
    """Work in an environment that is put back, where no tercet.toml is."""
    monkeypatch.chdir(tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TERCET_"))}
    monkeypatch.setattr(os, "environ", kept)
    return kept


@pytest.fixture
def became(monkeypatch):
    """Note what the process would become."""
    became = []
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(
        "opentelemetry.instrumentation.auto_instrumentation.run", lambda: became.append(sys.argv)
    )
    return became


def test_run_becomes_the_command_in_an_environment_that_sets_it_up(became, environ):
    """The launcher is upstream's; options are variables of the child."""
    options = ["--log-level", "debug", "--span-export-delay", "0.5", "--otlp-traces-endpoint=http://c:1/t"]
    assert main(["run", *options, "--", "python", "-m", "app", "--log-level", "x"]) == 0
    assert became == [["opentelemetry-instrument", "python", "-m", "app", "--log-level", "x"]]
    given = {name: value for name, value in environ.items() if name.startswith(("OTEL_", "TERCET_"))}
    assert given == {
        "TERCET_LOG_LEVEL": "debug",
        "OTEL_BSP_SCHEDULE_DELAY": "500.0",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/t",
        "OTEL_PYTHON_DISTRO": "tercet",
        "OTEL_PYTHON_CONFIGURATOR": "tercet",
    }


def test_run_takes_every_setting(became, environ):
    """Each place of the table has its option."""
    value = {"propagators": "none"}
    everything = [f"--{slot.name.replace('_', '-')}={value.get(slot.name, '1')}" for slot in slots()]
    assert main(["run", *everything, "python"]) == 0
    assert all(slot.variables[0] in environ for slot in slots())


def test_run_leaves_wrong_values_to_the_service(became, environ):
    """It says what is wrong, and starts."""
    assert main(["run", "--span-export-delay", "soon", "python"]) == 0
    assert environ["OTEL_BSP_SCHEDULE_DELAY"] == "soon"


def test_run_starts_a_service_without_telemetry_where_upstream_would_not_start(
    became, environ, monkeypatch, capsys
):
    """A propagator that is not installed would fail the import of upstream's API."""
    monkeypatch.setattr(os, "execvp", lambda name, command: became.append([name, command]))
    assert main(["run", "--propagators", "nope", "--", "python", "app.py"]) == 0
    assert became[0] == ["python", ["python", "app.py"]]
    assert "OTEL_PROPAGATORS" not in environ
    assert capsys.readouterr().err.startswith("tercet run: Telemetry is off: propagators (OTEL_PROPAGATORS)")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run"], 2, "tercet run needs a command. Write: tercet run -- uvicorn app:app\n"),
        (["run", "--"], 2, "tercet run needs a command. Write: tercet run -- uvicorn app:app\n"),
        (["run", "--", "no-such-command"], 127, "tercet run: no-such-command: command not found\n"),
    ],
)
def test_run_says_what_it_lacks(words, code, message, capsys):
    """On stderr, with an exit code that scripts know."""
    assert main(words) == code
    assert capsys.readouterr().err == message


def test_settings_are_shown_as_a_service_would_start_with_them(environ, capsys):
    """From here and now, secrets hidden."""
    environ |= {"OTEL_SERVICE_NAME": "orders", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=s3cret"}
    assert main(["settings"]) == 0
    out = capsys.readouterr().out
    assert ["service_name", "'orders'"] in [line.split(maxsplit=1) for line in out.splitlines()]
    assert "s3cret" not in out
    assert main(["settings", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["otlp_headers"] == "<hidden>"


def test_settings_that_cannot_be_used_are_named(environ, capsys):
    """Exit code 2 and the house error."""
    environ["TERCET_LOG_LEVEL"] = "LOUD"
    assert main(["settings"]) == 2
    assert capsys.readouterr().err.startswith("tercet: TERCET_LOG_LEVEL must be one of DEBUG, ")


def test_an_interrupt_has_its_exit_code(monkeypatch):
    """130, without a traceback."""

    def interrupted(_environ):
        raise KeyboardInterrupt

    monkeypatch.setattr("tercet.cli.settings.Settings.load", interrupted)
    assert main(["settings"]) == 130


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["settings", "--help"], ["--version"]])
def test_help_is_there(words, capsys):
    """For the command and for each of its words."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    assert "tercet" in capsys.readouterr().out


def test_the_module_runs_as_a_program(monkeypatch, capsys):
    """`python -m tercet.cli.main` is the command."""
    monkeypatch.setattr(sys, "argv", ["tercet", "--version"])
    monkeypatch.delitem(sys.modules, "tercet.cli.main")
    with pytest.raises(SystemExit):
        runpy.run_module("tercet.cli.main", run_name="__main__")
    assert capsys.readouterr().out.startswith(f"tercet {tercet.__version__} (")


@pytest.mark.parametrize(("is_there", "make"), [(True, "compiled"), (False, "nothing of it compiled")])
def test_the_version_says_whether_a_request_is_at_its_cheapest(is_there, make, monkeypatch, capsys):
    """That is, whether there was a compiler when tercet was installed."""
    monkeypatch.setattr("tercet.cli.main.is_compiled", lambda: is_there)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"tercet {tercet.__version__} ({make})\n"


def test_metrics_lists_what_tercet_emits(capsys):
    """As the reference page does."""
    assert main(["metrics"]) == 0
    assert (
        "| `http.server.request.duration` | `http_server_request_duration_seconds`" in capsys.readouterr().out
    )


def test_metrics_lists_what_a_module_declares(capsys, tmp_path, monkeypatch):
    """The module is imported from where the command runs; tercet's own are left out."""
    (tmp_path / "a_shop.py").write_text(
        "import tercet\ntercet.Counter('a_shop.orders', 'Orders.', attributes=('status',))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["metrics", "a_shop:app", "--json"]) == 0
    listed = {metric["name"]: metric for metric in json.loads(capsys.readouterr().out)}
    assert listed["a_shop.orders"]["prometheus"] == "a_shop_orders_total"
    assert "http.server.request.duration" not in listed


def test_metrics_names_a_module_that_is_not_there(capsys):
    """With the mend."""
    assert main(["metrics", "no_such_shop"]) == 2
    assert "module must be one that can be imported, got 'no_such_shop'" in capsys.readouterr().err
