"""What import-linter cannot say: who may know the SDK, who may read the environment, where code may stand."""

import ast
from pathlib import Path

import pytest

import tercet

SOURCE = Path(tercet.__file__).parent
#: The doors, where the environment is read once and handed on.
# emit/propagate.py moves a variable out of upstream's way, and reads none.
READERS = {
    "emit/propagate.py",
    "configure/setup.py",
    "configure/distro.py",
    "configure/edges.py",
    "cli/generate.py",
    "cli/run.py",
    "cli/settings.py",
    "cli/slo.py",
    "cli/metrics.py",
}
#: Programs and processes of their own, which the library never imports.
PROGRAMS = ("demo/", "console/")


def modules(room="**"):
    return sorted(SOURCE.glob(f"{room}/*.py"))


def name_of(path):
    return path.relative_to(SOURCE).as_posix()


def imported(path):
    """List the modules that a file imports, also late ones."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("emit", "opentelemetry.sdk"),
        ("declare", "opentelemetry"),
        ("generate", "opentelemetry"),
        ("ask", "opentelemetry"),
    ],
)
def test_a_room_knows_no_more_than_it_needs(room, forbidden):
    """Emit uses the API, never the SDK; declarations and generators know nothing of OpenTelemetry."""
    found = [
        f"{name_of(path)}: {module}"
        for path in modules(room)
        for module in imported(path)
        if f"{module}.".startswith(f"{forbidden}.")
    ]
    assert found == []


def reads_the_environment(path):
    tree = ast.parse(path.read_text("utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return bool(attributes & {"environ", "getenv", "environb"}) or any(
        module in ("os.environ", "os.getenv") for module in imported(path)
    )


def test_the_environment_is_read_at_the_doors_only():
    """Everywhere else it is an argument."""
    readers = {name_of(path) for path in modules() if reads_the_environment(path)}
    assert {name for name in readers if not name.startswith(PROGRAMS)} - {"cli/demo.py"} <= READERS


@pytest.mark.parametrize("path", sorted(SOURCE.glob("*/__init__.py")), ids=name_of)
def test_a_rooms_door_is_one_sentence(path):
    """No code in an `__init__`."""
    (docstring,) = ast.parse(path.read_text("utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert docstring.value.value.endswith(".")


def test_no_room_is_a_drawer():
    """A name says what is inside."""
    drawers = {"_internal", "utils", "helpers", "common", "core"}
    assert drawers.isdisjoint(part for path in modules() for part in (*path.parts, path.stem))
