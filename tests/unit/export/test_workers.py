"""Workers that share what they count: sums, gauges by their rules, those that have ended, and what is odd."""

import json
import logging
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import TraceBasedExemplarFilter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags
from prometheus_client.openmetrics import parser

from tercet.declare.metric import Metric
from tercet.emit.registry import build_ledger
from tercet.export import shared
from tercet.export.metered import LeanMeterProvider
from tercet.export.prometheus import PrometheusReader
from tercet.export.workers import Workers, began_at

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")

ORDERS = Metric("orders", "counter", "{order}", "Orders processed.", attributes=("status",))
WAITED = Metric("waited", "histogram", "s", "Time waited.", attributes=("queue",), buckets=(0.1, 1.0))
OPEN = Metric("open", "up_down_counter", "{order}", "Orders that are open.")
SAMPLED = SpanContext(0xA1, 0xB2, False, TraceFlags(1))
HOUR = 3600.0


class Worker:
    """The metrics of one process, shared with others."""

    def __init__(self, directory, interval=HOUR):
        self.reader = PrometheusReader()
        resource = Resource({"service.name": "shop", "service.instance.id": str(os.getpid())})
        self.provider = LeanMeterProvider([self.reader], resource, TraceBasedExemplarFilter(), [])
        self.meter = self.provider.get_meter("test")
        self.workers = self.reader.workers = Workers(
            directory, interval, self.reader.describe, self.reader.publish, self.provider.move
        )

    def take(self, metric):
        return self.meter.take(build_ledger(metric))

    def samples(self):
        families = parser.text_string_to_metric_families(self.reader.render(openmetrics=True).decode())
        return [sample for family in families for sample in family.samples]

    def values(self):
        return {
            (sample.name, *sample.labels.values()): sample.value
            for sample in self.samples()
            if sample.name != "target_info"
        }

    def count(self):
        """One order, half a second, an open one, and one more of the SDK's."""
        self.take(ORDERS).add(1, ("paid",), INVALID_SPAN_CONTEXT)
        self.take(WAITED).record(0.5, ("mail",), SAMPLED)
        self.take(OPEN).add(1, (), INVALID_SPAN_CONTEXT)
        self.meter.create_counter("asked").add(1)
        self.meter.create_up_down_counter("busy").add(1)
        self.reader.publish()


COUNTED = {
    ("orders_total", "paid"): 1,
    ("waited_seconds_bucket", "mail", "0.1"): 0,
    ("waited_seconds_bucket", "mail", "1.0"): 1,
    ("waited_seconds_bucket", "mail", "+Inf"): 1,
    ("waited_seconds_sum", "mail"): 0.5,
    ("waited_seconds_count", "mail"): 1,
    ("open",): 1,
    ("asked_total",): 1,
    ("busy",): 1,
}


def times(number, alive):
    """What is shown of so many workers, of whom some are alive."""
    return {
        key: value * (alive if key in {("open",), ("busy",)} else number) for key, value in COUNTED.items()
    }


class Child:
    """A forked process that acts, and lives until it is ended."""

    def __init__(self, act):
        ready, said = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.alarm(60)
                os.write(said, json.dumps(act()).encode() + b"\n")
                threading.Event().wait(60)
            finally:
                os._exit(1)
        os.close(said)
        with open(ready, "rb") as pipe:
            self.said = json.loads(pipe.readline())

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "private" / "1-2-0123456789ab"


@pytest.fixture
def start(directory):
    """Start another worker, which does what a function says; it is ended with the test."""
    children = []

    def begin(act=Worker.count):
        children.append(Child(lambda: act(Worker(directory))))
        return children[-1]

    yield begin
    for child in children:
        try:
            child.kill()
        except ProcessLookupError:
            pass
        except ChildProcessError:
            pass


@pytest.fixture
def worker(directory):
    made = Worker(directory)
    yield made
    made.workers.close()


def files(directory, suffix=".numbers"):
    return sorted(path.name for path in directory.glob(f"*{suffix}"))


def test_a_scrape_tells_of_all_workers(worker, start):
    """Sums of ledgers and of the SDK's instruments; one target; an exemplar that another one has."""
    start()
    start()
    worker.count()
    assert worker.values() == times(3, alive=3)
    samples = worker.samples()
    assert [s.labels for s in samples if s.name == "target_info"] == [{"service_name": "shop"}]
    assert [s.exemplar.value for s in samples if s.exemplar] == [0.5]


def test_each_worker_tells_the_same(worker, start):
    """Whichever is asked."""
    worker.count()

    def ask(other):
        other.count()
        return [[*key, value] for key, value in other.values().items()]

    assert sorted(start(ask).said) == sorted([*key, value] for key, value in times(2, alive=2).items())


def test_what_a_killed_worker_counted_stays(worker, start, directory):
    """Its sums do, at once and when its files are folded; what was going on in it does not."""
    child = start()
    worker.count()
    child.kill()
    assert worker.values() == times(2, alive=1)
    worker.workers.fold()
    assert (worker.values(), len(files(directory))) == (times(2, alive=1), 1)


def test_summaries_of_workers_add_up_without_quantiles(worker, start):
    """Sum and count only grow, whoever ends; one process alone has quantiles as well."""
    size = Metric("size", "summary", "", "Size.", quantiles=(0.5,), window=60.0)

    def measure(one):
        ledger = one.take(size)
        ledger.record_to(ledger.series(()), 4.0, INVALID_SPAN_CONTEXT)

    measure(worker)
    assert set(worker.values()) == {("size", "0.5"), ("size_sum",), ("size_count",)}
    child = start(measure)
    both = {("size_sum",): 8, ("size_count",): 2}
    assert worker.values() == both
    child.kill()
    assert worker.values() == both
    worker.workers.fold()
    assert worker.values() == both


def test_thousands_of_restarts_leave_two_files(worker, start, directory):
    """Each is folded into what is there already."""
    worker.count()
    for _ in range(5):
        start().kill()
        worker.workers.fold()
    assert worker.values() == times(6, alive=1)
    kept = sorted(path.suffix or path.name for path in directory.iterdir())
    assert kept == [".collected", ".numbers", "lock", "retired"]


def test_a_fold_that_is_cut_short_counts_nothing_twice(worker, start, directory, monkeypatch):
    """Killed after the sums were written and before the files were removed: the next one removes them."""
    start().kill()
    worker.count()
    with monkeypatch.context() as patched:
        patched.setattr("tercet.export.workers.remove", lambda *_: None)
        worker.workers.fold()
    assert (worker.values(), len(files(directory))) == (times(2, alive=1), 2)
    start().kill()
    worker.workers.fold()
    assert (worker.values(), len(files(directory))) == (times(3, alive=1), 1)


def test_nothing_is_lost_or_doubled_when_folds_and_scrapes_meet(worker, start):
    """Scrapes without a lock, in other processes, while files go: the total is the same in each."""
    ended = [start() for _ in range(6)]
    worker.count()

    def scrape(other):
        deadline, seen = time.monotonic() + 2, set()
        while time.monotonic() < deadline:
            seen.add(other.values()["orders_total", "paid"])
        return sorted(seen)

    found = []
    thread = threading.Thread(target=lambda: found.append(start(scrape).said))
    thread.start()
    for child in ended:
        child.kill()
        worker.workers.fold()
        time.sleep(0.2)
    thread.join()
    assert found == [[7.0]]


def test_a_worker_that_is_folded_in_the_middle_of_a_scrape_is_shown_whole(worker, start, monkeypatch):
    """Both what it counted in shared memory and what only it could collect: its files were seen before."""
    worker.count()
    child, see = start(), worker.workers._see

    def see_before_another_folds():
        seen = see()
        child.kill()
        start(lambda other: other.workers.fold())
        return seen

    monkeypatch.setattr(worker.workers, "_see", see_before_another_folds)
    assert worker.values() == times(2, alive=1)


@pytest.mark.parametrize(
    ("across", "shown"),
    [
        ("last", {("level",): 2.0}),
        ("sum", {("level",): 9.0}),
        ("max", {("level",): 7.0}),
        ("min", {("level",): 2.0}),
        ("each", {("level", "0"): 7.0, ("level", "1"): 2.0}),
    ],
)
def test_a_gauge_is_shown_by_its_rule(worker, start, across, shown):
    """Of the workers that live; a label `worker` of one's own stays."""
    level = Metric("level", "gauge", "", "How high.", across=across)
    worker.take(level).set(7, ())
    child = start(lambda other: other.take(level).set(2, ()))
    assert worker.values() == shown
    child.kill()
    alone = {key: 7.0 for key in shown if key in {("level",), ("level", "0")}}
    assert worker.values() == alone


@pytest.mark.parametrize("kind", ["gauge", "up_down_counter"])
def test_a_state_that_is_no_more_is_shown_by_nobody(worker, start, kind):
    """Its place in the file stays, and says so; what comes back gets another one."""
    level = Metric("level", kind, "", "How high.", attributes=("tank",))

    def tell(other):
        ledger = other.take(level)
        for tank in ("left", "right"):
            ledger.reach(ledger.series((tank,)), 2)
        ledger.keep_only({id(ledger.series(("left",)))})

    start(tell)
    assert worker.values() == {("level", "left"): 2}


def test_gauges_of_the_sdk_about_a_process_are_shown_of_each(worker, start):
    """One process's share means nothing in place of another's; any other gauge is that of the last."""

    def set_both(other):
        other.meter.create_gauge("process.uptime", "s").set(os.getpid())
        other.meter.create_gauge("stock").set(5)
        other.reader.publish()

    set_both(worker)
    child = start(set_both)
    assert worker.values() == {
        ("process_uptime_seconds", "0"): os.getpid(),
        ("process_uptime_seconds", "1"): child.pid,
        ("stock",): 5,
    }


def test_workers_with_other_bounds_share_what_they_can(worker, start):
    """While a new configuration is rolled out, the bounds that both have stay exact."""
    other = Metric("waited", "histogram", "s", "Time waited.", attributes=("queue",), buckets=(0.3, 1.0))
    worker.take(WAITED).record(0.2, ("mail",), INVALID_SPAN_CONTEXT)
    start(lambda there: there.take(other).record(0.2, ("mail",), INVALID_SPAN_CONTEXT))
    buckets = {key[2]: value for key, value in worker.values().items() if key[0].endswith("_bucket")}
    assert buckets == {"1.0": 2, "+Inf": 2}


def test_a_child_of_a_worker_is_one_of_them(worker, directory):
    """It counts from zero in a file of its own, and its parent goes on in its own."""
    orders = worker.take(ORDERS)
    orders.series(("paid",), is_kept=True)
    orders.add(1, ("paid",), INVALID_SPAN_CONTEXT)

    def work():
        orders.add(10, ("paid",), INVALID_SPAN_CONTEXT)
        return [worker.workers.holds("port"), worker.values()["orders_total", "paid"]]

    assert worker.workers.holds("port")
    child = Child(work)
    assert child.said == [False, 11]
    orders.add(1, ("paid",), INVALID_SPAN_CONTEXT)
    assert (worker.values(), len(files(directory))) == ({("orders_total", "paid"): 12}, 2)
    child.kill()
    worker.workers.fold()
    assert (worker.values(), len(files(directory))) == ({("orders_total", "paid"): 12}, 1)


def test_one_worker_holds_a_thing_until_it_ends(worker, start):
    """Then another one may."""
    child = start(lambda other: other.workers.holds("port"))
    assert (child.said, worker.workers.holds("port")) == (True, False)
    child.kill()
    assert (worker.workers.holds("port"), worker.workers.holds("port")) == (True, True)
    worker.workers.close()
    assert start(lambda other: other.workers.holds("port")).said


def test_the_last_of_it_is_told_at_shutdown(worker, start):
    """Also of the instruments that only this process can collect."""

    def work(other):
        other.meter.create_counter("asked").add(3)
        other.reader.shutdown()
        other.reader.shutdown()

    start(work).kill()
    assert worker.values() == {("asked_total",): 3}


def test_a_worker_looks_after_the_directory(directory, start):
    """In intervals it publishes, folds, and does what it is told to; one that fails is not the last."""
    worker = Worker(directory, interval=0.01)
    looks, enough = [], threading.Event()

    def look():
        looks.append(len(files(directory)))
        if looks[-1] == 1 and len(looks) > 3:
            enough.set()
        raise RuntimeError("one that fails")

    start().kill()
    worker.workers.at_each_look = look
    assert enough.wait(20)
    worker.workers.close()
    assert files(directory, ".collected") == [files(directory)[0].replace("numbers", "collected")]


def test_it_begins_again_where_somebody_has_tidied_up(directory, start):
    """Its own numbers are all there, where the others find them."""
    worker = Worker(directory, interval=0.01)
    worker.count()
    # The worker looks every hundredth of a second, and may write while it is tidied up.
    gone = directory.with_suffix(".gone")
    directory.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    while not files(directory):
        assert worker.values()["orders_total", "paid"] == 1  # a scrape meanwhile does not fail
        time.sleep(0.01)
    worker.take(ORDERS).add(1, ("paid",), INVALID_SPAN_CONTEXT)
    seen = start(lambda other: [other.samples(), other.values()["orders_total", "paid"]][1]).said
    worker.workers.close()
    assert seen == 2


def test_what_finds_no_room_is_told_of_with_the_rest(worker, start, monkeypatch, caplog):
    """On a full disk, other workers see a new series at the next look, and no scrape loses it."""
    worker.count()
    monkeypatch.setattr(shared, "SIZE", 0)
    for status in ("late", "later"):
        worker.take(ORDERS).add(5, (status,), INVALID_SPAN_CONTEXT)
    worker.reader.publish()
    monkeypatch.undo()
    seen = {("orders_total", "late"): 5, ("orders_total", "later"): 5}
    assert worker.values() == {**COUNTED, **seen}
    assert start(lambda other: other.values()["orders_total", "later"]).said == 5
    assert len([each for each in caplog.records if "late: " in each.getMessage()]) == 1


def test_a_new_process_becomes_a_worker_of_its_own(directory, start, monkeypatch, caplog):
    """What happens in a forked child, seen from within; and where it cannot, it counts for itself."""
    worker = Worker(directory)
    worker.count()
    start()
    assert worker.workers.holds("port")
    worker.values()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    worker.workers._free()
    worker.take(WAITED).record(1, ("other",), INVALID_SPAN_CONTEXT)
    assert len(files(directory)) == 3
    worker.workers.close()
    monkeypatch.setattr(os, "getpid", lambda: pid + 2)
    monkeypatch.setattr(
        "tercet.export.workers.Own", lambda *_: (_ for _ in ()).throw(OSError(28, "No space"))
    )
    worker.take(WAITED).record(1, ("another",), INVALID_SPAN_CONTEXT)
    assert "cannot be shared" in caplog.text
    assert worker.values()["waited_seconds_count", "another"] == 1
    worker.workers.close()


def test_a_metric_without_a_name_is_kept_by_itself(worker, start):
    """Prometheus has no name for it, and the others ask for none."""
    worker.take(Metric("日本", "counter", "", "")).add(1, (), INVALID_SPAN_CONTEXT)
    assert worker.values() == {}


def test_torn_and_foreign_files_cost_only_themselves(worker, start, directory, caplog):
    """Whatever lies in the directory, a scrape tells of the rest; one line says what is odd."""
    shared._odd.__init__()
    worker.count()
    start()
    for name in ("7-1-00000000", "8-1-00000000", "9-1-00000000"):
        (directory / f"{name}.numbers").write_bytes(
            {"7": b"", "8": b"garbage", "9": b"tercet1\n" * 4}[name[0]]
        )
    (directory / "6-1-00000000.numbers").symlink_to("/etc/passwd")
    (directory / "notes.txt").write_text("not ours")
    (directory / "x.numbers").write_text("not ours")
    assert worker.values() == times(2, alive=2)
    worker.workers.fold()
    assert worker.values() == times(2, alive=2)
    assert len([each for each in caplog.records if "cannot be read" in each.getMessage()]) == 1


def test_retired_sums_that_are_damaged_do_not_fail_a_scrape(worker, start, directory, caplog):
    """What is before the damage counts."""
    shared._odd.__init__()
    start().kill()
    worker.count()
    worker.workers.fold()
    (directory / "retired").write_bytes((directory / "retired").read_bytes()[:-8])
    assert worker.values()["open",] == 1
    assert "retired" in caplog.text


def test_series_of_the_ended_are_limited(worker, start, monkeypatch):
    """Those beyond are one, and the total stays."""
    monkeypatch.setattr("tercet.export.workers._MOST_RETIRED", 2)

    def work(other):
        for number in range(5):
            other.take(ORDERS).add(1, (str(number),), INVALID_SPAN_CONTEXT)

    start(work).kill()
    worker.workers.fold()
    assert worker.values() == {
        ("orders_total", "0"): 1,
        ("orders_total", "1"): 1,
        ("orders_total", "true"): 3,
    }


@pytest.mark.parametrize("trouble", ["others", "file", "link"])
def test_a_directory_that_others_can_use_is_refused(tmp_path, trouble):
    """Somebody else may have made it, to read or to write there."""
    private = tmp_path / "1-2-0123456789ab"
    if trouble == "file":
        private.write_text("")
    elif trouble == "link":
        (tmp_path / "theirs").mkdir()
        private.symlink_to(tmp_path / "theirs")
    else:
        private.mkdir(mode=0o755)
    with pytest.raises(OSError, match=r"of this user alone|exists"):
        Worker(private)


def test_a_place_that_somebody_else_has_made_is_refused(directory, monkeypatch):
    """The name of the user's own place can be guessed."""
    directory.parent.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(Path, "stat", lambda _: os.stat_result((0o40700, 1, 1, 1, 12345, 0, 0, 0, 0, 0)))
    with pytest.raises(OSError, match="somebody else"):
        shared.make_trusted(directory.parent)


def test_everything_is_for_this_user_alone(worker, directory):
    """Labels may hold what users typed."""
    worker.count()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert (modes, stat.S_IMODE(directory.stat().st_mode)) == ({0o600}, 0o700)


def test_directories_of_the_ended_are_swept(directory, start):
    """Those of supervisors that live stay, as do those in which a worker lives, and whatever is not ours."""
    private = directory.parent
    start()
    child = start()
    old = time.time() - HOUR
    gone = Child(lambda: None)
    gone.kill()
    names = {
        "ended": f"{gone.pid}-1-00000000000a",
        "recent": f"{gone.pid}-1-00000000000b",
        "alive": f"{os.getpid()}-{began_at(os.getpid())}-00000000000c",
        "foreign": "notes",
    }
    for name in names.values():
        (private / name).mkdir()
        (private / name / "retired").write_bytes(b"")
        if name != names["recent"]:
            os.utime(private / name, (old, old))
    os.utime(directory, (old, old))
    Worker(private / "1-3-0123456789ab").workers.close()
    kept = {path.name for path in private.iterdir()}
    assert kept == {directory.name, "1-3-0123456789ab", *names.values()} - {names["ended"]}
    child.kill()


def test_a_process_has_a_beginning(monkeypatch):
    """Where the system does not say it, only whether it lives is known."""
    assert began_at(os.getpid()) > 0
    gone = Child(lambda: None)
    gone.kill()
    assert began_at(gone.pid) is None
    monkeypatch.setattr(Path, "read_text", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert (began_at(os.getpid()), began_at(gone.pid)) == (0, None)
    monkeypatch.setattr(os, "kill", lambda *_: (_ for _ in ()).throw(PermissionError()))
    assert began_at(1) == 0


def test_a_system_without_locks_shares_nothing(monkeypatch, directory):
    """There, each worker speaks for itself."""
    monkeypatch.setattr(shared, "fcntl", None)
    with pytest.raises(OSError, match="no locks"):
        Worker(directory)


def test_a_disk_that_takes_nothing_does_not_fail_a_scrape(worker, directory, monkeypatch, caplog):
    """What this worker tells itself is whole."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    worker.count()
    assert worker.values() == COUNTED
    assert "No space left" in caplog.text
    assert Child(
        lambda: [worker.take(ORDERS).add(1, ("x",), SAMPLED), worker.values()["orders_total", "x"]]
    ).said


def test_a_disk_that_is_full_at_the_start_leaves_nothing_behind(directory, monkeypatch):
    """And the worker is told so."""
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        Worker(directory)
    assert files(directory, ".n*") == []


def test_a_worker_waits_for_who_folds(directory, start):
    """The lock of the directory is held for moments; one that is not free for long is an error."""
    child = start(lambda other: other.workers.holds("lock"))
    assert child.said
    with pytest.raises(BlockingIOError), shared.locked(directory / "lock", seconds=0.05):
        pass
    child.kill()
    with shared.locked(directory / "lock", seconds=0.05):
        pass


def test_an_odd_worker_does_not_cost_the_scrape(worker, start, monkeypatch, caplog):
    """Whatever goes wrong with the files of one."""
    shared._odd.__init__()
    worker.count()
    start()
    monkeypatch.setattr(shared.Other, "series", lambda _: 1 / 0)
    assert worker.values() == COUNTED
    assert "cannot be read" in caplog.text


def test_files_that_go_while_they_are_looked_for_are_left_out(worker, start, directory, monkeypatch):
    """Somebody removes them by hand."""
    worker.count()
    start().kill()
    monkeypatch.setattr("tercet.export.workers.Other", lambda *_: (_ for _ in ()).throw(FileNotFoundError()))
    assert worker.values() == COUNTED


def test_a_histogram_that_gets_a_boundary_is_seen_with_it(worker, start):
    """An objective is declared when the series is shared already: what it was is no more, for any worker."""

    def measure(each):
        histogram = each.take(WAITED)
        histogram.series(("mail",), is_kept=True)
        is_bound = histogram.bound_at([0.3])
        histogram.record(0.25, ("mail",), INVALID_SPAN_CONTEXT)
        return is_bound and each.reader.publish()

    start(measure), measure(worker)
    buckets = {key[2]: n for key, n in worker.values().items() if key[0] == "waited_seconds_bucket"}
    assert buckets == {"0.1": 0, "0.3": 2, "1.0": 2, "+Inf": 2}
