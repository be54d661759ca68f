"""Where a run's first variables come from: model directories, and chance for what they lack."""

import dataclasses
from typing import Any

import jax
from flax import traverse_util

from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.models.uniovseg import Part, abstract_variables, init_variables
from uniovseg_jax.weights.store import load_pretrained

# What does not change what the mask decoder's parameters mean.
_NOT_OF_MASKS = ("clip", "image_size", "points_per_side", "pooling", "align_scales", "adapter")


def initial_variables(
    config: UniOVSegConfig,
    parts: tuple[Part, ...],
    init: str,
    seed: int,
    trained: Part,
) -> tuple[dict[str, Any], Tokenizer | None]:
    """Returns the variables of the given parts and the tokenizer that came along with `clip`.

    Args:
      config: The model to train.
      parts: Which of `clip`, `masks` and `adapter` the run holds.
      init: Model directories, separated by commas; where two hold the same part, the later one
        counts.
      seed: For the trained part where no directory holds it; it is drawn at random then.
      trained: The only part that may be missing: the others are frozen, and a frozen random part
        would be a silent mistake.

    Raises:
      FileNotFoundError: If a directory is no model directory.
      ValueError: If a directory is damaged, its part belongs to another model than `config`, or a
        part that is not trained is missing.
    """
    flat: dict[str, Any] = {}
    tokenizer = None
    missing = set(parts)
    for directory in filter(None, (name.strip() for name in init.split(","))):
        pretrained = load_pretrained(directory)
        found = _flatten(pretrained.variables)
        for part in set(pretrained.parts) & set(parts):
            _check_same_model(pretrained.config, config, part, directory)
        if "clip" in pretrained.parts and "clip" in parts:
            tokenizer = pretrained.tokenizer
        for part in set(pretrained.parts) & set(parts):
            expected = _flatten(abstract_variables(config, (part,)))
            for path, leaf in expected.items():
                if path not in found or found[path].shape != leaf.shape:
                    shape = found[path].shape if path in found else "missing"
                    raise ValueError(
                        f"init: {path} of {directory} is {shape}, but config.model asks for "
                        f"{leaf.shape}."
                    )
                flat[path] = found[path]
            missing.discard(part)
    if lacking := sorted(missing - {trained}):
        raise ValueError(
            f"init is {init!r} and holds no {' and no '.join(lacking)}; expected a model directory "
            "with every part that is not trained."
        )
    if missing:
        flat |= _flatten(init_variables(config, jax.random.key(seed), (trained,)))
    variables = traverse_util.unflatten_dict(flat, sep="/")
    return {"params": variables["params"], "fixed": variables.get("fixed", {})}, tokenizer


def _check_same_model(
    found: UniOVSegConfig, expected: UniOVSegConfig, part: Part, directory: str
) -> None:
    """Compares what tensor shapes do not show, such as the number of heads."""
    names = {
        "clip": ("clip",),
        "adapter": ("adapter",),
        "masks": tuple(
            field.name for field in dataclasses.fields(found) if field.name not in _NOT_OF_MASKS
        ),
    }[part]
    for name in names:
        if getattr(found, name) != getattr(expected, name):
            raise ValueError(
                f"init: the {name} of {directory} is not the one of config.model "
                f"(part {part}); expected {getattr(expected, name)}."
            )


def _flatten(variables: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(variables, sep="/")
