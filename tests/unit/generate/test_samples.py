"""Series with which queries are tried: what a good event adds to, and what a bad one adds to."""

import pytest

from tercet.declare.query import Queries, parse_query
from tercet.generate.samples import Samples, find_samples

ALL = 'sum(rate(hits{job="a"}[{{.window}}]))'


def found(kind, part, total=ALL):
    return find_samples(Queries(kind, parse_query(part), parse_query(total)))


def hit(**labels):
    return {"__name__": "hits", "job": "a", **labels}


@pytest.mark.parametrize(
    ("kind", "part", "good", "bad"),
    [
        ("bad", 'sum(rate(hits{job="a",code="500"}[{{.window}}]))', hit(), hit(code="500")),
        ("bad", 'sum(rate(hits{job="a",code=~"(5..|429)"}[{{.window}}]))', hit(), hit(code="500")),
        ("bad", 'sum(rate(hits{job="a",code=~"^5[0-9]+$"}[{{.window}}]))', hit(), hit(code="50")),
        ("bad", 'sum(rate(hits{job="a",path=~"/a/.+"}[{{.window}}]))', hit(), hit(path="/a/x")),
        ("good", 'sum(rate(hits{job="a",code!~"5.."}[{{.window}}]))', hit(), hit(code="500")),
        ("good", 'sum(rate(hits{job="a",code=~"2.."}[{{.window}}]))', hit(code="200"), hit()),
        ("bad", 'sum(rate(hits{job="a",code!=""}[{{.window}}]))', hit(), hit(code="200")),
    ],
)
def test_an_event_is_good_or_bad(kind, part, good, bad):
    """By labels that the queries tell apart."""
    assert found(kind, part) == Samples((good,), (bad,))


def test_an_event_may_add_to_several_series():
    """As a fast request adds to the count and to the bucket."""
    count, bucket = {"__name__": "d_count"}, {"__name__": "d_bucket", "le": "0.3"}
    slow = 'sum(rate(d_count[{{.window}}])) - sum(rate(d_bucket{le="0.3"}[{{.window}}]))'
    samples = found("bad", slow, "sum(rate(d_count[{{.window}}]))")
    assert samples is not None
    assert {tuple(sorted(series.items())) for series in samples.good} == {
        tuple(sorted(series.items())) for series in (count, bucket)
    }
    assert samples.bad == (count,)


def test_failures_may_have_a_counter_of_their_own():
    """A bad event adds to both."""
    samples = found("bad", "sum(rate(misses[{{.window}}]))")
    assert samples == Samples((hit(),), ({"__name__": "misses"}, hit()))


@pytest.mark.parametrize(
    ("part", "total"),
    [
        ('sum(rate(hits{job="a",code=~"\\\\pL+"}[{{.window}}]))', ALL),
        ("max(rate(hits[{{.window}}]))", ALL),
        (ALL, "2 * sum(rate(hits[{{.window}}]))"),
        # Of these a search would not end.
        (f'sum(rate(hits{{job="a",code=~"(a+)+b",code!="{"a" * 60}"}}[{{{{.window}}}}]))', ALL),
        ('sum(rate(hits{job="a",code!~"(2.*)+|3.."}[{{.window}}]))', ALL),
        (f'sum(rate(hits{{job="a",code=~"{".*a" * 12}b",code!="{"a" * 60}"}}[{{{{.window}}}}]))', ALL),
    ],
)
def test_where_nothing_can_be_guessed_nothing_is_tried(part, total):
    """Rather than something that may be wrong."""
    assert found("bad", part, total) is None


def test_of_many_labels_a_few_combinations_are_tried():
    """However many there are."""
    labels = ",".join(f'l{number}=~"a|b|c"' for number in range(7))
    total = " + ".join(f'sum(rate(hits{{l{number}="a"}}[{{{{.window}}}}]))' for number in range(7))
    samples = found("bad", f"sum(rate(hits{{{labels}}}[{{{{.window}}}}]))", total)
    assert samples is not None
    assert samples.good == ({"__name__": "hits", "l6": "a"},)
    assert [len(series) for series in samples.bad] == [8]
