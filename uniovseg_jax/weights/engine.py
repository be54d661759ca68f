"""Applies rule tables: published checkpoint -> parameters, and parameters -> published names.

Both directions are strict: every tensor is used, every target is filled, every shape fits; whatever
does not is collected and reported at once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from uniovseg_jax.weights.rules import Rule


@runtime_checkable
class HasShape(Protocol):
    """Anything with a shape: an array or a `jax.ShapeDtypeStruct`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        ...


def convert(
    state: Mapping[str, np.ndarray], rules: Sequence[Rule], targets: Mapping[str, HasShape]
) -> dict[str, np.ndarray]:
    """Fills every target from a published checkpoint.

    Args:
      state: Tensors by published name.
      rules: Ordered; the first rule that matches a name applies.
      targets: Shapes by flat path, such as `params/clip/visual/...`.

    Returns:
      Arrays by flat path, in the dtype of their source, contiguous.

    Raises:
      ValueError: If a tensor is not used, a target is not filled or filled twice, or a shape does
        not fit; the message lists all of them.
    """
    filled: dict[str, np.ndarray] = {}
    complaints: list[str] = []
    for name, tensor in state.items():
        names = _first(r.match_source(name) for r in rules)
        if names is None:
            complaints.append(f"unused: {name} {tensor.shape}: no rule names it")
            continue
        absent = [path for path in names[1] if path not in targets]
        if absent:
            complaints.append(
                f"unused: {name} {tensor.shape}: the model has no {', '.join(absent)}"
            )
            continue
        shapes = [tuple(targets[path].shape) for path in names[1]]
        try:
            arrays = rules[names[0]].transform.forward(np.asarray(tensor), shapes)
        except ValueError as error:
            complaints.append(f"shape: {name}: {error}")
            arrays = [np.empty(shape) for shape in shapes]
        for path, shape, array in zip(names[1], shapes, arrays, strict=True):
            if array.shape != shape:
                complaints.append(f"shape: {path} expects {shape}, {name} gives {array.shape}")
            if path in filled:
                complaints.append(f"twice: {path} is filled again by {name}")
            filled[path] = np.ascontiguousarray(array).reshape(array.shape)
    complaints += [
        f"missing: {path} {t.shape}" for path, t in targets.items() if path not in filled
    ]
    _raise(complaints)
    return filled


def invert(variables: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> dict[str, np.ndarray]:
    """Returns the published checkpoint of flat variables, the inverse of `convert`.

    Raises:
      ValueError: If a variable has no rule or a rule lacks one of its variables.
    """
    state: dict[str, np.ndarray] = {}
    complaints: list[str] = []
    for path in variables:
        found = _first(r.match_target(path) for r in rules)
        if found is None:
            complaints.append(f"unused: {path}: no rule names it")
            continue
        index, (name, paths) = found
        if name in state:
            continue
        absent = [p for p in paths if p not in variables]
        if absent:
            complaints.append(f"missing: {', '.join(absent)}, needed by {name}")
            continue
        state[name] = rules[index].transform.inverse([np.asarray(variables[p]) for p in paths])
    _raise(complaints)
    return state


def count_by_prefix(state: Mapping[str, HasShape], depth: int) -> dict[str, tuple[int, int]]:
    """Returns (tensors, numbers) per prefix of `depth` words separated by dots."""
    tensors: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for name, tensor in state.items():
        prefix = ".".join(name.split(".")[:depth])
        tensors[prefix] += 1
        numbers[prefix] += int(np.prod(tensor.shape))
    return {prefix: (tensors[prefix], numbers[prefix]) for prefix in tensors}


def _first(matches: Iterable[Any]) -> tuple[int, Any] | None:
    return next(((i, match) for i, match in enumerate(matches) if match is not None), None)


def _raise(complaints: list[str]) -> None:
    if complaints:
        raise ValueError(
            f"{len(complaints)} mismatches between the checkpoint and the model:\n  "
            + "\n  ".join(complaints)
        )
