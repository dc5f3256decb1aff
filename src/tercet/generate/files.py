"""Generated files on disk: written, or compared with what is there."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tercet.errors import ObjectivesError
from tercet.generate.tree import MARK

_GROUP = re.compile(r"^- name: ", re.MULTILINE)
_HEADER_LENGTH = 500
_PLACES = (
    *("*.yaml", "rules/*.yaml", "sloth/*.yaml", "tests/*.yaml", "tests/*.sh"),
    *("runbooks/*.md", "dashboards/*.json"),
)
_ALERT = re.compile(r"^  - alert: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between a folder and what is generated.

    Attributes:
        missing: Paths that are not there.
        changed: Paths that say something else, each with the alerts or panels that would change.
        obsolete: Paths that were generated once, and are no longer.
    """

    missing: tuple[str, ...]
    changed: Mapping[str, tuple[str, ...]]
    obsolete: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.obsolete)


def check_files(folder: Path, files: Mapping[str, str]) -> Difference:
    """Compare a folder with what is generated.

    Args:
        folder: Where the files should be.
        files: Text by path.
    """
    there = {path: _read(folder / path) for path in files}
    return Difference(
        tuple(path for path, text in there.items() if text is None),
        {
            path: tuple(_what_changes(path)(text, files[path]))
            for path, text in there.items()
            if text is not None and text != files[path]
        },
        tuple(sorted(set(_generated(folder)) - set(files))),
    )


def write_files(folder: Path, files: Mapping[str, str]) -> Difference:
    """Make a folder what is generated; files that others wrote stay.

    Returns:
        What was different before.

    Raises:
        ObjectivesError: A file cannot be written.
    """
    difference = check_files(folder, files)
    for path in difference.changed:
        if not _is_generated(folder / path):
            raise ObjectivesError(
                f"{folder / path} must be a generated file, got one by hand. Move it away first."
            )
    try:
        for path in (*difference.missing, *difference.changed):
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(files[path], encoding="utf-8", newline="\n")
        for path in difference.obsolete:
            (folder / path).unlink()
    except OSError as error:
        raise ObjectivesError(f"--out must be a folder to write to, got {error}. Choose another.") from error
    return difference


def create_file(path: Path, text: str) -> None:
    """Write a file that is its owner's from then on, and never write over one.

    Raises:
        ObjectivesError: It is there already, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise ObjectivesError(f"--out must be a new file, got {error}. Choose another.") from error


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ObjectivesError(f"--out must be a folder to read, got {error}. Choose another.") from error


def _generated(folder: Path) -> Iterator[str]:
    """Find the files of a folder that carry the mark, in the places that are generated."""
    for pattern in _PLACES:
        for path in folder.glob(pattern):
            if _is_generated(path):
                yield path.relative_to(folder).as_posix()


def _is_generated(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return MARK in file.read(_HEADER_LENGTH)
    except OSError:
        return False


def _what_changes(path: str) -> Callable[[str, str], Iterator[str]]:
    return _panels_that_change if path.endswith(".json") else _alerts_that_change


def _alerts_that_change(before: str, after: str) -> Iterator[str]:
    """Name the alerts in those groups of rules of which anything changes."""
    old, new = set(_GROUP.split(before)), set(_GROUP.split(after))
    yield from dict.fromkeys(alert for group in sorted(old ^ new) for alert in _ALERT.findall(group))


def _panels_that_change(before: str, after: str) -> Iterator[str]:
    """Name the panels that show something else, wherever they stand."""
    old, new = _panels(before), _panels(after)
    changed = (key for key in (*old, *new) if old.get(key) != new.get(key))
    yield from dict.fromkeys(title for title, _ in changed)


def _panels(text: str) -> dict[tuple[str, str], object]:
    try:
        panels = json.loads(text)["panels"]
        return {(panel["title"], panel["type"]): {**panel, "gridPos": None} for panel in panels}
    except (ValueError, KeyError, TypeError):
        return {}  # somebody has written something else there
