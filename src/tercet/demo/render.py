"""Evidence → text for a terminal: the waterfall of a trace, RED per service, log lines. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tercet.console.answers import LogLine, Node, Red, Span, Use
from tercet.demo.evidence import Evidence, OrderTrace
from tercet.demo.faults import FAULTS, MEMORY_PRESSURE
from tercet.demo.traffic import SLOW_SECONDS, Orders

#: Text and one of STYLES → text.
Paint = Callable[[str, str], str]

STYLES = {"title": "1", "faint": "2", "good": "32", "bad": "31", "bar": "36"}

_MIN_WIDTH = 60
_LABEL_WIDTH = 22
_MIN_TICK_COLUMNS = 9
_NICE_STEPS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)
_CORE_FIELDS = frozenset(
    {"timestamp", "level", "logger", "message", "service", "trace_id", "span_id", "correlation_id"}
)
#: What a line says twice, or at a length that hides the other lines; all of it is in the log.
_LONG_FIELDS = frozenset({"exception.type", "exception.stacktrace"})
_PROTOCOL_ATTRIBUTES = (
    "client.",
    "code.",
    "correlation",
    "http.",
    "network.",
    "server.",
    "url.",
    "user_agent.",
)


def plain(text: str, _: str) -> str:
    """Leave text as it is."""
    return text


def ansi(text: str, style: str) -> str:
    """Colour text for a terminal."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def render_evidence(evidence: Evidence, width: int, paint: Paint = plain) -> str:
    """Render one order as the three signals tell it."""
    parts = [
        render_outcome(evidence["orders"], evidence["faults"], paint),
        render_waterfall(evidence["trace"], width, paint),
        render_red(evidence["red"], paint),
        *([render_use(evidence["use"], paint)] if MEMORY_PRESSURE in evidence["faults"] else []),
        render_logs(evidence["logs"], paint),
    ]
    return "\n\n".join(parts)


def render_outcome(orders: Orders, faults: Iterable[str], paint: Paint = plain) -> str:
    """Render what is broken on purpose, and what became of the orders."""
    broken = [paint(f"Fault {name}: {FAULTS[name].story}", "bad") for name in faults]
    words = f"{orders['sent']} sent, {orders['good']} good, {orders['bad']} bad, {orders['slow']} slow"
    pending = f", {orders['pending']} on the way" if orders["pending"] else ""
    limit = paint(f" (slow: more than {SLOW_SECONDS * 1000:.0f} ms)", "faint")
    return "\n".join([*broken, f"{paint('Orders', 'title')}  {words}{pending}{limit}"])


def render_waterfall(trace: OrderTrace, width: int, paint: Paint = plain) -> str:
    """Render a trace as a tree with offsets, durations and bars over a time axis."""
    columns = max(width, _MIN_WIDTH) - _LABEL_WIDTH - 19
    spans = {span["span_id"]: span for span in trace["spans"]}
    total = max(trace["duration_ms"], 0.001)
    lines = [
        paint(f"Trace {trace['trace_id']}", "title"),
        paint(f"correlation id {_clean(trace['correlation_id'])}", "faint"),
        "",
    ]
    for node, branch, stem in _walk(trace["tree"]):
        span = spans[node["span_id"]]
        lines.append(_waterfall_row(span, branch, total, columns, paint))
        if tags := _tags(span):
            lines.append(paint(_clip(f"{stem}   {tags}", max(width, _MIN_WIDTH)), "faint"))
    lines.append(" " * (_LABEL_WIDTH + 19) + paint(_axis(total, columns), "faint"))
    lines.append(f"Total: {trace['duration_ms']:.1f} ms, {len(spans)} spans")
    return "\n".join(lines)


def render_red(rows: Sequence[Red], paint: Paint = plain) -> str:
    """Render rate, errors and duration as a table, a service a line."""
    head = f"{'RED':<18}{'requests':>9}{'rate':>11}{'errors':>9}{'p50':>11}{'p95':>11}{'p99':>11}"
    return "\n".join([paint(head, "title"), *(_red_row(row, paint) for row in rows)])


def render_use(rows: Sequence[Use], paint: Paint = plain) -> str:
    """Render what each service uses."""
    head = f"{'USE':<18}{'memory':>9}"
    return "\n".join([paint(head, "title"), *map(_use_row, rows)])


def render_logs(lines: Sequence[LogLine], paint: Paint = plain) -> str:
    """Render log lines whole: the terminal may wrap them."""
    rows = [_log_row(line, paint) for line in lines]
    return "\n".join([paint("Logs of this correlation id", "title"), *rows])


def render_sent(trace_id: str, requests_sent: int, otlp: str) -> str:
    """Render what there is to say when an outside collector has the telemetry."""
    orders = "order" if requests_sent == 1 else "orders"
    return f"{requests_sent} {orders} sent to {otlp}. Look there for trace {trace_id}."


def render_undelivered(said: Mapping[str, Sequence[str]], paint: Paint = plain) -> str:
    """Render what services say of telemetry that they cannot deliver."""
    rows = [f"{_clean(name):<16} {_clean(line)}" for name, lines in said.items() for line in lines]
    return "\n".join([paint("Undelivered, as the services say", "title"), *(rows or ["nothing yet"])])


def render_progress(done: int, total: int, columns: int = 30) -> str:
    """Render a progress bar on one line."""
    filled = columns * done // total
    return f"[{'#' * filled}{'.' * (columns - filled)}] {done}/{total} orders"


def _walk(node: Node, branch: str = "", stem: str = "") -> Iterator[tuple[Node, str, str]]:
    """Yield each node with what stands before its name, and before a line that follows it."""
    children = node["children"]
    yield node, branch, stem + ("│" if children else " ")
    for child in children:
        last = child is children[-1]
        below = stem + ("   " if last else "│  ")
        yield from _walk(child, stem + ("└─ " if last else "├─ "), below)


def _waterfall_row(span: Span, branch: str, total: float, columns: int, paint: Paint) -> str:
    label = _clip(branch + _clean(_label(span)), _LABEL_WIDTH)
    times = f"{span['start_ms']:>7.1f} {span['duration_ms']:>7.1f} ms "
    style = "bad" if span["status"] == "error" else "bar"
    return f"{label:<{_LABEL_WIDTH}}{times}{paint(_bar(span, total, columns), style)}".rstrip()


def _label(span: Span) -> str:
    """A service speaks for the requests it serves; any other span has a name of its own."""
    return span["service"] if span["kind"] == "server" else span["name"]


def _bar(span: Span, total: float, columns: int) -> str:
    left = min(int(span["start_ms"] / total * columns), columns - 1)
    length = max(1, min(round(span["duration_ms"] / total * columns), columns - left))
    return " " * left + ("│" if length == 1 else f"├{'─' * (length - 2)}┤")


def _axis(total: float, columns: int) -> str:
    step = _tick_step(total, columns)
    line = ""
    for tick in range(0, int(total) + 1, step):
        label = f"{tick}ms"
        column = min(int(tick / total * columns), columns - len(label))
        if column > len(line) or not tick:
            line = line.ljust(column) + label
    return line


def _tick_step(total: float, columns: int) -> int:
    wide_enough = (step for step in _NICE_STEPS if step / total * columns >= _MIN_TICK_COLUMNS)
    return next(wide_enough, int(total) + 1)


def _tags(span: Span) -> str:
    """What the application said, without what the protocol says of every request; and whom it called."""
    attributes = span["attributes"]
    own = {key: value for key, value in attributes.items() if not key.startswith(_PROTOCOL_ATTRIBUTES)}
    called = {key: attributes[key] for key in ("url.full",) if span["kind"] == "client" and key in attributes}
    return _pairs(own | called)


def _red_row(row: Red, paint: Paint) -> str:
    rate = "-" if row["rate"] is None else f"{row['rate']:.1f}/s"
    errors = paint(f"{row['error_ratio']:>9.1%}", "bad" if row["errors"] else "good")
    durations = (row["p50_ms"], row["p95_ms"], row["p99_ms"])
    cells = "".join("          -" if value is None else f"{value:>8.1f} ms" for value in durations)
    return f"{_clip(_clean(row['service']), 17):<18}{row['requests']:>9}{rate:>11}{errors}{cells}"


def _use_row(row: Use) -> str:
    used = "-" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 2**20:.0f} MiB"
    return f"{_clip(_clean(row['service']), 17):<18}{used:>9}"


def _log_row(line: LogLine, paint: Paint) -> str:
    clock = line["timestamp"].partition("T")[2][:12]
    fields = _pairs({key: value for key, value in line.items() if key not in _CORE_FIELDS | _LONG_FIELDS})
    level = _clip(_clean(line["level"]), 7)
    rest = f"{_clean(line['service']):<16} {_clean(line['message']):<18} {fields}"
    style = "bad" if level in {"ERROR", "CRITICAL", "FATAL"} else "good"
    return f"{paint(clock, 'faint')} {paint(f'{level:<7}', style)} {rest}".rstrip()


def _pairs(fields: Mapping[str, Any]) -> str:
    return " ".join(f"{_clean(key)}={_clean(value)}" for key, value in fields.items())


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _clean(value: object) -> str:
    """Make a value safe to print: telemetry is foreign text, and may hold a terminal's control sequences."""
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in str(value)
    )
