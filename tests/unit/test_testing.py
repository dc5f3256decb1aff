"""The second door: pictures of what code emits."""

import logging
import subprocess
import sys

import pytest
from opentelemetry import metrics, trace

from tercet.errors import SetupError
from tercet.testing import capture, span_tree

tracer = trace.get_tracer("t")


def test_spans_are_drawn_as_a_tree_in_the_order_of_their_start(seen):
    """Whichever ended first; a span whose parent is not there stands at the left."""
    with tracer.start_as_current_span("order"):
        with tracer.start_as_current_span("reserve"):
            pass
        with tracer.start_as_current_span("pay"), tracer.start_as_current_span("charge"):
            pass
    with tracer.start_as_current_span("notify"):
        pass
    assert span_tree(seen.spans) == "order\n  reserve\n  pay\n    charge\nnotify"
    assert span_tree(seen.spans[:2]) == "reserve\ncharge"
    assert span_tree([]) == ""


def test_only_what_happens_inside_is_captured():
    """Before and after are other tests' business, for all three signals."""
    counter = metrics.get_meter("t").create_counter("orders")
    counter.add(5)
    with capture() as seen:
        with tracer.start_as_current_span("inside"):
            logging.getLogger("orders").warning("inside")
        counter.add(1)
    with tracer.start_as_current_span("after"):
        logging.getLogger("orders").warning("after")
    counter.add(7)
    assert span_tree(seen.spans) == "inside"
    assert [record.log_record.body for record in seen.logs] == ["inside"]
    assert [series.value for series in seen.measured("orders")] == [1]
    with capture() as nothing:
        pass
    assert nothing.measured("orders") == []


def test_a_series_is_one_entry_however_often_it_is_asked_for(seen):
    """Counters and histograms add up; what goes up and down, and gauges, are what they last were."""
    meter = metrics.get_meter("t")
    counter, histogram = meter.create_counter("calls"), meter.create_histogram("took")
    gauge, level = meter.create_gauge("heat"), meter.create_up_down_counter("open")
    for value in (1, 2):
        counter.add(value, {"kind": "a"})
        histogram.record(value)
        gauge.set(value)
        level.add(value)
        seen.measured("calls")
    assert [(each.attributes, each.value) for each in seen.measured("calls")] == [({"kind": "a"}, 3)]
    assert [(each.value, each.count) for each in seen.measured("took")] == [(3, 2)]
    assert [each.value for each in seen.measured("heat")] == [2]
    assert [each.value for each in seen.measured("open")] == [3]
    assert seen.measured("nothing") == []


def test_flushing_waits_for_nobody(seen):
    """What is captured needs no sending."""
    assert trace.get_tracer_provider().force_flush()


def test_a_second_capture_is_refused_and_never_hangs(seen):
    """One is open at a time."""
    with pytest.raises(SetupError, match="must be the only one open"), capture():
        pass


def test_a_capture_ends_with_its_test():
    """An error inside passes through, and the next capture opens."""
    with pytest.raises(KeyError), capture():
        raise KeyError
    with capture() as seen:
        pass
    assert seen.spans == []


def test_an_application_that_set_itself_up_is_captured_with_its_logs():
    """Also where its settings send nothing anywhere."""
    program = """
import logging, tercet
off = dict(traces_exporter="none", metrics_exporter="none", logs_exporter="none", http_edges="off")
tercet.setup_observability("orders", **off)
from tercet.testing import capture
with capture() as seen:
    logging.getLogger("orders").warning("paid")
print(len(seen.logs), seen.logs[0].resource.attributes["service.name"])
"""
    out = subprocess.check_output([sys.executable, "-c", program], text=True, stderr=subprocess.DEVNULL)
    assert out.splitlines()[-1] == "1 orders"
