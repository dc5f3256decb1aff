"""Every test sees the process set up as `tercet.testing` does it: nothing is sent anywhere."""

from collections.abc import Iterator

import pytest

from tercet.testing import Capture, capture


@pytest.fixture
def seen() -> Iterator[Capture]:
    """What the test emits."""
    with capture() as captured:
        yield captured
