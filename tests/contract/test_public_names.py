"""The two doors, by name: who changes one changes the changelog too."""

import tercet
import tercet.testing


def test_the_names_of_the_front_door():
    """What users import from `tercet`."""
    assert (
        sorted(tercet.__all__)
        == tercet.__all__
        == [
            "Counter",
            "Gauge",
            "Histogram",
            "MetricError",
            "Objective",
            "Observability",
            "ObservabilityMiddleware",
            "ObservedLock",
            "Settings",
            "SettingsError",
            "SetupError",
            "Summary",
            "TercetError",
            "UnknownSettingError",
            "UpDownCounter",
            "correlation_id",
            "metrics_app",
            "observe_queue",
            "observed",
            "setup_observability",
            "traced",
            "watch_event_loop",
        ]
    )
    assert all(hasattr(tercet, name) for name in tercet.__all__)


def test_the_names_of_the_second_door():
    """What tests import from `tercet.testing`."""
    assert tercet.testing.__all__ == ["Capture", "Measured", "capture", "span_tree"]
    assert all(hasattr(tercet.testing, name) for name in tercet.testing.__all__)
