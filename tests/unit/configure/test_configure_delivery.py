"""Delivery: settings reach the outbox, and the metrics tell how it goes."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tercet.configure.delivery import build_outbox, observe_delivery
from tercet.declare.settings import Settings
from tercet.errors import SettingsError


def built(signal="traces", **settings):
    loaded = Settings.load({}, otlp_endpoint="http://localhost:9", **settings)
    return build_outbox(signal, loaded)


def measured(outboxes):
    """Collect what is told, as a table."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    observe_delivery(provider.get_meter("tercet"), outboxes)
    data = reader.get_metrics_data()
    return {
        (metric.name, *point.attributes.values()): point.value
        for metric in (data.resource_metrics[0].scope_metrics[0].metrics if data else ())
        for point in metric.data.data_points
    }


@pytest.mark.parametrize(("signal", "item"), [("traces", "span"), ("logs", "log")])
def test_the_queue_is_as_long_as_the_setting_says(signal, item):
    """More is dropped, counted by signal and reason, and told."""
    outbox = built(signal, **{f"{item}_queue_size": 3, f"{item}_export_delay": 100, f"{item}_batch_size": 50})
    outbox._thread = object()  # nobody sends
    for _ in range(5):
        outbox.put((Resource.get_empty(), None, b"x"))
    assert measured({signal: outbox}) == {
        ("tercet.export.created", signal): 5,
        ("tercet.export.items", signal, "delivered"): 0,
        ("tercet.export.items", signal, "queue_full"): 2,
        ("tercet.export.waiting", signal): 3,
    }


def test_a_spool_is_there_where_a_directory_is_given(tmp_path):
    """One folder a signal."""
    built(spool_directory=str(tmp_path / "spool"))
    built("logs", spool_directory=str(tmp_path / "spool"))
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["logs", "traces"]


def test_what_cannot_be_delivered_is_spooled(tmp_path):
    """And is neither waiting nor dropped."""
    outbox = built(spool_directory=str(tmp_path))
    outbox.put((Resource.get_empty(), None, b"x"))
    assert outbox.close(5)
    assert (outbox.spooled, outbox.backlog(), dict(outbox.dropped)) == (1, 0, {})
    assert len(list((tmp_path / "traces").iterdir())) == 1


def test_a_spool_that_cannot_be_there_is_said(tmp_path):
    """With the setting, the variable and the mend."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SettingsError) as error:
        built(spool_directory=str(file))
    assert str(error.value) == (
        "spool_directory (TERCET_SPOOL_DIRECTORY) must be a directory that can be written, "
        f"got {str(file)!r}: Not a directory. Make it, or unset it."
    )
