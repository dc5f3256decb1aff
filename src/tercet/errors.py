"""Every exception that tercet raises on purpose.

    TercetError
    ├── SettingsError (ValueError)      a setting has a value that cannot be used
    ├── UnknownSettingError (TypeError) a setting that does not exist
    ├── ObjectivesError (ValueError)    objectives that cannot be used
    ├── PrometheusError (ConnectionError) Prometheus cannot be asked
    ├── SetupError (RuntimeError)       the process cannot be set up as asked
    └── MetricError (ValueError)        a metric is declared or used against its rules

Each message reads `{the name the user typed} must be {rule}, got {value!r}. {How to mend it.}`
"""


class TercetError(Exception):
    """Catch everything that tercet raises on purpose."""


class SettingsError(TercetError, ValueError):
    """Say which setting has a value that cannot be used, and how to mend it."""


class UnknownSettingError(TercetError, TypeError):
    """Say which setting does not exist, and which one was probably meant."""


class ObjectivesError(TercetError, ValueError):
    """Say which line of an objectives document cannot be used, and how to mend it."""


class PrometheusError(TercetError, ConnectionError):
    """Say why Prometheus cannot be asked, and what to look at."""


class SetupError(TercetError, RuntimeError):
    """Say why the process cannot be set up as asked."""


class MetricError(TercetError, ValueError):
    """Say which metric is declared or used against its rules, and how to mend it."""
