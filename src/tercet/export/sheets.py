r"""What one process has measured, in bytes that another one reads while they are written.

A sheet is a mark, the number of bytes in use, and records that are only ever added. A record is the length
of its text and the count of its numbers, the text (JSON, filled up to eight bytes) and the numbers:

    ["orders","counter","Orders processed.","","last"]    a heading; it goes by its place among the headings
    [0,"status=\"paid\"",[]] 42.0                         a series: heading, labels, bounds, and numbers
    [0,"status=\"paid\"",[],[[1.0,1764000000,81,45]]]     its exemplars: value, nanoseconds, trace, span
    {"folded":["0-4711-8a1f"]}                            a note

A record counts once the number of bytes in use says so, so that a reader never sees half of one. Numbers
change in place; each is eight bytes at a place that eight divides, which processors write and read as one.
"""

import heapq
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from tercet.declare.layout import BUCKETS, COUNT, TOTAL
from tercet.declare.metric import Across, Kind
from tercet.export.exposition import Family, Heading, Measured, Rounded

MARK = b"tercet1\n"
_USED = struct.Struct("=Q")
_RECORD = struct.Struct("=II")
_NUMBER = 8
START = len(MARK) + _USED.size
#: A series: heading, labels, bounds, and its numbers as they are at any moment.
Entry = tuple[Heading, str, tuple[float, ...], "memoryview[float]"]
#: Exemplars that a process tells of, the latest ones; each leads to a trace, and nobody follows more.
MOST_EXEMPLARS = 500


class Records:
    """Write records, one after the other.

    Args:
        write: Takes the bytes of each.
    """

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._places: dict[Heading, int] = {}

    def series(
        self, heading: Heading, labels: str, bounds: tuple[float, ...], numbers: Sequence[float]
    ) -> None:
        """Write a series; its numbers are the last bytes of its record."""
        self._record([self._place(heading), labels, bounds], numbers)

    def exemplars(self, heading: Heading, labels: str, found: Sequence[Measured]) -> None:
        """Write the exemplars of a series."""
        self._record([self._place(heading), labels, (), found])

    def note(self, **note: Any) -> None:
        """Write something about the sheet itself."""
        self._record(note)

    def _place(self, heading: Heading) -> int:
        if heading not in self._places:
            self._record([heading.name, heading.kind, heading.help, heading.unit, heading.across])
            self._places[heading] = len(self._places)
        return self._places[heading]

    def _record(self, content: object, numbers: Sequence[float] = ()) -> None:
        text = json.dumps(content, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _NUMBER)
        packed = struct.pack(f"={len(numbers)}d", *numbers)
        self._write(_RECORD.pack(len(text), len(numbers)) + text + packed)


class Sheet:
    """A sheet that is written once, as a whole."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.records = Records(self._parts.append)

    def add(self, families: Iterable[Family], pause: Callable[[], object] = lambda: None) -> None:
        """Write all that families have measured, without its exemplars; pause after each series."""
        for family in families:
            if family.heading.kind == "info":
                continue
            for labels, (numbers, bounds, _) in family.series.items():
                self.records.series(family.heading, labels, bounds, numbers)
                total = numbers[TOTAL]
                # Each as a series of its own, which is added to the first one again.
                for rest in total.rests() if isinstance(total, Rounded) else ():
                    self.records.series(family.heading, labels, bounds, (rest, *[0.0] * (len(numbers) - 1)))
                pause()

    def add_exemplars(self, families: Iterable[Family]) -> None:
        """Write the latest exemplars of families."""
        found = [
            (exemplar[1], family.heading, labels, exemplar)
            for family in families
            for labels, (_, _, exemplars) in family.series.items()
            for exemplar in exemplars
        ]
        for _, heading, labels, exemplar in heapq.nlargest(MOST_EXEMPLARS, found, key=lambda each: each[0]):
            self.records.exemplars(heading, labels, [exemplar])

    def to_bytes(self) -> bytes:
        """Return the sheet."""
        records = b"".join(self._parts)
        return header(START + len(records)) + records


def header(used: int) -> bytes:
    """Begin a sheet of which so many bytes are in use."""
    return MARK + _USED.pack(used)


class Reading:
    """Read a sheet, and what is added to it later.

    Args:
        view: All of its bytes, those to come included.

    Attributes:
        series: Those so far.
        exemplars: Heading, labels and exemplars.
        notes: What it says about itself.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._at = START
        self._headings: list[Heading] = []
        self.series: list[Entry] = []
        self.exemplars: list[tuple[Heading, str, tuple[Measured, ...]]] = []
        self.notes: dict[str, Any] = {}

    def read_on(self) -> None:
        """Read what is new.

        Raises:
            ValueError: It is no sheet, or a record is none; what is before it has been read.
        """
        try:
            self._read_on()
        except (LookupError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"byte {self._at} begins no record ({error!r})") from error

    def _read_on(self) -> None:
        if bytes(self._view[: len(MARK)]) != MARK:
            raise ValueError("it has another mark")
        (used,) = _USED.unpack_from(self._view, len(MARK))
        if used > len(self._view):
            raise ValueError("it is cut off")
        while self._at < used:
            length, count = _RECORD.unpack_from(self._view, self._at)
            begin = self._at + _RECORD.size
            end = begin + length + count * _NUMBER
            if end > used or not length:
                raise ValueError("it is torn")
            content = json.loads(bytes(self._view[begin : begin + length]))
            self._take(content, self._view[begin + length : end].cast("d"))
            self._at = end

    def _take(self, content: Any, numbers: "memoryview[float]") -> None:
        if isinstance(content, dict):
            self.notes.update(content)
        elif isinstance(content[0], str):
            self._headings.append(_heading(*content))
        else:
            place, labels, bounds, *exemplars = content
            if not isinstance(labels, str):
                raise TypeError("its labels are no text")
            heading = self._headings[place]
            if exemplars:
                self.exemplars.append((heading, labels, tuple(map(tuple, exemplars[0]))))
            elif len(numbers) != _length(heading, bounds, len(numbers)):
                raise ValueError("its numbers are not those of its bounds")
            else:
                self.series.append((heading, labels, tuple(bounds), numbers))


def _length(heading: Heading, bounds: Sequence[float], otherwise: int) -> int:
    """Say how many numbers a series has that others read; the quantiles of a summary are not shared."""
    lengths = {"histogram": BUCKETS + len(bounds) + 1, "summary": COUNT + 1}
    return lengths.get(heading.kind, otherwise)


def _heading(name: str, kind: Any, help_text: str, unit: str, across: Any) -> Heading:
    if kind not in get_args(Kind) or across not in get_args(Across):
        raise ValueError("its kind is unknown")
    return Heading(name, kind, help_text, unit, across)
