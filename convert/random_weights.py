"""Random weights in which nothing is zero, one or symmetric, as initial values are."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def random_variables(shapes: Mapping[str, Any], seed: int) -> dict[str, np.ndarray]:
    """Draws variables of this package.

    Args:
      shapes: Nested tree of shapes, from `abstract_variables`.
      seed: Of NumPy's generator.

    Returns:
      Flat float32 arrays by path.
    """
    rng = np.random.default_rng(seed)
    flat: dict[str, np.ndarray] = {}

    def draw(tree: Mapping[str, Any], path: str) -> None:
        for name in sorted(tree):
            where = f"{path}/{name}" if path else name
            if not hasattr(tree[name], "shape"):
                draw(tree[name], where)
                continue
            shape = tree[name].shape
            x = rng.standard_normal(shape)
            if name == "kernel":
                is_output = where.endswith("out/kernel")
                fan_in = math.prod(shape[:-1]) if is_output or len(shape) != 3 else shape[0]
                x = x / math.sqrt(fan_in)
            elif name == "scale":
                x = 1 + 0.2 * x
            elif name == "bias":
                x = 0.2 * x
            flat[where] = x.astype(np.float32)

    draw(shapes, "")
    return flat


def randomise(model: Any, seed: int) -> None:
    """Draws every parameter of an OpenCLIP model in PyTorch anew, in place.

    OpenCLIP's own start has layer scales of 1e-6, which would hide what a block computes.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name == "logit_scale":
            value = torch.tensor(3.0)
        elif name.endswith("gamma") or (parameter.ndim == 1 and name.endswith("weight")):
            value = 1 + 0.3 * noise
        elif parameter.ndim == 1:
            value = 0.2 * noise
        elif name in ("positional_embedding", "token_embedding.weight"):
            value = noise
        else:
            # text_projection multiplies from the right, so its inputs come first.
            fan_in = parameter.shape[0] if name == "text_projection" else parameter[0].numel()
            value = noise * fan_in**-0.5
        parameter.data.copy_(value)
