"""Where a run's first variables come from: model directories, and chance for what they lack."""

from typing import Any

import jax
from flax import traverse_util

from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.tokenizer import Tokenizer
from uniovseg_jax.models.uniovseg import Part, abstract_variables, init_variables
from uniovseg_jax.weights.store import load_pretrained


def initial_variables(
    config: UniOVSegConfig, parts: tuple[Part, ...], init: str, seed: int
) -> tuple[dict[str, Any], Tokenizer | None]:
    """Returns the variables of the given parts and the tokenizer that came along with `clip`.

    Args:
      config: The model to train.
      parts: Which of `clip`, `masks` and `adapter` the run holds.
      init: Model directories, separated by commas; where two hold the same part, the later one
        counts. Parts that none of them holds are drawn at random.
      seed: For these.

    Raises:
      FileNotFoundError: If a directory is no model directory.
      ValueError: If a directory is damaged or its part has other sizes than `config`.
    """
    flat: dict[str, Any] = {}
    tokenizer = None
    missing = set(parts)
    for directory in filter(None, (name.strip() for name in init.split(","))):
        pretrained = load_pretrained(directory)
        found = _flatten(pretrained.variables)
        if "clip" in pretrained.parts and "clip" in parts:
            if pretrained.config.clip != config.clip:
                raise ValueError(f"init: the CLIP of {directory} is not the one of config.model.")
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
    fresh: tuple[Part, ...] = tuple(part for part in parts if part in missing)
    if fresh:
        flat |= _flatten(init_variables(config, jax.random.key(seed), fresh))
    variables = traverse_util.unflatten_dict(flat, sep="/")
    return {"params": variables["params"], "fixed": variables.get("fixed", {})}, tokenizer


def _flatten(variables: Any) -> dict[str, Any]:
    return traverse_util.flatten_dict(variables, sep="/")
