"""The builder of the real programs, with a Go that only pretends."""

import os
from pathlib import Path

import pytest
from binaries import BuildError, Recipe, Workshop, cache_folder, load_recipes, ready

GO = """\
#!/bin/sh
# go build -ldflags=… -tags=… -o FILE PACKAGE
case $6 in bad) echo "go: downloading bad"; echo "no such module"; exit 1;; esac
cat go.mod > "$5"
"""


@pytest.fixture
def go(tmp_path: Path) -> str:
    path = tmp_path / "go"
    path.write_text(GO)
    path.chmod(0o755)
    return str(path)


def recipe(name: str, package: str = "example.com/good") -> Recipe:
    return Recipe(name, "1.2.0", {name: package}, ("example.com/good v1.2.0",), ("a => b v1",))


def test_what_is_there_is_not_built_again(go: str, tmp_path: Path) -> None:
    """The second time nothing is said, for nothing is done."""
    said: list[str] = []
    workshop = Workshop(tmp_path, {"tool": recipe("tool")}, go, said.append)
    workshop.build(["tool"])
    built = workshop.path("tool")
    assert built.read_text().splitlines() == [
        "module tercet/stack",
        "go 1.25",
        "require example.com/good v1.2.0",
        "replace a => b v1",
    ]
    assert said[0] == "tool 1.2.0: building, 1 of 1"
    assert said[1].startswith("tool 1.2.0: built in ")
    workshop.build(["tool"])
    assert len(said) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"go", built.name, workshop.folder.name}
    assert (workshop.folder / "tool").readlink() == built


def test_one_that_cannot_be_built_says_why_and_the_others_are(go: str, tmp_path: Path) -> None:
    """The last lines of the compiler, without those of its downloads."""
    recipes = {"bad": recipe("bad", "bad"), "tool": recipe("tool")}
    workshop = Workshop(tmp_path, recipes, go, lambda line: None)
    with pytest.raises(BuildError) as error:
        workshop.build(["bad", "tool"])
    assert str(error.value) == "bad 1.2.0 was not built.\nno such module"
    assert workshop.path("tool").exists()
    assert not workshop.path("bad").exists()


def test_without_go_nothing_is_built_and_it_says_what_to_install(tmp_path: Path) -> None:
    """The folder is there, and empty: tests look into it, and are skipped."""
    said: list[str] = []
    assert list(ready([], tmp_path, None, said.append).iterdir()) == []
    (line,) = said
    assert line.startswith("Go is not installed, so none of builder, otelcol, prometheus, promtool, ")
    assert "Install Go 1.26 or newer from https://go.dev/dl" in line


def test_a_program_made_of_something_else_is_another_file(tmp_path: Path) -> None:
    """So clones with other versions share the cache, and no change is missed."""
    names = {
        recipe("tool", package).file_name("tool") for package in ("example.com/good", "example.com/other")
    }
    assert len(names) == 2
    assert all(name.startswith("tool-1.2.0-") for name in names)
    one, other = ({"tool": recipe("tool", package)} for package in ("example.com/good", "example.com/other"))
    assert Workshop(tmp_path, one, "go", print).folder != Workshop(tmp_path, other, "go", print).folder


def test_the_cache_is_where_caches_are() -> None:
    """And moves with them."""
    assert cache_folder({"XDG_CACHE_HOME": "/caches"}) == Path("/caches/tercet/stack")
    assert cache_folder({}) == Path(os.path.expanduser("~/.cache/tercet/stack"))


def test_each_version_is_pinned() -> None:
    """Of each module, and of each component of the collectors."""
    required = [line for each in load_recipes().values() for line in each.require]
    assert all(line.split()[1].startswith("v") for line in required)
    assert len(required) > 60
