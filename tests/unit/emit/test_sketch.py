"""Quantiles of a window: how right they are, and how little they keep."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.emit.sketch import ACCURACY, MOST_BUCKETS, SLICES, Recent


class Clock:
    """Seconds that go forward when told."""

    now = 0.0

    def __call__(self):
        return self.now


def exact(quantile, values):
    """The measurement of that rank."""
    return sorted(values)[max(1, math.ceil(quantile * len(values))) - 1]


@given(
    values=st.lists(st.floats(1e-3, 10) | st.integers(1, 10), min_size=1, max_size=300),
    quantile=st.floats(0, 1),
    scale=st.sampled_from([1e-300, 1e-6, 1, 1e6, 1e300]),
)
def test_a_quantile_is_within_one_percent(values, quantile, scale):
    """Of the measurement of that rank, whatever the unit, where all lie within four decades."""
    values = [value * scale for value in values]
    recent = Recent(600)
    for value in values:
        recent.add(value)
    (estimate,) = recent.quantiles([quantile])
    assert estimate == pytest.approx(exact(quantile, values), rel=ACCURACY * 1.0001)


@given(st.lists(st.floats(0, sys.float_info.max), min_size=1, max_size=200))
def test_the_highest_is_right_whatever_else_there_is(values):
    """Zero, the smallest and the largest number that there is among them."""
    recent = Recent(600)
    for value in values:
        recent.add(value)
    (highest,) = recent.quantiles([1])
    assert highest == pytest.approx(max(values), rel=ACCURACY * 1.0001, abs=1e-322)


def test_what_is_kept_is_bounded():
    """The lowest buckets become one; what is counted stays counted."""
    recent = Recent(600)
    for exponent in range(-3000, 3000):
        recent.add(10.0 ** (exponent / 10))
    (latest,) = recent._slices
    assert (len(latest), sum(latest.values())) == (MOST_BUCKETS, 6000)
    assert recent.quantiles([0.99])[0] == pytest.approx(10.0**293.9, rel=0.05)


def test_the_window_slides():
    """By a fifth at a time; after a pause, nothing is left."""
    clock = Clock()
    recent = Recent(50, clock)
    seen = []
    for minute in range(SLICES + 2):
        clock.now = minute * 10.0
        recent.add(minute)
        seen.append(round(recent.quantiles([0])[0]))
    assert seen == [0, 0, 0, 0, 0, 1, 2]
    clock.now += 1000
    assert math.isnan(recent.quantiles([0.5])[0])
    recent.add(7)
    assert round(recent.quantiles([0.5])[0]) == 7


def test_a_copy_is_a_copy():
    """What is added later is not in it."""
    recent = Recent(50)
    recent.add(1)
    twin = recent.copy()
    recent.add(1000)
    assert [round(each.quantiles([1])[0], -1) for each in (recent, twin)] == [1000, 0]
