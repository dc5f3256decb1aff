"""Reference pages of the docs, from the declarations: `python -m tercet.generate.pages docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from tercet.declare.parse import shown
from tercet.declare.settings import CONFIG_FILE, CONFIG_VARIABLE, Settings, rows

HEADER = (
    "<!-- Generated from src/tercet/declare by `python -m tercet.generate.pages docs`; do not edit. -->\n"
)


def settings_page() -> str:
    """Render the page that lists every setting."""
    return HEADER + "\n".join(_settings_lines()) + "\n"


def _settings_lines() -> Iterator[str]:
    yield "# Settings\n"
    yield (
        "Each setting can be given in four places; the first one wins: an argument of "
        "`setup_observability()` or an option of `tercet run`, an environment variable, a key of "
        f"`{CONFIG_FILE}` in the working directory (or of the file that `{CONFIG_VARIABLE}` names), "
        "the default. Times are in seconds, except in variables "
        "marked ms. Settings marked * can be given for one signal: `otlp_traces_endpoint`, "
        "`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; an endpoint for one signal is used as it stands, while "
        "`/v1/traces` and the like are added to the common one.\n"
    )
    yield "| setting | variable | default | what it does |"
    yield "|---|---|---|---|"
    defaults = Settings()
    for name, row in rows():
        variables = ", ".join(f"`{variable}`" for variable in row.variables) + (
            " ms" if row.milliseconds else ""
        )
        mark = " \\*" if row.per_signal else ""
        yield f"| `{name}`{mark} | {variables} | `{shown(getattr(defaults, name))}` | {row.help} |"


PAGES = {"settings.md": settings_page}


def write_pages(folder: Path) -> None:
    """Write every page into `folder`."""
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
