"""Queries that users bring along, over any window, and counted one by one where that is possible."""

import sys

import pytest

from tercet.declare.parse import Unusable
from tercet.declare.query import Term, free_windows, parse_query, parse_ratio, rated
from tercet.errors import SetupError

HITS = Term(1, (("__name__", "=", "hits"),))
MISSES = Term(-1, (("__name__", "=", "misses"),))


def test_the_window_goes_to_its_place():
    """Wherever it is, with spaces or without."""
    query = parse_query("sum(rate(a[{{ .window }}])) - sum(rate(b[{{.window}}]))")
    assert query.at(3600) == "sum(rate(a[1h])) - sum(rate(b[1h]))"


def test_a_comment_takes_nothing_else_into_it():
    """It ends with its line."""
    assert parse_query("sum(rate(a[{{.window}}])) # all").at(300) == "\nsum(rate(a[5m])) # all\n"


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("sum(rate(hits[{{.window}}]))", (HITS,)),
        ("sum by (job) (increase(hits[{{.window}}]))", (HITS,)),
        ("(sum(rate(hits[{{.window}}])) - sum(rate(misses[{{.window}}])))", (HITS, MISSES)),
        ("sum(rate(hits[{{.window}}])) + sum(rate(hits[{{.window}}]))", (HITS, HITS)),
        ("sum(rate(hits[{{.window}}])) or vector(0)", (HITS,)),
        ("sum(rate(hits{a=`\\d`}[{{.window}}]))", (Term(1, (*HITS.matchers, ("a", "=", "\\d"))),)),
        ("sum(rate({a=~'x|}'}[{{.window}}]))", (Term(1, (("a", "=~", "x|}"),)),)),
        ("sum(rate(hits[{{.window}}])) or sum(rate(misses[{{.window}}]))", ()),
        ("sum(rate(hits[{{.window}}] offset 5m))", ()),
        ("sum(irate(hits[{{.window}}]))", ()),
        ("max(rate(hits[{{.window}}]))", ()),
        ("2 * sum(rate(hits[{{.window}}]))", ()),
        ("rate(hits[{{.window}}]) - on (job) group_left () rate(misses[{{.window}}])", ()),
        ("sum(rate(hits[{{.window}}:1m]))", ()),
        ("sum(rate(hits[{{.window}}])) # rate(a[{{.window}}])", ()),
    ],
)
def test_sums_of_counters_can_be_counted_one_by_one(text, terms):
    """And nothing else can."""
    assert parse_query(text).terms == terms


def test_counters_are_seen_another_way():
    """Where they are, with everything around them left as it is."""
    query = parse_query("sum(rate(a{b='[{'}[{{.window}}])) - sum by (c) (rate( {d=\"e\"} [{{.window}}] ))")
    assert query.with_counters(lambda selected: f"<{selected}>") == (
        "sum((<a{b='[{'}>)) - sum by (c) ((<{d=\"e\"}>))"
    )


@pytest.mark.parametrize(
    ("text", "is_per_window"),
    [
        ("sum(rate(a[{{.window}}]))", False),
        ("sum(increase(a[{{.window}}]))", True),
        ("sum(sum_over_time(a[{{.window}}]))", True),
        ("sum(avg_over_time(a[{{.window}}]))", False),
        ("sum_over_time(sum(rate(a[1m]))[{{.window}}:1m])", True),
        ("max_over_time(sum(increase(a[{{.window}}]))[{{.window}}:1m])", True),
        ("avg_over_time(sum(rate(a[{{.window}}]))[{{.window}}:1m])", False),
        ("sum(increase(a[{{.window}}])) + sum(rate(b[{{.window}}]))", False),
    ],
)
def test_what_is_counted_in_a_window_is_told_from_what_is_counted_a_second(text, is_per_window):
    """By the outermost functions over the window, whatever is within."""
    assert parse_query(text).is_per_window == is_per_window


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "PromQL of at most"),
        ("a" * 5_001, "PromQL of at most"),
        ("a\x00", "PromQL of at most"),
        ("```", "PromQL of at most"),
        ("1", "PromQL (expected type vector"),
        ("'text'", "PromQL (expected type vector"),
        ("a[{{.window}}]", "PromQL (expected type vector"),
        ("nonsense(a)", "PromQL (unknown function"),
        ("a) or (b", "PromQL ("),
        ("(" * 31 + "a" + ")" * 31, "PromQL (it is nested more than 30 levels deep)"),
        ("-" * 31 + "a", "PromQL (it is nested more than 30 levels deep)"),
        (" + ".join(["a"] * 1_200), "PromQL of fewer parts"),
        ("a{b='{{.other}}'} + {{.other}}", "PromQL ("),
        ("sum(rate(a[$__rate_interval]))", "PromQL ("),
        ("sum(rate(a[5m]))", "without windows of its own ([5m])"),
        ("max_over_time(a[1h:1m]) + rate(a[{{.window}}])", "without windows of its own ([1h])"),
        ("sum(a)", "a query over {{.window}}"),
    ],
)
def test_what_cannot_be_used_is_refused(text, rule):
    """With the parser's own reason."""
    with pytest.raises(Unusable) as refused:
        parse_query(text)
    assert refused.value.rule.startswith(rule)


def test_a_look_back_over_the_window_may_have_windows_in_it():
    """Each of its steps looks back as far as it was written."""
    text = "avg_over_time((sum(rate(a[5m])) > bool 9)[{{.window}}:1m])"
    assert parse_ratio(text).at(3600) == "avg_over_time((sum(rate(a[5m])) > bool 9)[1h:1m])"


def test_a_state_has_no_window():
    """A share may be of what is right now."""
    assert parse_ratio("max(up) == bool 0").at(300) == "max(up) == bool 0"


def test_without_the_parser_it_says_what_to_install(monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "promql_parser", None)
    with pytest.raises(SetupError, match=r'pip install "tercet\[generate\]"'):
        parse_query("sum(rate(a[{{.window}}]))")


def test_windows_of_counters_become_the_window():
    """Those of anything else stay, and are refused later."""
    assert free_windows("sum(rate(a{b='[5m]'}[5m])) / max_over_time(c[1h])") == (
        "sum(rate(a{b='[5m]'}[{{.window}}])) / max_over_time(c[1h])",
        ("5m",),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a{b='('}", "sum(rate(a{b='('}[{{.window}}]))"),
        ("sum(a) by (b)", "sum(rate(a[{{.window}}])) by (b)"),
        ("sum(a", "sum(a"),
        ("sum(a) + sum(b)", "sum(a) + sum(b)"),
        ("rate(a[5m])", "rate(a[5m])"),
    ],
)
def test_counters_get_a_rate(text, expected):
    """Where it is plain what they count."""
    assert rated(text) == expected
