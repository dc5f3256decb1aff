"""An objective that code declares, before anything is known of the document that it belongs to."""

from dataclasses import dataclass

from tercet.declare.objective import Objective
from tercet.declare.outline import Value


@dataclass(frozen=True, slots=True)
class Promise:
    """What code promises.

    Attributes:
        said: What it says, and where.
        service: For whom; empty for the service that the process is of.
        objective: What becomes of it; what the document has to add is left open.
    """

    said: Value
    service: str
    objective: Objective
