"""A test file for `promtool test rules`: stories of what happens, each with what must then be."""

from collections.abc import Iterable
from dataclasses import dataclass

from tercet.generate.rulefile import text


@dataclass(frozen=True, slots=True)
class Story:
    """What happens, and what must then be.

    Attributes:
        name: In words.
        series: Each with its values in promtool's notation.
        expected: Queries, each with the result that they have in the end.
        minutes: How long it lasts.
    """

    name: str
    series: tuple[tuple[str, str], ...]
    expected: tuple[tuple[str, tuple[str, ...]], ...]
    minutes: int


def render_rule_tests(header: str, rule_file: str, stories: Iterable[Story]) -> str:
    """Write a test file for one rule file."""
    lines = [header, f"rule_files: [{text(rule_file)}]", "evaluation_interval: 1m", "tests:"]
    for story in stories:
        lines += [f"- name: {text(story.name)}", "  interval: 1m", "  input_series:"]
        lines += [
            f"  - {{series: {text(series)}, values: {text(values)}}}" for series, values in story.series
        ]
        lines.append("  promql_expr_test:")
        for query, samples in story.expected:
            lines += [f"  - expr: {text(query)}", f"    eval_time: {story.minutes}m"]
            lines += ["    exp_samples:" if samples else "    exp_samples: []"]
            lines += [f"    - {sample}" for sample in samples]
    return "\n".join(lines) + "\n"
