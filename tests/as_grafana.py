"""A dashboard as Grafana reads it: its panels, and what each asks when its variables have values."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import promql_parser as promql
from promql_parser import AggregateExpr, BinaryExpr, Call, MatrixSelector, VectorSelector

# Not `$1`, which is what a regular expression has found.
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)|\$\{([A-Za-z_]\w*)[^}]*\}")


@dataclass(frozen=True)
class Asked:
    """What a panel, a variable or an annotation asks Prometheus."""

    where: str
    expression: str
    legend: str
    is_instant: bool = False

    def filled(self, values: Mapping[str, str], interval: str = "5m") -> str:
        """Fill variables in, each in its own way: a regular expression or what Grafana computes."""
        return filled(self.expression, {**values, "__rate_interval": interval})


@dataclass(frozen=True)
class Page:
    """A generated dashboard."""

    model: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, text: str) -> "Page":
        return cls(json.loads(text))

    @cached_property
    def panels(self) -> list[dict[str, Any]]:
        return [panel for panel in self.model["panels"] if panel["type"] != "row"]

    @cached_property
    def rows(self) -> list[str]:
        return [panel["title"] for panel in self.model["panels"] if panel["type"] == "row"]

    @cached_property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {variable["name"]: variable for variable in self.model["templating"]["list"]}

    @cached_property
    def everything(self) -> dict[str, str]:
        """What each variable stands for when all of it is chosen."""
        return {name: variable.get("allValue", "") for name, variable in self.variables.items()}

    def panel(self, title: str) -> dict[str, Any]:
        (found,) = [panel for panel in self.panels if panel["title"] == title]
        return found

    def columns(self) -> Iterator[tuple[Asked, set[str]]]:
        """List what tables ask Prometheus, each with the labels that are columns of its table."""
        tables = [panel for panel in self.panels if panel["type"] == "table" and panel["transformations"]]
        for panel in tables:
            (shown,) = [each["options"] for each in panel["transformations"] if each["id"] == "organize"]
            labels = {name for name in shown["indexByName"] if not name.startswith("Value")}
            yield from ((asked, labels) for asked in self.asked() if asked.where == panel["title"])

    def asked(self) -> Iterator[Asked]:
        """List all that is asked of Prometheus by panels and annotations."""
        for panel in self.panels:
            for target in panel["targets"]:
                if target["datasource"]["type"] == "prometheus":
                    is_instant = target.get("instant", False)
                    yield Asked(panel["title"], target["expr"], target["legendFormat"], is_instant)
        for annotation in self.model["annotations"]["list"]:
            yield Asked(
                annotation["name"], annotation["target"]["expr"], annotation["target"]["legendFormat"]
            )

    @cached_property
    def parsed(self) -> list[tuple[Asked, Any]]:
        """What is asked, as it is understood when everything is chosen."""
        return [(asked, promql.parse(asked.filled(self.everything))) for asked in self.asked()]

    def links(self) -> Iterator[tuple[str, str]]:
        """List where a click leads, with the panel."""
        for panel in self.panels:
            config = panel["fieldConfig"]
            own = [
                each for each in config["overrides"] for each in each["properties"] if each["id"] == "links"
            ]
            for links in (config["defaults"].get("links", ()), *(each["value"] for each in own)):
                yield from ((panel["title"], link["url"]) for link in links)


def filled(text: str, values: Mapping[str, str]) -> str:
    """Replace the variables that have a value."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], found[0]), text)


def used(text: str) -> set[str]:
    """Name the variables in a text, but for Grafana's own."""
    return {name for pair in _VARIABLE.findall(text) for name in pair if name and not name.startswith("__")}


# What an expression reads.


def nodes(expression: Any) -> Iterator[Any]:
    """List an expression and all within it."""
    found: list[Any] = []
    promql.walk(expression, found.append, lambda _: None)
    yield from found


def selectors(expression: Any) -> Iterator[Any]:
    """List what is selected from Prometheus."""
    for node in nodes(expression):
        if isinstance(node, MatrixSelector):
            yield node.vector_selector
        elif isinstance(node, VectorSelector):
            yield node


def labels(expression: Any) -> Iterator[tuple[Any, str]]:
    """List the labels that are named, each with the expression whose series should have it."""
    for node in nodes(expression):
        if isinstance(node, AggregateExpr) and node.modifier is not None:
            yield from ((node.expr, label) for label in node.modifier.labels)
        elif (
            isinstance(node, BinaryExpr) and node.modifier is not None and node.modifier.matching is not None
        ):
            yield from (
                (side, label) for side in (node.lhs, node.rhs) for label in node.modifier.matching.labels
            )
    for selector in selectors(expression):
        yield from ((selector, matcher.name) for matcher in selector.matchers.matchers)


def calls(expression: Any, name: str) -> Iterator[Any]:
    """List the calls of a function."""
    return (node for node in nodes(expression) if isinstance(node, Call) and node.func.name == name)
