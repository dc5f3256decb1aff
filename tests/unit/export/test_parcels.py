"""Packed requests that wait in memory."""

from tercet.export.parcels import Parcels
from tercet.export.spool import Parcel

ONE, TWO, THREE = (Parcel(name * size, size) for size, name in enumerate([b"a", b"b", b"c"], start=1))


def waiting(*parcels):
    """Those, in that order."""
    waits = Parcels()
    for parcel in parcels:
        waits.add(parcel)
    return waits


def test_each_gets_its_turn():
    """After one that fails it is the next one's, and then again the first one's."""
    waits = waiting(ONE, TWO)
    turns = []
    for _ in range(3):
        turns.append(waits.next())
        waits.pass_on()
    assert turns == [ONE, TWO, ONE]


def test_bytes_and_items_are_counted_whichever_way_they_go():
    """In at either end, out from anywhere."""
    waits = waiting(TWO, THREE)
    waits.add_first(ONE)
    assert ([*waits], waits.bytes, waits.count()) == ([ONE, TWO, THREE], 6, 6)
    waits.remove(TWO)
    waits.remove(ONE)
    assert ([*waits], waits.bytes, waits.count()) == ([THREE], 3, 3)
    assert waits.take_all() == [THREE]
    assert (len(waits), waits.bytes, waits.count()) == (0, 0, 0)


def test_the_oldest_go_where_they_hold_too_much():
    """But not the one that is on its way, be it too much by itself."""
    assert [*waiting(ONE, TWO, THREE).take_beyond(5, but=None)] == [ONE]
    assert [*waiting(ONE, TWO, THREE).take_beyond(5, but=ONE)] == [TWO]
    assert [*waiting(ONE, TWO, THREE).take_beyond(0, but=THREE)] == [ONE, TWO]


def test_the_very_same_is_held():
    """An equal one is another."""
    waits = waiting(ONE)
    assert waits.holds(ONE)
    assert not waits.holds(Parcel(b"a", 1))


def test_nothing_waits_at_first():
    """So it is nobody's turn."""
    waits = Parcels()
    assert (waits.first(), waits.next(), bool(waits)) == (None, None, False)
