"""The workers of one service: each answers a scrape for all of them, and for those that have ended.

    1200-88123-5d0c…/                one directory for each supervisor, private to its user
        0-1207-8a1f66b2.numbers      what a worker counts, mapped into its memory and locked while it lives
        0-1207-8a1f66b2.collected    what it can only collect itself: the SDK's instruments, and exemplars
        retired                      the sums of those that have ended
        lock, port                   held by whoever folds files, or serves the port

Nothing is lost when a worker is killed, for its numbers are not in its own memory; and its lock goes with it.
Whoever finds a file without a lock folds its sums into `retired`, which is replaced as a whole and names what
it holds: at any moment a sum is in one place, also when the one who folds is killed in the middle. Readers
take no lock: where `retired` is still the same after all other files were opened, nothing has moved.
"""

import math
import os
import re
import stat
import time
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol, get_args

from tercet.declare.layout import TOTAL
from tercet.declare.metric import Kind, Metric, Values
from tercet.declare.pace import Pace
from tercet.export import native
from tercet.export.exposition import Exposition, FamilyKind, Heading
from tercet.export.outage import say
from tercet.export.shared import (
    COLLECTED,
    NUMBERS,
    Other,
    Own,
    Retired,
    locked,
    make_private,
    make_trusted,
    remove,
    say_what_is_odd,
    take_lock,
    write,
)
from tercet.export.sheets import Entry, Reading, Sheet

Memory = Callable[[Metric, Values | None, int], Any]
_NAME = re.compile(r"(\d+)-(\d+)-[0-9a-f]{8}")
_DIRECTORY = re.compile(r"(\d+)-(\d+)-[0-9a-f]{12}")
_LOCK, _RETIRED = "lock", "retired"
_JOIN_SECONDS = 5.0
# How often to look for all files while others fold them.
_ATTEMPTS = 20
# Series of one metric that are remembered of ended workers; more are one, so that the total stays.
_MOST_RETIRED = 10_000
_OVERFLOW = 'otel_metric_overflow="true"'
_ALL_KINDS: Container[FamilyKind] = get_args(Kind)
_OF_THE_ENDED: Container[FamilyKind] = ("counter", "histogram", "summary")
_ABANDONED_SECONDS = 60.0
_MOST_SWEPT = 100


class Describes(Protocol):
    """What says how series are shown."""

    def declared(self, metric: Metric) -> Heading:
        """Say what the series of a metric have in common."""
        ...

    def values(self, heading: Heading, metric: Metric, values: Values | None) -> str:
        """Write attribute values as labels."""
        ...


class Workers:
    """The workers of one supervisor, of which this process is one; its forked children become others.

    Args:
        directory: Theirs alone, in a private one.
        interval: Seconds between two looks after it.
        describe: How series are shown.
        publish: Has this process call `publish`.
        move: Has all that this process counts kept in the memory that it is given.

    Raises:
        OSError: The directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        interval: float,
        describe: Describes,
        publish: Callable[[], object],
        move: Callable[[Memory], object],
    ) -> None:
        #: Called at each look, in the process that has made this.
        self.at_each_look: Callable[[], object] = lambda: None
        self._directory = directory
        self._interval = interval
        self._describe = describe
        self._publish = publish
        self._move = move
        self._founder = os.getpid()
        self._retired = Retired(directory / _RETIRED)
        self._renewing = native.RLock()
        self._pid = 0
        self._own: Own | None = None
        self._known: dict[str, Other] = {}
        self._held: dict[str, int] = {}
        self._full = Pace()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._free)
        make_trusted(directory.parent)
        _sweep(directory)
        self._begin()
        move(self.memory)

    def _begin(self) -> None:
        """Become a worker."""
        # No lock of both kinds at once: a request that counts waits for no scrape.
        self._writing, self._reading = native.RLock(), native.RLock()
        self._elsewhere: list[tuple[Heading, str, tuple[float, ...], list[float]]] = []
        self._stopped = native.Event()
        self._own = self._join()
        self._pid = os.getpid()
        native.start_thread(self._look_after, "tercet-workers")

    def _free(self) -> None:
        self._renewing = native.RLock()

    def _join(self) -> Own:
        make_private(self._directory)
        with locked(self._directory / _LOCK, _JOIN_SECONDS):
            taken = {other.number for other in self._others() if other.is_alive()}
            return Own(self._directory, next(number for number in count() if number not in taken))

    def _renew_in_a_child(self) -> None:
        # Asked each time: ledgers may need their memory before any hook of ours runs in a child.
        if self._pid != os.getpid():
            with self._renewing:
                if self._pid != os.getpid():
                    self._renew()

    def _renew(self) -> None:
        if self._own is not None:
            self._own.let_go()
        for other in self._known.values():
            other.close()
        for descriptor in self._held.values():
            os.close(descriptor)
        self._retired.close()
        self._own, self._known, self._held = None, {}, {}
        try:
            self._begin()
        except (OSError, RuntimeError) as error:
            self._pid = os.getpid()
            say("What this process counts cannot be shared: %s", error)

    def memory(self, metric: Metric, values: Values | None, length: int) -> Any:
        """Return a place for so many numbers of a series, where the other workers see them."""
        self._renew_in_a_child()
        zeros = [0.0] * length
        try:
            heading = self._describe.declared(metric)
        except ValueError:  # Prometheus has no name for it.
            return zeros
        labels = self._describe.values(heading, metric, values)
        with self._writing:
            try:
                return (
                    zeros if self._own is None else self._own.numbers(heading, labels, metric.buckets, length)
                )
            except OSError as error:
                self._elsewhere.append((heading, labels, metric.buckets, zeros))
                trouble = error
        if self._full.allows():
            say("Other workers see some numbers of this one late: %s", trouble)
        return zeros

    def publish(self, told: Sheet) -> None:
        """Let the other workers know what only this process can collect."""
        self._renew_in_a_child()
        with self._writing:
            elsewhere = list(self._elsewhere)
        for entry in elsewhere:
            told.records.series(*entry)
        if self._own is not None:
            try:
                write(self._directory / f"{self._own.name}{COLLECTED}", told)
            except OSError as error:
                if self._full.allows():
                    say("Other workers cannot see what this one collects: %s", error)

    def add_others(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Add what the others have measured, those that have ended included; gauges by their rules."""
        self._renew_in_a_child()
        with self._reading:
            if self._own is not None:
                _sign(exposition, self._own.number)
            retired, others = self._see()
            _add(exposition, retired.series, pause=pause)
            for other in others:
                try:
                    _add_other(exposition, other, pause)
                except Exception as error:  # One file must not cost the scrape.
                    say_what_is_odd(other.name, error)

    def holds(self, name: str) -> bool:
        """Say whether this process has a thing to itself; it does from now on, if nobody else does."""
        self._renew_in_a_child()
        with self._reading:
            if name not in self._held:
                with suppress(OSError):
                    self._held[name] = take_lock(self._directory / name)
            return name in self._held

    def close(self) -> None:
        """Look after the directory no more; what has been counted stays."""
        if self._pid == os.getpid():
            self._stopped.set()
            with self._reading:
                while self._held:
                    os.close(self._held.popitem()[1])

    def _look_after(self) -> None:
        stopped = self._stopped
        while not stopped.wait(self._interval):
            try:
                self._stay()
                self._publish()
                self.fold()
                if self._pid == self._founder:
                    self.at_each_look()
            except Exception as error:  # One that fails must not be the last.
                say("The workers' directory could not be looked after: %r", error)

    def _stay(self) -> None:
        """Begin again where somebody has tidied up; what had ended by then is lost."""
        if self._own is None or (self._directory / f"{self._own.name}{NUMBERS}").exists():
            return
        own = self._join()
        with self._writing:
            self._own = own
            self._elsewhere.clear()
        self._move(self.memory)

    def fold(self) -> None:
        """Fold the files of those that have ended into one."""
        self._renew_in_a_child()
        with self._reading:
            if any(not other.is_alive() for other in self._others()):
                with suppress(BlockingIOError), locked(self._directory / _LOCK):
                    self._fold()

    def _fold(self) -> None:
        retired = self._retired.read()
        done = retired.notes.get("folded", [])
        self._remove(done)  # Whoever folded them was killed before it could.
        ended = [other for other in self._others(done) if not other.is_alive()]
        exposition = Exposition()
        _add(exposition, retired.series)
        for other in ended:
            other.look()
            _add(exposition, other.series(), most=_MOST_RETIRED)
        sheet, names = Sheet(), [other.name for other in ended]
        sheet.records.note(folded=names)
        sheet.add(exposition.families)
        self._retired.write(sheet)
        self._remove(names)

    def _remove(self, names: Iterable[str]) -> None:
        for name in filter(_NAME.fullmatch, names):
            remove(self._directory, name)

    def _see(self) -> tuple[Reading, list[Other]]:
        """Open or read all that is to be shown, each sum of it once."""
        for _ in range(_ATTEMPTS):
            retired = self._retired.read()
            others = self._others(retired.notes.get("folded", ()))
            for other in others:
                other.look()
            if self._retired.is_current():
                break
        return retired, others

    def _others(self, done: Iterable[str] = ()) -> list[Other]:
        """List the other workers, but for those that are done with; forget those whose files are gone."""
        try:
            listed = os.listdir(self._directory)
        except OSError:  # Somebody has tidied up.
            listed = []
        names = {each.removesuffix(NUMBERS) for each in listed if each.endswith(NUMBERS)}
        for name in self._known.keys() - names:
            self._known.pop(name).close()
        own = {self._own.name} if self._own is not None else set()
        found = [self._open(name) for name in sorted(names - own - set(done)) if _NAME.fullmatch(name)]
        return [other for other in found if other is not None]

    def _open(self, name: str) -> Other | None:
        if name not in self._known:
            try:
                self._known[name] = Other(self._directory, name)
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                say_what_is_odd(name, error)
                return None
        return self._known[name]


def _add_other(exposition: Exposition, other: Other, pause: Callable[[], object]) -> None:
    kinds = _ALL_KINDS if other.is_alive() else _OF_THE_ENDED
    _add(exposition, other.series(), kinds, number=other.number, pause=pause)
    for heading, labels, exemplars in other.exemplars:
        family = exposition.open(heading)
        series = family.series.get(labels) if family is not None else None
        if family is not None and series is not None:
            numbers, bounds, own = series
            family.series[labels] = numbers, bounds, own + exemplars


def _add(
    exposition: Exposition,
    entries: Iterable[Entry],
    kinds: Container[FamilyKind] = _OF_THE_ENDED,
    *,
    number: int = 0,
    most: float = math.inf,
    pause: Callable[[], object] = lambda: None,
) -> None:
    """Add series of a sheet, of each family at most so many; what is shown of each gets a number."""
    opened = family = None
    for heading, labels, bounds, numbers in entries:
        if heading is not opened:
            opened = heading
            family = exposition.open(heading) if heading.kind in kinds else None
        # A series that is no more has a number that is none.
        if family is not None and numbers[TOTAL] == numbers[TOTAL]:
            text = _signed(labels, number) if _is_of_each(heading) else labels
            is_beyond = len(family.series) >= most and text not in family.series
            family.add(_OVERFLOW if is_beyond else text, (tuple(numbers), bounds, ()))
        pause()


def _sign(exposition: Exposition, number: int) -> None:
    """Put the own number on what is shown of each worker."""
    for family in exposition.families:
        if _is_of_each(family.heading):
            own = {_signed(labels, number): series for labels, series in family.series.items()}
            family.series.clear()
            family.series.update(own)


def _is_of_each(heading: Heading) -> bool:
    return heading.kind == "gauge" and heading.across == "each"


def _signed(labels: str, number: int) -> str:
    return ",".join(filter(None, [labels, f'worker="{number}"']))


def _sweep(own: Path) -> None:
    """Remove directories whose supervisors are no more, some at a time."""
    for directory in list(own.parent.iterdir())[:_MOST_SWEPT]:
        with suppress(OSError):
            if directory != own and _is_abandoned(directory):
                for path in directory.iterdir():
                    path.unlink()
                directory.rmdir()


def _is_abandoned(directory: Path) -> bool:
    named, found = _DIRECTORY.fullmatch(directory.name), directory.lstat()
    is_recent = time.time() - found.st_mtime < _ABANDONED_SECONDS
    if named is None or is_recent or not stat.S_ISDIR(found.st_mode):
        return False
    if began_at(int(named[1])) == int(named[2]):
        return False
    # Its supervisor may live where this process cannot see it, in another container.
    return not any(map(_is_alive, directory.glob(f"*{NUMBERS}")))


def _is_alive(path: Path) -> bool:
    other = Other(path.parent, path.name.removesuffix(NUMBERS))
    try:
        return other.is_alive()
    finally:
        other.close()


def began_at(pid: int) -> int | None:
    """Say when a process began, in ticks since the system did.

    Returns:
        0 where the system does not say it, and None for a process that is no more.
    """
    with suppress(OSError, LookupError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # It is somebody else's.
        return 0
    return 0
