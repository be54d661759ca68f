"""Bilinear sampling of feature maps at points."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def grid_sample(
    features: Float[Array, "b h w c"], points_xy: Float[Array, "b p 2"]
) -> Float[Array, "b p c"]:
    """Samples maps at points in [0, 1]; what lies outside the map counts as zero.

    The pixel position is `(x * w - 0.5, y * h - 0.5)`, so 0 and 1 are the outer borders; each of
    the four neighbours contributes only if it lies inside. Equal to torch's `grid_sample` with
    `align_corners=False` and zero padding at `2 * points - 1`.

    Returns:
      Samples in the features' dtype, interpolated in float32.
    """
    b, h, w, c = features.shape
    p = points_xy.shape[1]
    u = points_xy[..., 0].astype(jnp.float32) * w - 0.5
    v = points_xy[..., 1].astype(jnp.float32) * h - 0.5
    left, top = jnp.floor(u), jnp.floor(v)
    column = left[..., None] + jnp.array([0.0, 1.0, 0.0, 1.0])
    row = top[..., None] + jnp.array([0.0, 0.0, 1.0, 1.0])
    weight = (1 - jnp.abs(u[..., None] - column)) * (1 - jnp.abs(v[..., None] - row))
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    weight = jnp.where(inside, weight, 0.0)
    index = jnp.clip(row, 0, h - 1).astype(jnp.int32) * w
    index += jnp.clip(column, 0, w - 1).astype(jnp.int32)
    corners = jnp.take_along_axis(
        features.reshape(b, h * w, c), index.reshape(b, p * 4, 1), axis=1
    ).reshape(b, p, 4, c)
    return jnp.sum(corners.astype(jnp.float32) * weight[..., None], axis=2).astype(features.dtype)
