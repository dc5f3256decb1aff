"""Sheets: what is written comes back, while it is written, and whatever becomes of the bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.export.exposition import Exposition, Family, Heading
from tercet.export.sheets import MOST_EXEMPLARS, START, Reading, Records, Sheet, header

ORDERS = Heading("orders", "counter", "Orders processed.", "", "last")
WAITED = Heading("waited", "histogram", "", "seconds")


def sheet_of(*families):
    exposition = Exposition()
    for heading, series in families:
        exposition.open(heading).series.update(series)
    sheet = Sheet()
    sheet.add(exposition.families)
    sheet.add_exemplars(exposition.families)
    return sheet.to_bytes()


def read(data):
    reading = Reading(memoryview(data))
    reading.read_on()
    return reading


SHEET = sheet_of(
    (Heading("target", "info"), {'service_name="shop"': ((1.0,), (), ())}),
    (ORDERS, {'status="paid"': ((2.0,), (), ((1.0, 7, 2**127, 2**63),)), "": ((0.5,), (), ())}),
    (WAITED, {"": ((3.0, math.inf, 4.0, 1.0, 2.0), (0.5,), ())}),
)


def test_what_is_written_comes_back():
    """Headings, labels, bounds, numbers and exemplars; who emits is each reader's own."""
    reading = read(SHEET)
    assert [(h, labels, bounds, list(numbers)) for h, labels, bounds, numbers in reading.series] == [
        (ORDERS, 'status="paid"', (), [2.0]),
        (ORDERS, "", (), [0.5]),
        (WAITED, "", (0.5,), [3.0, math.inf, 4.0, 1.0, 2.0]),
    ]
    assert reading.exemplars == [(ORDERS, 'status="paid"', ((1.0, 7, 2**127, 2**63),))]


@given(st.text(), st.text(), st.lists(st.floats(allow_nan=False), min_size=1))
def test_any_text_and_number_comes_back(labels, help_text, numbers):
    """Whatever users have put into labels."""
    heading = Heading("a", "gauge", help_text)
    ((found, text, _, places),) = read(sheet_of((heading, {labels: (tuple(numbers), (), ())}))).series
    assert (found, text, list(places)) == (heading, labels, numbers)


def test_a_reader_follows_what_is_written():
    """Later records are found where it stopped, and numbers are as they are when they are looked at."""
    data = bytearray(1024)
    used = START

    def write(record):
        nonlocal used
        data[used : used + len(record)] = record
        used += len(record)
        data[:START] = header(used)

    data[:START] = header(START)
    records, reading = Records(write), Reading(memoryview(data))
    reading.read_on()
    assert reading.series == []
    records.series(ORDERS, "first", (), [0.0])
    reading.read_on()
    records.note(folded=["x"])
    records.series(ORDERS, "second", (), [0.0])
    memoryview(data)[used - 8 : used].cast("d")[0] = 7.0
    reading.read_on()
    found = {labels: numbers[0] for _, labels, _, numbers in reading.series}
    assert (found, reading.notes) == ({"first": 0.0, "second": 7.0}, {"folded": ["x"]})


@pytest.mark.parametrize("heading", [WAITED, Heading("size", "summary")], ids=lambda each: each.kind)
def test_numbers_that_do_not_fit_their_kind_are_an_error(heading):
    """Whoever adds them up would take one for another."""
    with pytest.raises(ValueError, match="no record"):
        read(sheet_of((heading, {"": ((1.0,), (), ())})))


@given(st.integers(0, len(SHEET) - 1), st.binary(min_size=1, max_size=9))
def test_damage_is_an_error_of_one_kind(place, damage):
    """Whichever bytes are overwritten: what is before them is read, and nothing else happens."""
    reading = Reading(memoryview(SHEET[:place] + damage + SHEET[place + len(damage) :]))
    try:
        reading.read_on()
    except ValueError:
        assert len(reading.series) <= 3


@pytest.mark.parametrize("length", range(0, len(SHEET), 7))
def test_a_sheet_that_is_cut_off_is_an_error(length):
    """A file that somebody has truncated."""
    with pytest.raises(ValueError, match="begins no record"):
        read(SHEET[:length])


def test_the_latest_exemplars_are_told_of():
    """There are limits to what anybody follows."""
    exemplars = tuple((float(n), n, 1, 1) for n in range(MOST_EXEMPLARS + 10))
    found = read(sheet_of((ORDERS, {"": ((1.0,), (), exemplars)}))).exemplars
    assert min(measured[1] for *_, each in found for measured in each) == 10


@pytest.mark.parametrize(
    "content",
    [
        ["a", "no kind", "", "", "last"],
        ["a", "gauge", "", "", "no rule"],
        [0, 7, []],
        [3, "labels", []],
        [0, "labels", [1.0]],
        [],
        7,
    ],
)
def test_a_record_that_says_nothing_known_is_an_error(content):
    """Another version may have written it."""
    parts = []
    records = Records(parts.append)
    records.series(WAITED, "", (), [0.0] * 4)
    records._record(content, [0.0])
    data = b"".join(parts)
    with pytest.raises(ValueError, match="begins no record"):
        read(header(START + len(data)) + data)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=6), st.randoms())
def test_sums_do_not_depend_on_who_adds_them_up(numbers, random):
    """Nor on which of them were folded before: a last digit less would be a counter that goes backwards."""
    shuffled = random.sample(numbers, len(numbers))
    folded, rest = shuffled[:-1], shuffled[-1:]
    heading = Heading("waited", "counter")
    sheet = Sheet()
    sheet.add([added(heading, folded)])
    reading = Reading(memoryview(sheet.to_bytes()))
    reading.read_on()
    again = [total for _, _, _, (total,) in reading.series]
    sums = {float(added(heading, each).series[""][0][0]) for each in (numbers, shuffled, [*rest, *again])}
    assert sums == {math.fsum(numbers)}


def added(heading, numbers):
    """A family in which all of these were added to one series."""
    family = Family(heading)
    for number in numbers:
        family.add("", ((number,), (), ()))
    return family
