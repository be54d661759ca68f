"""Settings that a folder was made with, beside those of whoever comes back to it."""

import json
from typing import Any


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as they come back from a file: tuples are lists."""
    return json.loads(json.dumps(settings))


def first_difference(old: Any, new: Any, name: str = "") -> str:
    """Returns where two settings differ first, and how; empty if they do not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else key
            if found := first_difference(old.get(key), new.get(key), inner):
                return found
        return ""
    return "" if old == new else f"{name} was {str(old)[:60]!r} and is {str(new)[:60]!r}"
