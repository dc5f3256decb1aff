"""How many bytes an item holds, roughly and cheaply: enough to tell the few that are heavy."""

from typing import Any


def weight(item: Any) -> int:
    """Count the bytes of an item that is encoded already, or the texts of a span or of a log record.

    >>> weight(("resource", "scope", b"12345"))
    5
    """
    if type(item) is tuple:
        return len(item[2])
    said = getattr(item, "log_record", item)
    texts = [getattr(said, "body", None), *(getattr(said, "attributes", None) or {}).values()]
    return sum(len(text) for text in texts if isinstance(text, str | bytes))
