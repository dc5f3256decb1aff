"""Values that know where they stand, in YAML or in code, so that each mistake is told with its line."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeVar

from tercet.declare.parse import Unusable, shown
from tercet.errors import ObjectivesError, SetupError

T = TypeVar("T")


class Node(Protocol):
    """What PyYAML makes of a part of a document; `id` is scalar, sequence or mapping."""

    id: str
    tag: str
    value: Any
    start_mark: Any


def compose(text: str, source: str) -> "Value":
    """Read YAML without making anything of it yet.

    Args:
        text: The YAML.
        source: Its file's name, for messages.

    Raises:
        ObjectivesError: It is no YAML, or empty, or several documents.
        SetupError: PyYAML is not installed.
    """
    first, *more = compose_all(text, source)
    if more:
        raise more[0].refused("the only one of its file", "Put it into a file of its own.")
    return first


def compose_all(text: str, source: str) -> "list[Value]":
    """Read each document of a file of YAML.

    Args:
        text: The YAML.
        source: Its file's name, for messages.

    Raises:
        ObjectivesError: It is no YAML, or empty.
        SetupError: PyYAML is not installed.
    """
    try:
        import yaml  # an extra: services that only emit do without
    except ImportError:
        raise SetupError(
            'tercet generate needs PyYAML. Install it with: pip install "tercet[generate]"'
        ) from None
    try:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        nodes: list[Any] = [node for node in yaml.compose_all(text, loader) if node.value != ""]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ObjectivesError(
            f"{source}:{line}: the document must be YAML, got: {error.problem}. Correct the line."
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        what = str(error).splitlines()[0]
        raise ObjectivesError(f"{source}: the document must be YAML, got: {what}. Correct it.") from None
    if not nodes:
        raise ObjectivesError(f"{source}: the document must hold objectives, got nothing. Write one.")
    return [Value(source, "", node) for node in nodes]


def say(content: object, source: str, line: int, path: str) -> "Value":
    """Take what code says for a value of a document, so that the same rules hold for both.

    Args:
        content: Mappings, lists, texts and numbers; None is what is not there.
        source: The file of the code.
        line: Where it is said.
        path: How messages call it.
    """
    return Value(source, path, _said(content, _Mark(line - 1)))


@dataclass(slots=True)
class _Mark:
    line: int


@dataclass(slots=True)
class _Said:
    """A part of what code says, as PyYAML would have it."""

    value: Any
    start_mark: Any
    id: str = "scalar"
    tag: str = ""


def _said(content: object, mark: _Mark) -> _Said:
    if isinstance(content, Mapping):
        pairs = [(_said(key, mark), _said(each, mark)) for key, each in content.items()]
        return _Said(pairs, mark, "mapping")
    if isinstance(content, list | tuple | set | frozenset):
        return _Said([_said(each, mark) for each in content], mark, "sequence")
    if isinstance(content, float):  # Without an exponent, which nobody writes in a document.
        return _Said(f"{Decimal(repr(float(content))):f}", mark)
    text = "" if content is None else str(content)
    return _Said(text, mark, tag=":str" if isinstance(content, str) else "")


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the document.

    Nodes are looked at where they are, so an alias costs nothing, however often it is repeated.

    Attributes:
        source: The document's name.
        path: What leads to the value, `objectives[2].target`.
        node: What YAML makes of it.
    """

    source: str
    path: str
    node: Node

    @property
    def line(self) -> int:
        """Where it begins."""
        return int(self.node.start_mark.line) + 1

    @property
    def place(self) -> str:
        """File and line, as messages begin."""
        return f"{self.source}:{self.line}"

    def refused(self, rule: str, mend: str) -> ObjectivesError:
        """Say which rule it breaks, and how to mend it."""
        name = self.path or "the document"
        return ObjectivesError(f"{self.place}: {name} must be {rule}, got {self._shown()}. {mend}")

    def _shown(self) -> str:
        if self.node.id != "scalar":
            return f"a {self.node.id}"
        if self.node.tag.endswith(":str"):
            return shown(self.node.value)
        return str(self.node.value) or "nothing"

    def read(self, parser: Callable[[str], T]) -> T:
        """Parse it: from its text, so that YAML's own ideas of `off` and `1:30` do not matter."""
        if self.node.id != "scalar":
            raise self.refused("one value", "Write it behind the colon.")
        try:
            return parser(self.node.value)
        except Unusable as unusable:
            raise self.refused(unusable.rule, unusable.mend) from None

    def each(self) -> "list[Value]":
        """List the items of a sequence; a single value is a sequence of one."""
        if self.node.id == "mapping":
            raise self.refused("a list", "Begin each item with a dash.")
        if self.node.id == "scalar":
            return [self]
        return [
            Value(self.source, f"{self.path}[{index}]", node) for index, node in enumerate(self.node.value)
        ]

    def some(self) -> "list[Value]":
        """List the items of a sequence that must have one."""
        items = self.each()
        if not items:
            raise self.refused("a list of values", "Write one.")
        return items

    def fields(self, *known: str) -> "Fields":
        """Name the values of a mapping.

        Args:
            known: The keys that it may have; any when empty.
        """
        if self.node.id != "mapping":
            raise self.refused("a mapping", "Write indented lines of key: value.")
        fields = Fields(self)
        for key, node in self.node.value:
            name = key.value if key.id == "scalar" else f"a {key.id}"
            path = f"{self.path}.{name}".lstrip(".")
            if known and name not in known:
                raise self._unknown(Value(self.source, path, key), name, known)
            if name in fields:
                raise Value(self.source, path, key).refused("given once", "Remove one of the two.")
            fields[name] = Value(self.source, path, node)
        return fields

    def _unknown(self, key: "Value", name: str, known: tuple[str, ...]) -> ObjectivesError:
        close = difflib.get_close_matches(name, known, n=1)
        mend = f"Did you mean {close[0]}?" if close else "Remove it."
        return key.refused(f"one of {', '.join(known)}", mend)


class Fields(dict[str, Value]):
    """The values of a mapping by key, and the mapping as a whole."""

    def __init__(self, whole: Value) -> None:
        super().__init__()
        self.whole = whole

    def needed(self, key: str, mend: str) -> Value:
        """Return a value that must be there."""
        if key not in self:
            name = f"{self.whole.path}.{key}".lstrip(".")
            raise ObjectivesError(f"{self.whole.place}: {name} must be given, got nothing. {mend}")
        return self[key]

    def read(self, key: str, parser: Callable[[str], T], default: T) -> T:
        """Parse a value that may be left out."""
        return self[key].read(parser) if key in self else default

    def items_of(self, key: str) -> list[Value]:
        """List the items of a sequence that may be left out."""
        return self[key].each() if key in self else []


def say_beside(fields: Fields, key: str, content: object) -> Value:
    """Take what was meant for said, beside what was."""
    return say(content, fields.whole.source, fields.whole.line, f"{fields.whole.path}.{key}")
