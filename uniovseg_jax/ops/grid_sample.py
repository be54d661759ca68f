"""Bilinear sampling of feature maps at points."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.ops.chunks import chunk_size
from uniovseg_jax.ops.corners import find_corners

# Points per step. All the neighbours of the many points of a loss would fill the memory of a TPU,
# and its compiler's program grows with the rows of one gather.
_CHUNK = 2048


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
    # The custom derivative hides the result's type from the type checker.
    samples: Any = _sample(features, points_xy)
    return samples


def _corners_of(points: Array, hw: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Returns rows (b, p, 4), weights (b, p, 4) and slopes (b, p, 4, 2)."""
    corners = find_corners(points[:, :, None, None], (hw,))
    index, weight, slope = (x[:, :, 0, 0] for x in corners)
    return index, weight, slope


def _rows(features: Float[Array, "b hw c"], index: Array) -> Float[Array, "b p 4 c"]:
    flat = index.reshape(index.shape[0], -1, 1)
    rows = jnp.take_along_axis(features, flat, axis=1, mode="promise_in_bounds")
    return rows.reshape(*index.shape, -1).astype(jnp.float32)


def _cut(x: Float[Array, "b p c"]) -> Float[Array, "steps b size c"]:
    size = chunk_size(x.shape[1], _CHUNK)
    return jnp.swapaxes(x.reshape(x.shape[0], -1, size, x.shape[2]), 0, 1)


def _join(x: Float[Array, "steps b size c"]) -> Float[Array, "b p c"]:
    return jnp.swapaxes(x, 0, 1).reshape(x.shape[1], -1, x.shape[3])


@jax.custom_vjp
def _sample(features: Array, points: Array) -> Array:
    b, h, w, c = features.shape
    flat = features.reshape(b, h * w, c)

    def sample_chunk(points: Array) -> Array:
        index, weight, _ = _corners_of(points, (h, w))
        return jnp.sum(_rows(flat, index) * weight[..., None], axis=2).astype(features.dtype)

    return _join(jax.lax.map(sample_chunk, _cut(points)))


def _forward(features: Array, points: Array) -> tuple[Array, tuple[Array, Array]]:
    return _sample(features, points), (features, points)


def _backward(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """Adds all gradients into one map; automatic differentiation would make one per chunk."""
    features, points = residuals
    b, h, w, c = features.shape
    flat = features.reshape(b, h * w, c)

    def add_chunk(total: Array, chunk: tuple[Array, Array]) -> tuple[Array, Array]:
        points, grad = chunk
        index, weight, slope = _corners_of(points, (h, w))
        agreement = jnp.einsum("bpkc,bpc->bpk", _rows(flat, index), grad)
        grad_points = jnp.einsum("bpk,bpkx->bpx", agreement, slope)
        update = (weight[..., None] * grad[:, :, None]).reshape(b, -1, c)
        total = jax.vmap(
            lambda total, index, rows: total.at[index].add(rows, mode="promise_in_bounds")
        )(total, index.reshape(b, -1), update)
        return total, grad_points

    total, grad_points = jax.lax.scan(
        add_chunk,
        jnp.zeros((b, h * w, c), jnp.float32),
        (_cut(points), _cut(grad.astype(jnp.float32))),
    )
    total = total.reshape(features.shape).astype(features.dtype)
    return total, _join(grad_points).astype(points.dtype)


_sample.defvjp(_forward, _backward)
