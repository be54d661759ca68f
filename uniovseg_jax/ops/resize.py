"""Bilinear resizing.

It always means half-pixel centres, clamped borders and no antialiasing, as
`torch.nn.functional.interpolate(..., align_corners=False)` has it. A resize is two small matrix
products, the same matrices on host and device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@functools.lru_cache(maxsize=64)
def _bilinear_matrix(size_in: int, size_out: int) -> Float[np.ndarray, "out in"]:
    """Returns the matrix that resizes one axis; every row holds at most two weights, sum 1."""
    position = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    position = np.clip(position, 0, size_in - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, size_in - 1)
    fraction = position - low
    matrix = np.zeros((size_out, size_in))
    np.add.at(matrix, (np.arange(size_out), low), 1 - fraction)
    np.add.at(matrix, (np.arange(size_out), high), fraction)
    matrix = matrix.astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resize_maps(maps: Float[Array, "*n h w"], hw: tuple[int, int]) -> Float[Array, "*n h2 w2"]:
    """Resizes the last two axes bilinearly, accumulating in float32; keeps the dtype."""
    if maps.shape[-2:] == tuple(hw):
        return maps
    rows = _bilinear_matrix(maps.shape[-2], hw[0])
    columns = _bilinear_matrix(maps.shape[-1], hw[1])
    out = jnp.einsum(
        "...hw,yh,xw->...yx",
        maps.astype(jnp.float32),
        rows,
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )
    return out.astype(maps.dtype)


def resize_bilinear(x: Float[Array, "b h w c"], hw: tuple[int, int]) -> Float[Array, "b h2 w2 c"]:
    """Resizes feature maps bilinearly, accumulating in float32; keeps the dtype."""
    if x.shape[1:3] == tuple(hw):
        return x
    rows = _bilinear_matrix(x.shape[1], hw[0])
    columns = _bilinear_matrix(x.shape[2], hw[1])
    out = jnp.einsum(
        "bhwc,yh,xw->byxc",
        x.astype(jnp.float32),
        rows,
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )
    return out.astype(x.dtype)


def resize_bilinear_numpy(
    maps: Float[np.ndarray, "n h w"], hw: tuple[int, int]
) -> Float[np.ndarray, "n h2 w2"]:
    """Host version of `resize_maps` for work of variable size; returns float32."""
    maps = np.asarray(maps, np.float32)
    if maps.shape[1:] == tuple(hw):
        return maps
    rows = _bilinear_matrix(maps.shape[1], hw[0])
    columns = _bilinear_matrix(maps.shape[2], hw[1])
    return rows @ maps @ columns.T
