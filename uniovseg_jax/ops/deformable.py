"""Multi-scale deformable sampling: every query gathers a few weighted samples of every level."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def _corners(
    sampling_locations: Float[Array, "*n levels points 2"],
    spatial_shapes: tuple[tuple[int, int], ...],
) -> tuple[Int[Array, "*n levels points 4"], Float[Array, "*n levels points 4"]]:
    """Returns rows of the flattened levels and bilinear weights (0 outside the level)."""
    hw = np.array(spatial_shapes)
    height, width = hw[:, 0, None], hw[:, 1, None]
    start = np.concatenate([[0], np.cumsum(hw[:, 0] * hw[:, 1])[:-1]])[:, None, None]
    u = sampling_locations[..., 0].astype(jnp.float32) * width - 0.5
    v = sampling_locations[..., 1].astype(jnp.float32) * height - 0.5
    column = jnp.floor(u)[..., None] + np.array([0.0, 1.0, 0.0, 1.0], np.float32)
    row = jnp.floor(v)[..., None] + np.array([0.0, 0.0, 1.0, 1.0], np.float32)
    weight = (1 - jnp.abs(u[..., None] - column)) * (1 - jnp.abs(v[..., None] - row))
    height, width = height[..., None], width[..., None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = jnp.clip(row, 0, height - 1).astype(jnp.int32) * width
    index = index + jnp.clip(column, 0, width - 1).astype(jnp.int32) + start
    return index.astype(jnp.int32), jnp.where(inside, weight, 0.0)


def deformable_sampling(
    value: Float[Array, "b l heads c"],
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    spatial_shapes: tuple[tuple[int, int], ...],
) -> Float[Array, "b q heads c"]:
    """Samples all levels at all points and sums with the attention weights."""
    b, _, heads, c = value.shape
    q = sampling_locations.shape[1]
    index, weight = _corners(sampling_locations, spatial_shapes)
    weight = weight * attention_weights[..., None]
    index = index.transpose(0, 2, 1, 3, 4, 5).reshape(b, heads, -1, 1)
    weight = weight.transpose(0, 2, 1, 3, 4, 5).reshape(b, heads, q, -1)
    rows = jnp.take_along_axis(value.transpose(0, 2, 1, 3), index, axis=2)
    rows = rows.reshape(b, heads, q, -1, c)
    return jnp.einsum("bhqkc,bhqk->bqhc", rows.astype(jnp.float32), weight).astype(value.dtype)
