"""JSON from outside: parsed strictly, and fields of its objects of a known kind."""

import contextlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")


def parse_json(content: bytes) -> Any:
    """Parses JSON from outside.

    Raises:
      ValueError: If it is no JSON, nested too deeply, or holds NaN or infinity.
    """
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("It is no JSON that can be read: nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"It is no JSON that can be read: {error}.") from error


def whole_number(entry: Any, key: str, low: int = 1, high: int = 1 << 63) -> int:
    """Returns `entry[key]`.

    Raises:
      ValueError: If `entry` is no object or the value no whole number from `low` to `high`.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(
            f"{key!r} is {str(value)[:40]}, expected a whole number from {low} to {high}."
        )
    return value


def finite_number(entry: Mapping[str, Any], key: str) -> float:
    """Returns a number.

    Raises:
      ValueError: If it is not there or not finite.
    """
    value = entry.get(key)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Whole numbers of JSON have no end: some have no float.
        with contextlib.suppress(OverflowError):
            if math.isfinite(number := float(value)):
                return number
    raise ValueError(f"{key!r} is {str(value)[:40]}, expected a finite number.")


def read_flag(entry: dict[str, Any], key: str, default: int | None = None) -> bool:
    """Returns a flag that is 0 or 1, or false or true; one that is null is not there.

    Raises:
      ValueError: If it is anything else, or is not there and has no default.
    """
    value = entry.get(key)
    value = default if value is None else value
    if value not in (0, 1):
        raise ValueError(f"{key!r} is {str(value)[:40]}, expected 0 or 1.")
    return bool(value)


def at(where: str, read: Callable[..., _T], *arguments: Any) -> _T:
    """Calls a reader, and puts the place of what it reads in front of its complaint."""
    try:
        return read(*arguments)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
