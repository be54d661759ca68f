"""Multi-scale deformable attention: every query reads a few learned places of every level."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from uniovseg_jax.models.layers import xavier_uniform
from uniovseg_jax.ops.deformable import deformable_sampling


def sampling_offsets_bias(num_heads: int, num_levels: int, num_points: int) -> Float[Array, " n"]:
    """Returns initial offsets in cells: head k looks in direction k, point p (p + 1) cells out.

    Source: Zhu et al., Deformable DETR (arXiv 2010.04159), appendix A.4.
    """
    angle = 2 * math.pi * np.arange(num_heads) / num_heads
    direction = np.stack([np.cos(angle), np.sin(angle)], -1)
    direction /= np.abs(direction).max(-1, keepdims=True)
    offsets = direction[:, None, None] * np.arange(1, num_points + 1)[:, None]
    shape = (num_heads, num_levels, num_points, 2)
    return jnp.asarray(np.broadcast_to(offsets, shape).ravel(), jnp.float32)


class DeformableAttention(nn.Module):
    """Samples `num_points` places per head and level and sums them with learned weights.

    Source: Zhu et al., Deformable DETR (arXiv 2010.04159).

    Attributes:
      dim: Width of queries and values.
      num_heads: Heads; each reads its own slice of the values.
      num_levels: Feature levels.
      num_points: Samples per head and level.
    """

    dim: int
    num_heads: int
    num_levels: int = 3
    num_points: int = 4

    @nn.compact
    def __call__(
        self,
        queries: Float[Array, "b q d"],
        values: Float[Array, "b l d"],
        reference_points: Float[Array, "q 2"],
        spatial_shapes: tuple[tuple[int, int], ...],
    ) -> Float[Array, "b q d"]:
        """Attends from every query to all levels.

        Args:
          queries: With their position encoding.
          values: Flattened levels, one after the other, without position encoding.
          reference_points: Where each query stands, xy in [0, 1].
          spatial_shapes: (height, width) of the levels.

        Returns:
          What each query gathered, projected; without residual.
        """
        b, q, _ = queries.shape
        heads, levels, points = self.num_heads, self.num_levels, self.num_points

        value = nn.Dense(self.dim, kernel_init=xavier_uniform, name="value_proj")(values)
        value = value.reshape(b, -1, heads, self.dim // heads)
        offsets = nn.Dense(
            heads * levels * points * 2,
            kernel_init=nn.initializers.zeros,
            bias_init=lambda *_: sampling_offsets_bias(heads, levels, points),
            name="sampling_offsets",
        )(queries)
        offsets = offsets.reshape(b, q, heads, levels, points, 2)
        weights = nn.Dense(
            heads * levels * points, kernel_init=nn.initializers.zeros, name="attention_weights"
        )(queries)
        weights = jax.nn.softmax(weights.reshape(b, q, heads, levels * points))
        weights = weights.reshape(b, q, heads, levels, points)

        # Offsets count cells of the level that is read: x in widths, y in heights.
        wh = jnp.asarray([(w, h) for h, w in spatial_shapes], offsets.dtype)
        locations = reference_points[:, None, None, None] + offsets / wh[:, None]
        # The custom derivative hides the result's type from the type checker.
        out: Any = deformable_sampling(value, locations, weights, spatial_shapes)
        return nn.Dense(self.dim, kernel_init=xavier_uniform, name="output_proj")(
            out.reshape(b, q, self.dim)
        )
