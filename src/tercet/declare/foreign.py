"""Files in which others keep their promises: sloth's `prometheus/v1` and OpenSLO v1."""

from collections.abc import Iterable
from pathlib import Path

from tercet.declare import openslo, sloth
from tercet.declare.document import read_file
from tercet.declare.draft import Imported
from tercet.declare.outline import Value, compose_all
from tercet.errors import ObjectivesError


def load_foreign(paths: Iterable[Path], period: str) -> Imported:
    """Load promises from files that may refer to each other.

    Args:
        paths: The files.
        period: What sloth is run with, which its files do not say.

    Raises:
        ObjectivesError: A file cannot be read, or something in it cannot be used; the message names the line.
        SetupError: What parses YAML or PromQL is not installed.
    """
    imported, open_slo = Imported(), list[Value]()
    for path in paths:
        imported.sources.append(path.name)
        for document in compose_all(read_file(path), path.name):
            fields = document.fields()
            if "version" in fields and fields["version"].node.value == sloth.VERSION:
                sloth.read_sloth(document, period, imported)
            elif "apiVersion" in fields and fields["apiVersion"].node.value in openslo.VERSIONS:
                open_slo.append(document)
            else:
                known = f"sloth's (version: {sloth.VERSION}) or OpenSLO's (apiVersion: {openslo.VERSIONS[0]})"
                raise document.refused(known, "Write the version that it is of.")
    openslo.read_openslo(open_slo, imported)
    if not imported.drafts:
        what = "; ".join(imported.losses.places) or "no SLO"
        sources = ", ".join(imported.sources)
        raise ObjectivesError(
            f"{sources}: the files must hold an objective that can be carried over, got: {what}. Add one."
        )
    return imported
