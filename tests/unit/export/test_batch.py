"""The outbox: nothing is lost uncounted, nothing waits, and the books balance whatever happens."""

import os
import shutil
import sys
import threading
import time

import pytest
from opentelemetry.context import attach, detach, get_current, get_value, set_value

from tercet.export import haste
from tercet.export.answer import Answer
from tercet.export.batch import Outbox
from tercet.export.spool import Limits, Parcel, Spool

DELIVERED, LATER = Answer("delivered"), Answer("later", "HTTP 503")
TIME = 10


class Collector:
    """A link whose answers are scripted by a function, and that can hang until it is let go."""

    def __init__(self, answer=lambda packed: DELIVERED):
        self.answer = answer
        self.taken = []
        self.timeouts = []
        self.told = []
        self.posting = threading.Event()
        self.let_go = threading.Event()
        self.let_go.set()

    def pack(self, body):
        return body

    def post(self, packed, timeout=float("inf")):
        self.timeouts.append(timeout)
        self.posting.set()
        self.let_go.wait(TIME)
        answer = self.answer(packed)
        if answer.kind == "delivered":
            self.taken += packed.decode().split()
        return answer

    def tell(self, what):
        self.told.append(what)
        return True


class Hasty(set):
    """Whoever hurries."""

    begin, end = set.add, set.discard


def encode(items):
    if "bad" in items:
        raise ValueError("secret")
    return " ".join(items).encode()


def halve(packed):
    items = packed.decode().split()
    half = len(items) // 2
    return [Parcel(encode(part), len(part)) for part in (items[:half], items[half:])]


def outbox(collector, **options):
    defaults = {"queue_size": 1000, "batch_size": 100, "delay": 0.01, "max_bytes": 10**6}
    box = Outbox("test", collector, encode, halve, **defaults | options)
    _boxes.append((box, collector))
    return box


_boxes = []


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    for box, collector in _boxes:
        collector.let_go.set()
        box.close(0.1)
    _boxes.clear()


def spool_in(folder, **limits):
    return Spool(folder, Limits(**{"bytes": 10**6, "files": 1000, "seconds": 3600} | limits))


def books(box):
    """What became of all that was put in."""
    table = {"delivered": box.delivered, "spooled": box.spooled, "waiting": box.backlog(), **box.dropped}
    return {name: count for name, count in table.items() if count}


def until(condition):
    """Wait for something that another thread does."""
    deadline = time.monotonic() + TIME
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def put_all(box, count, start=0):
    names = [f"i{number}" for number in range(start, start + count)]
    for name in names:
        box.put(name)
    return names


def test_items_arrive_in_their_order():
    """In batches of the size that was asked for, at most."""
    collector = Collector()
    box = outbox(collector, batch_size=7)
    names = put_all(box, 100)
    assert box.flush(TIME)
    assert collector.taken == names
    assert books(box) == {"delivered": 100}


def test_nobody_waits_for_company_longer_than_the_delay():
    """Without a flush."""
    collector = Collector()
    outbox(collector).put("i0")
    until(lambda: collector.taken == ["i0"])


def test_a_full_batch_waits_for_nobody():
    """Although the delay is long."""
    collector = Collector()
    box = outbox(collector, delay=1000, batch_size=10)
    names = put_all(box, 10)
    until(lambda: collector.taken == names)


def test_no_thread_without_items():
    """A process that only forks has none; a flush starts none."""
    before = threading.active_count()
    box = outbox(Collector())
    assert box.flush(0)
    assert box.close(0)
    assert threading.active_count() == before


def test_many_threads_put_while_others_flush():
    """Each flush returns when all that was put in before it is out."""
    collector = Collector()
    box = outbox(collector, queue_size=10**6, batch_size=50)
    missed = []

    def produce(number):
        for turn in range(20):
            mine = put_all(box, 50, start=number * 10_000 + turn * 50)
            assert box.flush(TIME)
            missed.extend(set(mine) - set(collector.taken))

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []
    assert len(collector.taken) == len(set(collector.taken)) == 6000
    assert books(box) == {"delivered": 6000}


def test_a_hanging_collector_holds_nobody():
    """Items beyond the queue are dropped and counted, and the rest arrives when it answers."""
    collector = Collector()
    collector.let_go.clear()
    box = outbox(collector, queue_size=10, batch_size=10)
    box.put("first")
    assert collector.posting.wait(TIME)
    put_all(box, 30)
    assert books(box) == {"waiting": 11, "queue_full": 20}
    collector.let_go.set()
    assert box.flush(TIME)
    assert books(box) == {"delivered": 11, "queue_full": 20}
    until(lambda: collector.told == ["20 items dropped so far (queue_full 20)"])


def test_only_what_cannot_be_encoded_is_lost():
    """Its batch arrives; the notice does not say what was in it."""
    collector = Collector()
    box = outbox(collector, delay=1000)
    names = [*put_all(box, 50), *(["bad"] * 2), *put_all(box, 3, start=50)]
    for name in ("bad", "bad"):
        box.put(name)
    assert box.flush(TIME)
    assert collector.taken == [name for name in names if name != "bad"]
    assert books(box) == {"delivered": 53, "encode_failed": 2}
    assert collector.told[0] == "one item could not be encoded (ValueError)"


def test_a_collector_that_is_away_is_asked_again():
    """After a pause, or when somebody flushes; a flush does not wait for it."""
    away = [True]
    collector = Collector(lambda packed: LATER if away[0] else DELIVERED)
    box = outbox(collector)
    names = put_all(box, 5)
    assert not box.flush(TIME)
    assert books(box) == {"waiting": 5}
    away[0] = False
    assert box.flush(TIME)
    assert collector.taken == names
    assert books(box) == {"delivered": 5}


@pytest.mark.parametrize("asked", [0.3, None])
def test_the_pause_is_the_collectors_or_our_own(asked):
    """Retry-After is honoured, and no more is asked before."""
    answers = [Answer("later", "HTTP 429", asked), DELIVERED]
    collector = Collector(lambda packed: answers.pop(0))
    box = outbox(collector)
    began = time.monotonic()
    box.put("i0")
    until(lambda: collector.taken)
    assert (asked or 1.0) <= time.monotonic() - began < (asked or 1.0) * 1.2 + 1


@pytest.mark.parametrize("is_spooled", [False, True])
def test_what_never_succeeds_holds_up_no_others(is_spooled, tmp_path, monkeypatch):
    """A request that a proxy always cuts, for example; also where an earlier process has left it on disk."""
    monkeypatch.setattr("tercet.export.retry._FIRST_PAUSE", 0.01)
    collector = Collector(lambda packed: LATER if b"i0" in packed else DELIVERED)
    spool = spool_in(tmp_path) if is_spooled else None
    if spool is not None:
        for number in range(20):
            spool.add(Parcel(f"i{number}".encode(), 1))
        spool = spool_in(tmp_path)
    box = outbox(collector, batch_size=1, spool=spool)
    names = [f"i{number}" for number in range(20)] if is_spooled else put_all(box, 20)
    until(lambda: len(collector.taken) == 19)
    assert sorted(collector.taken) == sorted(set(names) - {"i0"})


def test_the_oldest_go_first_whoevers_turn_it_is(monkeypatch):
    """Where memory ends, in the middle of an outage."""
    monkeypatch.setattr("tercet.export.retry._FIRST_PAUSE", 0.001)
    away = [True]
    collector = Collector(lambda packed: LATER if away[0] else DELIVERED)
    box = outbox(collector, batch_size=1, max_bytes=6)
    put_all(box, 3)
    until(lambda: len(collector.timeouts) > 3)
    put_all(box, 3, start=3)
    until(lambda: box.dropped["too_many_bytes"] == 3)
    away[0] = False
    assert box.flush(TIME)
    assert sorted(collector.taken) == ["i3", "i4", "i5"]


def test_a_flush_does_not_hurry_a_collector_that_asked_for_a_pause():
    """Nor does it wait for it; the last chance of a close is taken."""
    collector = Collector(lambda packed: Answer("later", "HTTP 429", 60.0))
    box = outbox(collector)
    box.put("i0")
    assert not box.flush(TIME)
    assert not box.flush(TIME)
    assert len(collector.timeouts) == 1
    collector.answer = lambda packed: DELIVERED
    assert box.close(TIME)


def test_a_request_has_no_more_bytes_than_it_may():
    """Unless one item has more."""
    collector, requests = Collector(), []
    collector.answer = lambda packed: requests.append(packed.split()) or DELIVERED
    box = outbox(collector, weigh=len, batch_bytes=10, delay=TIME)
    for item in ("sixsix", "sixsix", "four", "four", "twelvetwelve", "one"):
        box.put(item)
    assert box.flush(TIME)
    assert requests == [[b"sixsix"], [b"sixsix", b"four"], [b"four"], [b"twelvetwelve"], [b"one"]]


def test_memory_is_bounded_in_bytes():
    """The oldest go, counted."""
    away = [True]
    collector = Collector(lambda packed: LATER if away[0] else DELIVERED)
    box = outbox(collector, batch_size=10, max_bytes=100)
    names = put_all(box, 100)
    assert not box.flush(TIME)
    until(lambda: box.backlog() <= 40)
    assert sum(books(box).values()) == 100
    away[0] = False
    assert box.flush(TIME)
    assert collector.taken == names[-len(collector.taken) :]
    assert books(box) == {"delivered": len(collector.taken), "too_many_bytes": 100 - len(collector.taken)}


def test_a_request_that_is_too_large_is_halved():
    """Down to the one item that is too large by itself."""
    collector = Collector(lambda packed: Answer("too_large") if b"i3" in packed else DELIVERED)
    box = outbox(collector, delay=1000)
    names = put_all(box, 9)
    assert box.flush(TIME)
    assert collector.taken == [name for name in names if name != "i3"]
    assert books(box) == {"delivered": 8, "too_large": 1}


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (Answer("refused", "HTTP 400"), {"refused": 5}),
        (Answer("delivered", rejected=2), {"delivered": 3, "rejected": 2}),
        (Answer("delivered", rejected=2**60), {"rejected": 5}),
    ],
)
def test_what_the_collector_does_not_take_is_counted(answer, counted):
    """Also where it claims to have rejected more than it was sent."""
    box = outbox(Collector(lambda packed: answer), delay=1000)
    put_all(box, 5)
    assert box.flush(TIME)
    assert books(box) == counted


def test_a_close_sends_what_is_waiting():
    """And takes nothing more in."""
    collector = Collector()
    box = outbox(collector, delay=1000)
    names = put_all(box, 5)
    assert box.close(TIME)
    box.put("late")
    assert box.close(TIME)
    assert collector.taken == names
    assert books(box) == {"delivered": 5, "shutdown": 1}


def test_a_close_waits_for_a_collector_that_has_just_gone():
    """It was there before: it may be back within the time."""
    answers = [LATER, LATER, DELIVERED]
    collector = Collector(lambda packed: answers.pop(0))
    box = outbox(collector, delay=1000)
    put_all(box, 5)
    assert box.close(TIME)
    assert books(box) == {"delivered": 5}


def test_a_close_tries_once_more_where_the_collector_was_away():
    """And ends at once."""
    collector = Collector(lambda packed: LATER)
    box = outbox(collector)
    put_all(box, 5)
    assert not box.flush(TIME)
    began = time.monotonic()
    assert not box.close(TIME)
    assert time.monotonic() - began < 5
    assert books(box) == {"shutdown": 5}


def test_a_close_ends_in_time_while_a_post_hangs():
    """What it was about counts as dropped, and is not counted again when the collector takes it after all."""
    collector = Collector()
    collector.let_go.clear()
    box = outbox(collector)
    put_all(box, 5)
    assert collector.posting.wait(TIME)
    put_all(box, 5)
    began = time.monotonic()
    assert not box.close(0.5)
    assert time.monotonic() - began < 0.6
    assert books(box) == {"shutdown": 10}
    collector.let_go.set()
    box._thread.join(TIME)
    assert books(box) == {"shutdown": 10}


def test_posts_of_a_close_have_its_time():
    """No request may take longer than the process has."""
    collector = Collector()
    box = outbox(collector, delay=1000)
    box.put("i0")
    assert box.close(2)
    assert collector.timeouts[-1] <= 2


def test_what_waits_goes_to_disk_and_comes_back(tmp_path):
    """While the collector is away; memory holds nothing then."""
    away = [True]
    collector = Collector(lambda packed: LATER if away[0] else DELIVERED)
    box = outbox(collector, spool=spool_in(tmp_path / "s"))
    names = put_all(box, 5)
    assert box.flush(TIME)
    assert books(box) == {"spooled": 5}
    names += put_all(box, 5, start=5)
    until(lambda: books(box) == {"spooled": 10})
    away[0] = False
    until(lambda: books(box) == {"delivered": 10})
    assert sorted(collector.taken) == sorted(names)


def test_what_is_removed_from_disk_is_in_the_books(tmp_path):
    """Whoever tidies up while the service runs; it goes on in a new directory."""
    away = [True]
    collector = Collector(lambda packed: LATER if away[0] else DELIVERED)
    box = outbox(collector, spool=spool_in(tmp_path / "s"))
    put_all(box, 5)
    assert box.flush(TIME)
    shutil.rmtree(tmp_path / "s")
    names = put_all(box, 5, start=5)
    until(lambda: books(box) == {"spooled": 5, "spool_removed": 5})
    away[0] = False
    until(lambda: books(box) == {"delivered": 5, "spool_removed": 5})
    assert sorted(collector.taken) == sorted(names)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_close_leaves_on_disk_what_it_cannot_send(hangs, tmp_path):
    """Also what a request that hangs is about; the next process sends it all, with no item of its own."""
    collector = Collector(lambda packed: LATER)
    if hangs:
        collector.let_go.clear()
    box = outbox(collector, spool=spool_in(tmp_path / "s"))
    names = put_all(box, 5)
    assert collector.posting.wait(TIME)
    names += put_all(box, 5, start=5)
    assert box.close(0.5)
    assert books(box) == {"spooled": 10}
    other = Collector()
    following = outbox(other, spool=spool_in(tmp_path / "s"), delay=1000)
    until(lambda: following.delivered == 10)
    assert sorted(other.taken) == sorted(names)
    assert books(following) == {"delivered": 10, "spooled": -10}
    collector.let_go.set()


@pytest.fixture
def impatient(monkeypatch):
    """An answer is late at once."""
    monkeypatch.setattr("tercet.export.standby.PATIENCE", 0.02)


def on_disk(folder):
    """The requests that another process would find, were this one killed now."""
    return sorted(path.read_bytes()[12:].decode() for path in folder.glob("*.otlp"))


@pytest.mark.parametrize("answer", [DELIVERED, LATER, Answer("too_large"), Answer("refused")], ids=str)
@pytest.mark.usefixtures("impatient")
def test_nothing_waits_in_memory_while_a_collector_hangs(answer, tmp_path):
    """It is on disk, also what is on its way, which nobody else sends; an answer then counts as any other."""
    answers = [answer]
    collector = Collector(lambda packed: answers.pop() if answers else DELIVERED)
    collector.let_go.clear()
    box = outbox(collector, spool=spool_in(tmp_path / "s"), batch_size=3, delay=0.05)
    names = put_all(box, 3)
    assert collector.posting.wait(TIME)
    names += put_all(box, 4, start=3)
    until(lambda: books(box) == {"spooled": 7})
    assert on_disk(tmp_path / "s") == ["i0 i1 i2", "i3 i4 i5", "i6"]
    others = list(spool_in(tmp_path / "s").take())
    assert [claim.parcel.packed for claim in others] == [b"i3 i4 i5", b"i6"]
    for claim in others:
        claim.back()
    collector.let_go.set()
    lost = {"refused": 3} if answer.kind == "refused" else {}
    until(lambda: books(box) == {"delivered": 7 - sum(lost.values()), **lost})
    assert sorted(collector.taken) == names[sum(lost.values()) :]
    assert on_disk(tmp_path / "s") == []


@pytest.mark.usefixtures("impatient")
def test_what_no_disk_takes_waits_in_memory_while_a_collector_hangs(tmp_path):
    """Within its bounds, to which what is on its way falls no victim."""
    collector = Collector()
    collector.let_go.clear()
    box = outbox(collector, spool=spool_in(tmp_path / "s"), batch_size=1, delay=1000, max_bytes=6)
    (tmp_path / "s").rmdir()
    (tmp_path / "s").touch()
    put_all(box, 1)
    assert collector.posting.wait(TIME)
    put_all(box, 4, start=1)
    until(lambda: books(box) == {"waiting": 3, "too_many_bytes": 2})
    collector.let_go.set()
    until(lambda: books(box) == {"delivered": 3, "too_many_bytes": 2})
    assert collector.taken == ["i0", "i3", "i4"]


@pytest.mark.usefixtures("impatient")
def test_a_close_leaves_nothing_to_the_next_process_while_there_is_time(tmp_path):
    """However slow the collector is."""

    def answer(packed):
        time.sleep(0.1)
        return Answer("too_large") if b" " in packed else DELIVERED

    collector = Collector(answer)
    box = outbox(collector, spool=spool_in(tmp_path / "s"), delay=1000)
    names = put_all(box, 3)
    assert box.close(TIME)
    assert books(box) == {"delivered": 3}
    assert collector.taken == names


@pytest.mark.usefixtures("impatient")
def test_a_close_sends_what_was_put_by(tmp_path):
    """Where the collector was only slow."""
    collector = Collector()
    collector.let_go.clear()
    box = outbox(collector, spool=spool_in(tmp_path / "s"), batch_size=1, delay=1000)
    names = put_all(box, 5)
    until(lambda: books(box) == {"spooled": 5})
    threading.Timer(0.1, collector.let_go.set).start()
    assert box.close(TIME)
    assert books(box) == {"delivered": 5}
    assert collector.taken == names


@pytest.mark.usefixtures("impatient")
def test_halves_that_nobody_sends_any_more_leave_the_whole_where_it_is(tmp_path, monkeypatch):
    """The disk takes none of them, after a close that could not wait for the answer."""
    spool = spool_in(tmp_path / "s")
    collector = Collector(lambda packed: Answer("too_large"))
    collector.let_go.clear()
    box = outbox(collector, spool=spool, batch_size=2, delay=1000)
    put_all(box, 2)
    until(lambda: books(box) == {"spooled": 2})
    box.close(0.05)
    refused = threading.Event()

    def refuse(parcel):
        refused.set()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "add", refuse)
    collector.let_go.set()
    assert refused.wait(TIME)
    box._thread.join(TIME)
    assert not box._thread.is_alive()
    assert books(box) == {"spooled": 2}
    assert [claim.parcel.packed for claim in spool_in(tmp_path / "s").take()] == [b"i0 i1"]


@pytest.mark.usefixtures("impatient")
def test_a_link_that_breaks_its_promise_is_one_that_fails(tmp_path):
    """Nobody knows what became of the request, so it is sent again, and no other takes its place."""
    errors = [ZeroDivisionError("secret")]

    def answer(packed):
        if errors:
            raise errors.pop()
        return Answer("refused") if b"x" in packed else DELIVERED

    collector = Collector(answer)
    collector.let_go.clear()
    box = outbox(collector, spool=spool_in(tmp_path / "s"), batch_size=3, delay=0.05)
    names = put_all(box, 3)
    until(lambda: books(box) == {"spooled": 3})
    for name in ("x0", "x1", "x2"):
        box.put(name)
    collector.let_go.set()
    until(lambda: books(box) == {"delivered": 3, "refused": 3})
    assert collector.taken == names
    assert collector.told[0] == "sending failed (ZeroDivisionError)"


@pytest.mark.usefixtures("impatient")
def test_who_stands_by_outlives_every_error(tmp_path, monkeypatch):
    """Told without its text; the next time, all is well."""
    collector, spool, errors = Collector(), spool_in(tmp_path / "s"), [ValueError("secret")]
    collector.let_go.clear()
    hold = spool.hold

    def raise_first(parcel):
        if errors:
            raise errors.pop()
        return hold(parcel)

    monkeypatch.setattr(spool, "hold", raise_first)
    box = outbox(collector, spool=spool, batch_size=1)
    put_all(box, 1)
    until(lambda: books(box) == {"spooled": 1})
    assert collector.told == ["spooling failed (ValueError)"]


def test_items_do_not_wait_for_a_long_spool(tmp_path):
    """What is put in goes out between what was on disk."""
    spool = spool_in(tmp_path / "s", files=10_000)
    for number in range(300):
        spool.add(Parcel(f"old{number}".encode(), 1))
    collector = Collector()
    box = outbox(collector, spool=spool, delay=0.01, batch_size=1)
    assert collector.posting.wait(TIME)
    box.put("new")
    until(lambda: len(collector.taken) == 301)
    assert collector.taken.index("new") < 299
    assert books(box) == {"delivered": 301, "spooled": -300}


def test_a_spooled_request_that_is_too_large_is_halved(tmp_path):
    """As any other."""
    spool = spool_in(tmp_path / "s")
    spool.add(Parcel(b"a b c", 3))
    collector = Collector(lambda packed: Answer("too_large") if b" " in packed else DELIVERED)
    box = outbox(collector, spool=spool)
    until(lambda: len(collector.taken) == 3)
    assert box.flush(TIME)
    assert books(box) == {"delivered": 3, "spooled": -3}


def test_the_halves_of_a_spooled_request_are_on_disk_before_it_is_gone(tmp_path):
    """Whoever is killed while the first of them is on its way has lost nothing."""
    spool = spool_in(tmp_path / "s")
    spool.add(Parcel(b"a b c d", 4))
    on_disk = []

    def answer(packed):
        if len(packed) == 7:
            return Answer("too_large")
        on_disk.append(sorted(path.read_bytes()[-3:] for path in (tmp_path / "s").iterdir()))
        return DELIVERED

    collector = Collector(answer)
    box = outbox(collector, spool=spool, delay=1000)
    until(lambda: len(collector.taken) == 4)
    assert on_disk == [[b"a b", b"c d"], [b"c d"]]
    until(lambda: books(box) == {"delivered": 4, "spooled": -4})


def test_halves_that_the_disk_does_not_take_are_sent_from_memory(tmp_path, monkeypatch):
    """Each by itself, and each is counted once."""
    spool = spool_in(tmp_path / "s")
    spool.add(Parcel(b"a b c", 3))
    add, asked = spool.add, []

    def first_is_refused(parcel):
        asked.append(parcel.count)
        if len(asked) == 1:
            raise OSError(28, "No space left on device")
        add(parcel)

    monkeypatch.setattr(spool, "add", first_is_refused)
    collector = Collector(lambda packed: Answer("too_large") if len(packed) == 5 else DELIVERED)
    box = outbox(collector, spool=spool)
    until(lambda: books(box) == {"delivered": 3, "spooled": -3})
    assert (sorted(collector.taken), asked) == (["a", "b", "c"], [1, 2])


def test_a_disk_that_takes_nothing_leaves_it_in_memory(tmp_path):
    """And is told."""
    spool = spool_in(tmp_path / "s")
    (tmp_path / "s").rmdir()
    (tmp_path / "s").touch()
    collector = Collector(lambda packed: LATER)
    box = outbox(collector, spool=spool)
    put_all(box, 5)
    assert not box.flush(TIME)
    assert books(box) == {"waiting": 5}
    assert collector.told[0] == "the spool cannot be written (File exists); what waits, waits in memory"


def test_a_thread_that_cannot_start_harms_nobody(monkeypatch):
    """As at the exit of Python 3.12.1: the flush sends by itself."""
    monkeypatch.setattr(
        threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError("at exit"))
    )
    collector = Collector()
    box = outbox(collector)
    names = put_all(box, 5)
    assert box.flush(TIME)
    assert box.close(TIME)
    assert collector.taken == names


def test_the_thread_outlives_every_error(monkeypatch):
    """Told without its text."""
    collector = Collector()
    box = outbox(collector)
    monkeypatch.setattr(box, "_tell_losses", lambda: 1 / 0)
    box.put("i0")
    until(lambda: collector.told)
    monkeypatch.undo()
    box.put("i1")
    assert box.flush(TIME)
    assert collector.told[0] == "sending failed (ZeroDivisionError)"
    assert collector.taken == ["i0", "i1"]


def test_a_signal_handler_may_put_while_its_thread_does():
    """Reentry at any line of a put, a flush or a count deadlocks nothing."""
    collector = Collector()
    box = outbox(collector, queue_size=10, batch_size=2)

    def interrupt(frame, _event, _argument):
        if frame.f_code.co_filename.endswith(("batch.py", "queue.py")):
            sys.settrace(None)
            box.put("inner")
            sys.settrace(interrupt)
        return interrupt

    found = sys.gettrace()  # coverage's, which would see nothing from here on
    sys.settrace(interrupt)
    try:
        for _ in range(20):
            box.put("outer")
        box.backlog()
    finally:
        sys.settrace(found)
    assert box.flush(TIME)
    assert box.delivered == len(collector.taken)


def test_a_child_starts_with_nothing():
    """Whatever its parent holds, is about, or has counted; and it sends on its own."""
    collector = Collector()
    collector.let_go.clear()
    box = outbox(collector)
    put_all(box, 5)
    assert collector.posting.wait(TIME)
    with box._moved:  # as if another thread held it at this moment
        child = os.fork()
        if child == 0:
            try:
                collector.taken.clear()
                collector.let_go = threading.Event()
                collector.let_go.set()
                empty = books(box) == {}
                box.put("child")
                sent = box.flush(TIME) and box.close(TIME)
                os._exit(0 if empty and sent and collector.taken == ["child"] else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    collector.let_go.set()
    assert box.flush(TIME)
    assert books(box) == {"delivered": 5}


def test_what_comes_while_a_full_batch_is_sent_waits_for_company():
    """Under load, the thread does not go on with a few items at a time."""
    collector = Collector()
    box = outbox(collector, batch_size=5, delay=100)
    collector.let_go.clear()
    put_all(box, 5)
    collector.posting.wait(TIME)
    put_all(box, 7, start=5)
    collector.let_go.set()
    until(lambda: len(collector.taken) == 10)
    assert (books(box), len(collector.timeouts)) == ({"delivered": 10, "waiting": 2}, 2)
    assert box.flush(TIME)
    assert books(box) == {"delivered": 12}


def test_a_thread_that_starves_hurries(monkeypatch):
    """For as long as it takes to send; and no longer where that does not help."""
    monkeypatch.setattr(haste, "HASTE", hasty := Hasty())
    collector, seen = Collector(), []
    box = outbox(collector, batch_size=4, delay=100)
    collector.let_go.clear()
    put_all(box, 4)
    collector.posting.wait(TIME)
    for _ in range(3):
        put_all(box, 4)
        seen.append(box._hunger in hasty)
    assert seen == [False, True, False]
    collector.let_go.set()
    until(lambda: box.backlog() == 0 and not hasty)


def test_what_is_said_while_sending_belongs_to_no_request():
    """Also where a request's own item has started the thread."""
    seen = []
    collector = Collector(lambda packed: seen.append(get_value("who", get_current())) or DELIVERED)
    token = attach(set_value("who", "a request"))
    outbox(collector).put("i0")
    detach(token)
    until(lambda: seen)
    assert seen == [None]


def test_what_cannot_be_taken_in_is_counted_and_said():
    """It is in the books, and in a line."""
    collector = Collector()
    box = outbox(collector)
    box.refuse("encode_failed", ValueError("secret"))
    assert (books(box), collector.told) == (
        {"encode_failed": 1},
        ["one item could not be encoded (ValueError)"],
    )
