"""Variables for comparisons with the float64 reference."""

import math

import numpy as np


def random_variables(shapes, seed):
    """Draws flat variables in which nothing is zero, one or symmetric, as initial values are.

    Args:
      shapes: Nested tree of shapes, from `abstract_variables`.
      seed: Of NumPy's generator.

    Returns:
      Flat float32 arrays by path.
    """
    rng = np.random.default_rng(seed)
    flat = {}

    def draw(tree, path):
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
