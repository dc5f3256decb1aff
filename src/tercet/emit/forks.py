"""What a forked child has to do first."""

import os
from collections.abc import Callable


def in_children(act: Callable[[], object]) -> None:
    """Call `act` in each child that is forked from now on, where systems fork any."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=act)
