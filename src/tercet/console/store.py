"""What the console remembers, bounded by bytes and by rows, safe to use from any thread."""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tercet.console.rows import LogRow, PointRow, SpanRow

_TRACE_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one signal may hold."""

    max_bytes: int
    max_rows: int


class Row(Protocol):
    """Anything that knows about how many bytes of memory it takes."""

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Row)


class Shelf(Generic[K, R]):
    """Keep rows by key within a budget; when it is spent, the oldest key leaves with all its rows."""

    def __init__(self, budget: Budget) -> None:
        self.received = self.rejected = self.evicted = 0
        self._budget = budget
        self._rows: OrderedDict[K, list[R]] = OrderedDict()
        self._bytes = self._count = 0

    def append(self, key: K, row: R) -> None:
        """Add a row to its key."""
        self._rows.setdefault(key, []).append(row)
        self._account(row.size, 1)
        self.received += 1
        self._evict()

    def replace(self, key: K, row: R) -> None:
        """Make this the only row of its key, and the key the youngest."""
        for former in self._rows.pop(key, ()):
            self._account(-former.size, -1)
        self.append(key, row)

    def reject(self) -> None:
        """Count a row that cannot be kept."""
        self.received += 1
        self.rejected += 1

    def at(self, key: K) -> list[R]:
        """Return the rows of one key, oldest first; empty when it was never there or has left."""
        return list(self._rows.get(key, ()))

    def groups(self) -> list[list[R]]:
        """Return the rows of every key, oldest key first."""
        return [list(rows) for rows in self._rows.values()]

    def stats(self) -> dict[str, int]:
        """Return the counts since the start and what is held now."""
        return {
            "received": self.received,
            "rejected": self.rejected,
            "evicted": self.evicted,
            "kept": self._count,
            "bytes": self._bytes,
        }

    def _account(self, size: int, rows: int) -> None:
        self._bytes += size
        self._count += rows

    def _evict(self) -> None:
        while self._bytes > self._budget.max_bytes or self._count > self._budget.max_rows:
            _, rows = self._rows.popitem(last=False)
            self._account(-sum(row.size for row in rows), -len(rows))
            self.evicted += len(rows)


class Store:
    """Hold spans by trace, log records in order of arrival, and the latest point of each series."""

    def __init__(
        self,
        traces: Budget = Budget(max_bytes=64 * 2**20, max_rows=50_000),
        logs: Budget = Budget(max_bytes=32 * 2**20, max_rows=25_000),
        metrics: Budget = Budget(max_bytes=16 * 2**20, max_rows=10_000),
    ) -> None:
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._spans: Shelf[bytes, SpanRow] = Shelf(traces)
        self._logs: Shelf[int, LogRow] = Shelf(logs)
        self._points: Shelf[bytes, PointRow] = Shelf(metrics)

    def add_spans(self, rows: Iterable[SpanRow]) -> int:
        """Keep spans; return how many were rejected for want of a trace id."""
        with self._lock:
            return sum(not self._add_span(row) for row in rows)

    def add_logs(self, rows: Iterable[LogRow]) -> int:
        """Keep log records; none is rejected."""
        with self._lock:
            for row in rows:
                self._logs.append(next(self._order), row)
        return 0

    def add_points(self, rows: Iterable[PointRow]) -> int:
        """Keep the latest point of each series; return how many were rejected for being deltas."""
        with self._lock:
            return sum(not self._add_point(row) for row in rows)

    def trace(self, trace_id: bytes) -> list[SpanRow]:
        """Return the spans of one trace in order of arrival; empty when it is unknown or evicted."""
        with self._lock:
            return self._spans.at(trace_id)

    def traces(self) -> list[list[SpanRow]]:
        """Return every trace, oldest first."""
        with self._lock:
            return self._spans.groups()

    def logs(self) -> list[LogRow]:
        """Return every log record in order of arrival."""
        with self._lock:
            return [row for rows in self._logs.groups() for row in rows]

    def points(self) -> list[PointRow]:
        """Return the latest point of every series."""
        with self._lock:
            return [row for rows in self._points.groups() for row in rows]

    def stats(self) -> dict[str, dict[str, int]]:
        """Return, for each signal, what was received, rejected and evicted, and what is kept."""
        with self._lock:
            shelves: dict[str, Shelf[Any, Any]] = {
                "traces": self._spans,
                "metrics": self._points,
                "logs": self._logs,
            }
            return {signal: shelf.stats() for signal, shelf in shelves.items()}

    def _add_span(self, row: SpanRow) -> bool:
        if len(row.trace_id) != _TRACE_ID_BYTES:
            self._spans.reject()
            return False
        self._spans.append(row.trace_id, row)
        return True

    def _add_point(self, row: PointRow) -> bool:
        if not row.cumulative:
            self._points.reject()
            return False
        former = self._points.at(row.series)
        # Exports may overtake each other; an older total never replaces a newer one.
        latest = max([*former, row], key=lambda point: point.time_unix_nano)
        self._points.replace(row.series, latest)
        return True
