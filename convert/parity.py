"""Says how far two computations of the same model are apart: `parity.json` and `parity.md`."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from uniovseg_jax.files import write_whole

# What is compared.
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Bounds in float32.
EMBEDDING_BOUND = 1e-4
MASK_BOUND = 1e-4  # At the 99.9th percentile of mask logits.
MASK_IOU_BOUND = 0.999
KEPT_BOUND = 0.99


@dataclasses.dataclass(frozen=True)
class Error:
    """Absolute differences of two arrays.

    Attributes:
      largest: Of all entries.
      mean: Of all entries.
      p999: The 99.9th percentile.
      scale: Largest magnitude in the reference, to read the others by.
    """

    largest: float
    mean: float
    p999: float
    scale: float


@dataclasses.dataclass(frozen=True)
class Check:
    """One bound.

    Attributes:
      name: What is bounded.
      value: What was found.
      bound: The limit.
      at_least: Whether the value must reach the bound; otherwise it must not exceed it.
    """

    name: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the bound holds; a value that is not a number never passes."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclasses.dataclass(frozen=True)
class Parity:
    """A comparison.

    Attributes:
      title: What was converted.
      reference: What it was compared with.
      inputs: What both sides were given.
      errors: By place in the model, then by dtype (`float32`, `bfloat16`).
      checks: Bounds, in float32.
      notes: Counts and remarks by name.
    """

    title: str
    reference: str
    inputs: Sequence[str]
    errors: Mapping[str, Mapping[str, Error]]
    checks: Sequence[Check]
    notes: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def max_abs_error(self) -> dict[str, float]:
        """Largest error in float32 by place."""
        return {place: found["float32"].largest for place, found in self.errors.items()}

    def summary(self) -> str:
        """Returns one line: whether it passed, and what did not."""
        outside = [
            f"{c.name} is {c.value:.3g}, limit {c.bound:g}" for c in self.checks if not c.passed
        ]
        return (
            f"Parity failed: {'; '.join(outside)}." if outside else "Parity passed: see parity.md."
        )

    def write(self, directory: pathlib.Path) -> None:
        """Writes `parity.json` and `parity.md` into an existing folder."""
        document = {
            "passed": self.passed,
            "max_abs_error": self.max_abs_error,
            "title": self.title,
            "reference": self.reference,
            "inputs": list(self.inputs),
            "checks": [dataclasses.asdict(c) | {"passed": c.passed} for c in self.checks],
            "errors": {
                place: {dtype: dataclasses.asdict(error) for dtype, error in found.items()}
                for place, found in self.errors.items()
            },
            "notes": dict(self.notes),
        }
        as_json = json.dumps(_without_infinities(document), indent=2, allow_nan=False) + "\n"
        markdown = self._markdown()
        for name, content in (("parity.json", as_json), ("parity.md", markdown)):
            write_whole(directory / name, functools.partial(_write_text, content))

    def _markdown(self) -> str:
        lines = [
            f"# Parity: {self.title}",
            "",
            f"**{'Passed' if self.passed else 'FAILED'}.** Reference: {self.reference}.",
            "",
            *(f"- {text}" for text in self.inputs),
            "",
            "| bound (float32) | found | limit | |",
            "| --- | --- | --- | --- |",
        ]
        for check in self.checks:
            sign = "at least" if check.at_least else "at most"
            mark = "ok" if check.passed else "**outside**"
            lines.append(f"| {check.name} | {check.value:.3g} | {sign} {check.bound:g} | {mark} |")
        lines += [
            "",
            "Absolute differences, and the largest value of the reference to read them by:",
            "",
            "| place | dtype | largest | 99.9 % | mean | values up to |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for place, found in self.errors.items():
            for dtype, e in found.items():
                lines.append(
                    f"| {place} | {dtype} | {e.largest:.2e} | {e.p999:.2e} | {e.mean:.2e} | "
                    f"{e.scale:.3g} |"
                )
        if self.notes:
            lines += ["", *(f"- {name}: {value}" for name, value in self.notes.items())]
        return "\n".join(lines) + "\n"


def measure(found: np.ndarray, reference: np.ndarray) -> Error:
    """Measures the difference of two arrays of one shape; infinite where one is not finite.

    Raises:
      ValueError: If the shapes differ.
    """
    if found.shape != reference.shape:
        raise ValueError(f"Shapes {found.shape} and {reference.shape} cannot be compared.")
    if not (np.isfinite(found).all() and np.isfinite(reference).all()):
        return Error(np.inf, np.inf, np.inf, np.inf)
    difference = np.abs(np.asarray(found, np.float32) - np.asarray(reference, np.float32)).ravel()
    rank = min(difference.size - 1, int(np.ceil(0.999 * difference.size)) - 1)
    return Error(
        largest=float(difference.max()),
        mean=float(difference.mean(dtype=np.float64)),
        p999=float(np.partition(difference, rank)[rank]),
        scale=float(np.abs(reference).max()),
    )


class ErrorTable:
    """Collects the differences of several inputs, by place in the model and by dtype."""

    def __init__(self) -> None:
        self._errors: dict[str, dict[str, list[Error]]] = {}

    def add(
        self, dtype: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
    ) -> None:
        """Measures every place of one input."""
        for place, value in expected.items():
            dtypes = self._errors.setdefault(place, {})
            dtypes.setdefault(dtype, []).append(measure(found[place], value))

    def worst(self) -> dict[str, dict[str, Error]]:
        """Returns the worst of all inputs."""
        return {
            place: {dtype: merge_worst(errors) for dtype, errors in dtypes.items()}
            for place, dtypes in self._errors.items()
        }


def _write_text(content: str, path: pathlib.Path) -> None:
    path.write_text(content, encoding="utf-8")


def _without_infinities(value: Any) -> Any:
    """JSON has no infinity: the word stands for it."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return "infinite" if isinstance(value, float) and not math.isfinite(value) else value


def merge_worst(errors: Sequence[Error]) -> Error:
    """Returns the worst of the errors of several inputs, field by field."""
    return Error(
        largest=max(e.largest for e in errors),
        mean=max(e.mean for e in errors),
        p999=max(e.p999 for e in errors),
        scale=max(e.scale for e in errors),
    )
