"""When a collector that is away is asked again."""

import pytest

from tercet.export import retry


class Clock:
    """Seconds that go on when they are told to."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """A clock, and no spread: each pause is as long as it is meant."""
    monkeypatch.setattr(retry._random, "uniform", lambda least, most: least)
    return Clock()


def test_each_failure_doubles_the_pause_up_to_half_a_minute(clock):
    """And an answer makes it short again."""
    again = retry.Retry(clock)
    pauses = []
    for _ in range(7):
        again.failed()
        pauses.append(again.left())
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    again.succeeded()
    again.failed()
    assert again.left() == 1


def test_a_collector_gets_the_pause_that_it_asks_for(clock):
    """Also from somebody who is in a hurry, unless there is no other chance."""
    again = retry.Retry(clock)
    again.failed(7)
    again.now(even_if_asked=False)
    assert (again.is_due(), again.left()) == (False, 7)
    again.now(even_if_asked=True)
    assert (again.is_due(), again.left()) == (True, 0)


def test_somebody_in_a_hurry_does_not_wait_for_a_pause_of_ours(clock):
    """A flush, for example."""
    again = retry.Retry(clock)
    again.failed()
    again.now(even_if_asked=False)
    assert again.is_due()


def test_pauses_are_short_at_the_end(clock):
    """There is little time, and an answer changes nothing of that."""
    again = retry.Retry(clock)
    again.failed()
    again.hurry()
    again.succeeded()
    again.failed()
    assert again.left() == pytest.approx(0.1)


def test_a_fleet_does_not_come_back_at_once():
    """Each process waits a little longer than it must."""
    pauses = set()
    for _ in range(20):
        again = retry.Retry(Clock())
        again.failed(10)
        pauses.add(again.left())
    assert len(pauses) > 1
    assert 10 <= min(pauses) <= max(pauses) <= 12
