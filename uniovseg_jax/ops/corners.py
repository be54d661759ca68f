"""The four neighbours of places between pixels, for bilinear sampling."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SpatialShapes = tuple[tuple[int, int], ...]


def find_corners(
    sampling_locations: Float[Array, "*n levels points 2"], spatial_shapes: SpatialShapes
) -> tuple[
    Int[Array, "*n levels points 4"],
    Float[Array, "*n levels points 4"],
    Float[Array, "*n levels points 4 2"],
]:
    """Returns the four neighbours of every sample: row of the flattened levels, weight, slope.

    A neighbour outside its level has weight and slope 0 and a row inside. The slope is the
    derivative of the weight by the location's x and y.
    """
    hw = np.array(spatial_shapes)
    height, width = hw[:, 0, None], hw[:, 1, None]
    start = np.concatenate([[0], np.cumsum(hw.prod(1))[:-1]])[:, None, None]
    u = sampling_locations[..., 0].astype(jnp.float32) * width - 0.5
    v = sampling_locations[..., 1].astype(jnp.float32) * height - 0.5
    right = np.array([0, 1, 0, 1], np.float32)
    below = np.array([0, 0, 1, 1], np.float32)
    column, row = jnp.floor(u)[..., None] + right, jnp.floor(v)[..., None] + below
    weight_u, weight_v = 1 - jnp.abs(u[..., None] - column), 1 - jnp.abs(v[..., None] - row)
    height, width = height[..., None], width[..., None]
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = jnp.clip(row, 0, height - 1).astype(jnp.int32) * width
    index += jnp.clip(column, 0, width - 1).astype(jnp.int32) + start
    slope = jnp.stack([(2 * right - 1) * weight_v * width, (2 * below - 1) * weight_u * height], -1)
    return (
        index.astype(jnp.int32),
        jnp.where(inside, weight_u * weight_v, 0.0),
        jnp.where(inside[..., None], slope, 0.0),
    )
