"""Build the real programs that tests/stack runs; `python -m tests.stack.binaries` prints their folder.

They are kept in $XDG_CACHE_HOME/tercet/stack, one file for each version and way to build it, and shared by
all clones. What is there is not built again; what was begun goes on where Go's own caches left it. The folder
can be deleted at any time.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
_TELL_EVERY = 30.0
_LAST_LINES = 15
# Two compilers at once: each takes up to a gigabyte, and the machine has other work to do.
_FLAGS = "-p=2 -mod=mod -trimpath -buildvcs=false"
_SMALL = "-ldflags=-s -w"

Tell = Callable[[str], None]


class BuildError(Exception):
    """Say what could not be built, and the last words of who tried."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How programs of one version are built.

    Attributes:
        name: What is built.
        version: Its version.
        programs: From a program's name to its Go package.
        require: Go modules, each with its version.
        replace: What replaces Go modules, for only a main module may say so.
        tags: Build tags.
        manifest: What the Collector's builder writes the program from; "" where the package is the program.
    """

    name: str
    version: str
    programs: Mapping[str, str]
    require: tuple[str, ...]
    replace: tuple[str, ...] = ()
    tags: str = ""
    manifest: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def file_name(self, program: str) -> str:
        """Name a program's file by all that it is made of."""
        return f"{program}-{self.version}-{_digest(repr(self))}"

    def module(self) -> str:
        """Render the `go.mod` of a module that is made of others."""
        requirements = [f"require {each}" for each in self.require]
        replacements = [f"replace {each}" for each in self.replace]
        return "\n".join(["module tercet/stack", "go 1.25", *requirements, *replacements])


def load_recipes() -> dict[str, Recipe]:
    """Read `binaries.yaml`, and the manifests that it names."""
    rows = yaml.safe_load((HERE / "binaries.yaml").read_text("utf-8"))
    return {name: _recipe(name, row) for name, row in rows.items()}


def _recipe(name: str, row: Mapping[str, Any]) -> Recipe:
    version = row["version"]
    if "manifest" not in row:
        return Recipe(
            name,
            version,
            row["programs"],
            tuple(row["require"]),
            tuple(row.get("replace", ())),
            row.get("tags", ""),
        )
    lists = yaml.safe_load((HERE / row["manifest"]).read_text("utf-8"))
    replace = tuple(lists.pop("replaces", ()))
    frame = [f"go.opentelemetry.io/collector/{part} v{version}" for part in ("otelcol", "service")]
    require = (*frame, *(part["gomod"] for parts in lists.values() for part in parts))
    dist = {"name": name, "module": "tercet/stack", "version": version, "output_path": "generated"}
    return Recipe(
        name, version, {name: "."}, require, replace, manifest=yaml.safe_dump({"dist": dist} | lists)
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Say where built programs are kept."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tercet" / "stack"


class Workshop:
    """Build what is missing in the cache.

    Args:
        cache: The folder that built programs are kept in.
        recipes: How to build them.
        go: The Go command.
        tell: What to do with a line about progress.
    """

    def __init__(self, cache: Path, recipes: Mapping[str, Recipe], go: str, tell: Tell) -> None:
        self._cache = cache
        self._recipes = recipes
        self._go = go
        self._tell = tell
        #: In which each program goes by its name; other clones, with other versions, have others.
        self.folder = cache / f"bin-{_digest(repr(sorted(recipes.items())))}"

    def build(self, names: list[str]) -> None:
        """Build the programs of some recipes that are not there yet.

        Raises:
            BuildError: One of them cannot be built; the others are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = [self._recipes[name] for name in names]
        missing = [recipe for recipe in wanted if self._missing(recipe)]
        failed = []
        for recipe in wanted:
            if recipe in missing:
                self._tell(f"{recipe}: building, {missing.index(recipe) + 1} of {len(missing)}")
                try:
                    self._make(recipe)
                except BuildError as error:
                    failed.append(f"{recipe} was not built.\n{error}")
            self._publish(recipe)
        if failed:
            raise BuildError("\n".join(failed))

    def path(self, program: str) -> Path:
        """Return where a program is, once it is built."""
        (recipe,) = (recipe for recipe in self._recipes.values() if program in recipe.programs)
        return self._cache / recipe.file_name(program)

    def _missing(self, recipe: Recipe) -> list[str]:
        return [program for program in recipe.programs if not self.path(program).exists()]

    def _publish(self, recipe: Recipe) -> None:
        for program in recipe.programs:
            link, built = self.folder / program, self.path(program)
            if built.exists() and not (link.is_symlink() and link.readlink() == built):
                link.unlink(missing_ok=True)
                link.symlink_to(built)

    def _make(self, recipe: Recipe) -> None:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="building-", dir=self._cache) as folder:
            source = Path(folder)
            if recipe.manifest:
                self._generate(recipe, source)
            (source / "go.mod").write_text(recipe.module())
            for program in self._missing(recipe):
                built = source / "built"
                command = [self._go, "build", _SMALL, f"-tags={recipe.tags}", "-o", str(built)]
                self._run([*command, recipe.programs[program]], source, recipe)
                built.replace(self.path(program))
        self._tell(f"{recipe}: built in {time.monotonic() - began:.0f} s")

    def _generate(self, recipe: Recipe, source: Path) -> None:
        self.build(["builder"])
        (source / "manifest.yaml").write_text(recipe.manifest)
        # Sources only: it would look after modules by `go mod tidy`, which fetches those of all their tests.
        options = ["--config=manifest.yaml", "--skip-compilation", "--skip-get-modules"]
        self._run([str(self.path("builder")), *options], source, recipe)
        for generated in (source / "generated").iterdir():
            generated.rename(source / generated.name)

    def _run(self, command: list[str], folder: Path, recipe: Recipe) -> None:
        began = time.monotonic()
        environ = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": _FLAGS, "GOWORK": "off"}
        with (folder / "output").open("w+") as output, _process(command, folder, environ, output) as process:
            while True:
                try:
                    status = process.wait(_TELL_EVERY)
                    break
                except subprocess.TimeoutExpired:
                    self._tell(f"{recipe}: {time.monotonic() - began:.0f} s")
        if status:
            lines = (folder / "output").read_text().splitlines()
            telling = [line for line in lines if not line.startswith("go: downloading ")]
            raise BuildError("\n".join(telling[-_LAST_LINES:]))


@contextmanager
def _process(
    command: list[str], folder: Path, environ: Mapping[str, str], output: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    gently = ["nice", *command] if shutil.which("nice") else command
    process = subprocess.Popen(
        gently,
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # its compilers, too
            process.wait()


def ready(names: list[str], cache: Path, go: str | None, tell: Tell) -> Path:
    """Build what is missing, and return the folder in which each program goes by its name.

    Args:
        names: Of recipes; empty for all.
        cache: The folder that built programs are kept in.
        go: The Go command; without it, nothing is built.
        tell: What to do with a line about progress.

    Raises:
        BuildError: Something cannot be built; all that can be is in the folder.
    """
    recipes = load_recipes()
    if not go:
        tell(_without_go([program for recipe in recipes.values() for program in recipe.programs]))
    workshop = Workshop(cache, recipes, go or "", tell)
    with _alone(cache / "lock", tell):
        for left in cache.glob("building-*"):  # of a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        workshop.build((names or list(recipes)) if go else [])
    return workshop.folder


def _without_go(programs: list[str]) -> str:
    found = ", ".join(filter(shutil.which, programs)) or "none of them"
    return (
        f"Go is not installed, so none of {', '.join(programs)} can be built, and tests that need them are "
        f"skipped. On PATH there is {found}. Install Go 1.26 or newer from https://go.dev/dl; Debian's "
        "packages prometheus and prometheus-alertmanager are enough for the tests of rules and routes."
    )


@contextmanager
def _alone(path: Path, tell: Tell) -> Iterator[None]:
    """Wait until no other clone builds into the same cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another build into the same folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _tell(line: str) -> None:
    print(f"stack: {line}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Build, and print the folder; return 1 where something could not be built."""
    parser = argparse.ArgumentParser("python -m tests.stack.binaries", description=__doc__.partition("\n")[0])
    recipes = load_recipes()
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(recipes)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - recipes.keys():
        parser.error(f"NAME must be one of {', '.join(recipes)}, got {', '.join(sorted(unknown))}.")
    # On PATH, or where Go's own installation puts it.
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    try:
        print(ready(options.names, cache_folder(os.environ), go, _tell))
    except BuildError as error:
        _tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
