"""A Prometheus rule file: what is recorded, what is alerted on, and how both are written."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tercet.declare.burn_rate import duration


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that is computed again and again."""

    record: str
    expression: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rule:
    """An alert as Prometheus has it.

    Attributes:
        alert: Its name.
        expression: It fires for each series of the result.
        lasting: Seconds for which there must be one.
        staying: Seconds for which it fires on when there is none any longer.
        labels: What it is routed by.
        annotations: What people read.
    """

    alert: str
    expression: str
    lasting: int
    staying: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after the other.

    Attributes:
        name: Unique in its file.
        interval: Seconds between two evaluations.
        rules: In the order of their evaluation.
    """

    name: str
    interval: int
    rules: tuple[Recording | Rule, ...]


def render_rule_file(header: str, groups: Iterable[Group]) -> str:
    """Write a rule file."""
    lines = [header, "groups:"]
    for group in groups:
        lines += [f"- name: {text(group.name)}", f"  interval: {duration(group.interval)}", "  rules:"]
        for rule in group.rules:
            lines += _recording(rule) if isinstance(rule, Recording) else _rule(rule)
    return "\n".join(lines) + "\n"


def _recording(recording: Recording) -> Iterator[str]:
    yield f"  - record: {recording.record}"
    yield from _block("expr", recording.expression)
    yield from _table("labels", recording.labels)


def _rule(rule: Rule) -> Iterator[str]:
    yield f"  - alert: {rule.alert}"
    yield from _block("expr", rule.expression)
    if rule.lasting:
        yield f"    for: {duration(rule.lasting)}"
    if rule.staying:
        yield f"    keep_firing_for: {duration(rule.staying)}"
    yield from _table("labels", rule.labels)
    yield from _table("annotations", rule.annotations)


def _block(key: str, value: str) -> Iterator[str]:
    yield f"    {key}: |-"
    yield from (f"      {line}" for line in value.splitlines())


def _table(key: str, values: Mapping[str, str]) -> Iterator[str]:
    yield f"    {key}:"
    for name, value in values.items():
        if "\n" in value:
            yield f"      {name}: |-"
            yield from (f"        {line}".rstrip() for line in value.splitlines())
        else:
            yield f"      {name}: {text(value)}"


def text(value: str) -> str:
    """Write a string that YAML takes for nothing else."""
    return json.dumps(value, ensure_ascii=False)
