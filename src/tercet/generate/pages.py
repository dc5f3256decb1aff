"""Reference pages of the docs, from the declarations: `python -m tercet.generate.pages docs`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tercet.declare.metric import METRICS, MOST_SERIES, Metric
from tercet.declare.names import metric_name
from tercet.declare.parse import shown
from tercet.declare.settings import CONFIG_FILE, CONFIG_VARIABLE, Settings, rows
from tercet.declare.usage import USAGE

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


#: All that tercet emits by itself; a room with metrics of its own adds them here.
CATALOG: tuple[tuple[Metric, ...], ...] = (METRICS, USAGE)
#: What Prometheus makes of each kind: its type, and the endings of the series' names.
_PROMETHEUS = {
    "counter": ("counter", ""),
    "up_down_counter": ("gauge", ""),
    "gauge": ("gauge", ""),
    "histogram": ("histogram", " `_bucket` `_sum` `_count`"),
    "summary": ("summary", " `_sum` `_count`"),
}


def metrics_page() -> str:
    """Render the page that lists every metric which tercet can emit."""
    metrics = sorted((metric for metrics in CATALOG for metric in metrics), key=lambda metric: metric.name)
    return HEADER + "\n".join([_ABOUT_METRICS, *metric_lines(metrics)]) + "\n"


_ABOUT_METRICS = f"""# Metrics

What tercet emits by itself. Each metric carries the attributes below and no others, and has at most
{MOST_SERIES} series (`metric_series_limit`); what is beyond is counted in one more, `otel.metric.overflow`,
so that no total is lost. A label is an attribute with its dots as underscores. How to declare your own:
[metrics of your own](declaring.md).
"""


def metric_lines(metrics: Iterable[Metric]) -> Iterator[str]:
    """Render metrics as a table."""
    yield "| metric | in Prometheus | kind | unit | attributes | meaning |"
    yield "|---|---|---|---|---|---|"
    for metric in metrics:
        kind, endings = _PROMETHEUS[metric.kind]
        name = f"`{metric_name(metric.name, metric.unit, metric.kind)}`{endings}"
        keys = ", ".join(f"`{key}`" for key in metric.attributes) or "-"
        unit = f"`{metric.unit}`" if metric.unit else "-"
        yield f"| `{metric.name}` | {name}, {kind} | {metric.kind} | {unit} | {keys} | {_cell(metric.help)} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}


def write_pages(folder: Path) -> None:
    """Write every page into `folder`."""
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
