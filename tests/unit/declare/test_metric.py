"""The rules of a declaration, each broken once."""

import pytest

from tercet.declare.metric import METRICS, Metric, overflow_message
from tercet.errors import MetricError


def declared(**traits):
    return Metric(**{"name": "orders", "kind": "counter", "unit": "", "help": "Orders.", **traits})


@pytest.mark.parametrize(
    ("traits", "where"),
    [
        ({"name": "1st"}, "name"),
        ({"name": "orders total"}, "name"),
        ({"name": "a" * 256}, "name"),
        ({"name": None}, "name"),
        ({"help": " "}, "help"),
        ({"unit": "€"}, "unit"),
        ({"attributes": "status"}, "attributes"),
        ({"attributes": ("status", "status")}, "attributes"),
        ({"attributes": ("",)}, "attributes"),
        ({"attributes": (1,)}, "attributes"),
        ({"kind": "histogram", "buckets": (2.0, 1.0)}, "buckets"),
        ({"kind": "histogram", "buckets": (1.0, 1.0)}, "buckets"),
        ({"kind": "histogram", "buckets": (1.0, float("inf"))}, "buckets"),
        ({"kind": "histogram", "buckets": ("1",)}, "buckets"),
        ({"kind": "summary", "quantiles": (99,), "window": 1.0}, "quantiles"),
        ({"kind": "summary", "quantiles": ("a",), "window": 1.0}, "quantiles"),
        ({"kind": "summary", "window": 0}, "window"),
        ({"across": "mean"}, "across"),
        ({"limit": 0}, "limit"),
        ({"limit": 1.5}, "limit"),
    ],
)
def test_a_declaration_that_breaks_a_rule_is_refused_with_the_mend(traits, where):
    """The message names the metric and what is wrong with it; the error is a ValueError, too."""
    with pytest.raises(ValueError, match=rf"^.+: {where} must be .+, got .+\. .+\.$") as caught:
        declared(**traits).check()
    assert isinstance(caught.value, MetricError)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_what_tercet_declares_keeps_the_rules(metric):
    """Its own metrics are no exception."""
    metric.check()


def test_the_attribute_with_most_values_is_named():
    """A metric without attributes has none to name."""
    assert "'user' has 99 different values" in overflow_message("orders", 99, {"status": 2, "user": 99})
    assert "'' has 0" in overflow_message("orders", 99, {})
