"""What upstream says of an attribute: said once a minute, for it would be said for every request.

A limit that cuts long texts, or a type that no attribute can have, is met again with each span and record.
"""

import logging
from collections import defaultdict

from tercet.declare.pace import Pace

_SPEAKER = "opentelemetry.attributes"


class _Minutely(logging.Filter):
    """Let each sentence pass once a minute, whatever is filled into it."""

    def __init__(self) -> None:
        super().__init__()
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether it is time to say that again."""
        return self._paces[str(record.msg)].allows()


_minutely = _Minutely()


def install() -> None:
    """Put upstream's complaints about attributes at a pace that a person can read."""
    logging.getLogger(_SPEAKER).addFilter(_minutely)
