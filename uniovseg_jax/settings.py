"""Settings that a folder was made with, beside those of whoever comes back to it."""

import json
import pathlib
from typing import Any


def as_json(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as they come back from a file: tuples are lists."""
    return json.loads(json.dumps(settings))


def read_settings(path: pathlib.Path) -> Any:
    """Reads settings that a folder was made with.

    Raises:
      ValueError: If the file is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise ValueError(
            f"{path} is damaged, it holds no JSON; delete it, or its whole folder to begin anew."
        ) from None


def first_difference(old: Any, new: Any, name: str = "") -> str:
    """Returns where two settings differ first, and how; empty if they do not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{name}.{key}" if name else key
            if found := first_difference(old.get(key), new.get(key), inner):
                return found
        return ""
    return "" if old == new else f"{name} was {str(old)[:60]!r} and is {str(new)[:60]!r}"
