"""Deformable sampling for TPUs: one gathered row holds the four neighbours of a sample.

A TPU reads and writes 128 numbers side by side and gathers row by row. A head's 32 channels would
fill a quarter of that, four times per sample; four neighbours in one row fill it and are read at
once. Queries are the innermost axis of all that is counted per sample, for the same reason. Heads,
and some queries at a time, are worked on one after the other, so that little is gathered at once;
images are not, as they may lie on different devices.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from uniovseg_jax.ops.chunks import chunk_size
from uniovseg_jax.ops.corners import SpatialShapes

# Queries per step. The compiler's program, and its time, grow with the rows of one gather.
_CHUNK = 512


class _Samples(NamedTuple):
    """Where samples lie; weights and slopes of the neighbours in the order of a packed row.

    Attributes:
      index: Row of the packed levels.
      weights: Share of each neighbour, 0 outside of its level.
      slopes_x: Derivatives of the weights by the location's x.
      slopes_y: By its y.
    """

    index: Int[Array, "b k q"]
    weights: tuple[Float[Array, "b k q"], ...]
    slopes_x: tuple[Float[Array, "b k q"], ...]
    slopes_y: tuple[Float[Array, "b k q"], ...]


def _pack(
    value: Float[Array, "b l c"], spatial_shapes: SpatialShapes
) -> Float[Array, "b _rows 4*c"]:
    """Returns rows of four neighbours for every place between cells, borders included."""
    packed, start = [], 0
    for h, w in spatial_shapes:
        level = value[:, start : start + h * w].reshape(-1, h, w, value.shape[-1])
        padded = jnp.pad(level, ((0, 0), (1, 1), (1, 1), (0, 0)))
        corners = [padded[:, y : y + h + 1, x : x + w + 1] for y in (0, 1) for x in (0, 1)]
        rows = jnp.concatenate(corners, axis=-1)
        packed.append(rows.reshape(rows.shape[0], -1, rows.shape[-1]))
        start += h * w
    return jnp.concatenate(packed, axis=1)


def _unpack_sum(
    packed: Float[Array, "b _rows _c4"], spatial_shapes: SpatialShapes
) -> Float[Array, "b l c"]:
    """The transpose of `_pack`: every cell gets the sum of its four copies."""
    levels, start, c = [], 0, packed.shape[-1] // 4
    for h, w in spatial_shapes:
        count = (h + 1) * (w + 1)
        rows = packed[:, start : start + count].reshape(-1, h + 1, w + 1, 4, c)
        level = sum(
            rows[:, 1 - y : 1 - y + h, 1 - x : 1 - x + w, 2 * y + x] for y in (0, 1) for x in (0, 1)
        )
        levels.append(jnp.reshape(level, (-1, h * w, c)))
        start += count
    return jnp.concatenate(levels, axis=1)


def _locate(
    x: Float[Array, "b levels points q"],
    y: Float[Array, "b levels points q"],
    spatial_shapes: SpatialShapes,
) -> _Samples:
    """Finds the neighbours of samples at x and y in [0, 1]."""
    hw = np.array(spatial_shapes)
    height, width = hw[:, 0, None, None], hw[:, 1, None, None]
    counts = (hw + 1).prod(1)
    start = (np.cumsum(counts) - counts)[:, None, None]
    u, v = x * width - 0.5, y * height - 0.5
    left, top = jnp.floor(u), jnp.floor(v)
    flat = (x.shape[0], -1, x.shape[-1])
    weights, slopes_x, slopes_y = [], [], []
    for below in (0, 1):
        for right in (0, 1):
            column, row = left + right, top + below
            weight_u, weight_v = 1 - jnp.abs(u - column), 1 - jnp.abs(v - row)
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            for values, weight in (
                (weights, weight_u * weight_v),
                (slopes_x, (2 * right - 1) * weight_v * width),
                (slopes_y, (2 * below - 1) * weight_u * height),
            ):
                values.append(jnp.where(inside, weight, 0.0).reshape(flat))
    # A place beyond the border has no neighbour inside: any row will do for it.
    row = jnp.clip(top + 1, 0, height).astype(jnp.int32)
    column = jnp.clip(left + 1, 0, width).astype(jnp.int32)
    index = (row * (width + 1) + column + start).astype(jnp.int32)
    return _Samples(index.reshape(flat), tuple(weights), tuple(slopes_x), tuple(slopes_y))


def _gather(
    packed: Float[Array, "b rows c4"], index: Int[Array, "b k q"]
) -> Float[Array, "b k q c4"]:
    rows = jnp.take_along_axis(
        packed, index.reshape(index.shape[0], -1, 1), axis=1, mode="promise_in_bounds"
    )
    return rows.reshape(*index.shape, -1)


def _by_head(x: Array, size: int) -> Array:
    """Cuts the queries: (b, q, heads, ...) -> (heads, q / size, b, ..., size)."""
    x = x.reshape(x.shape[0], -1, size, *x.shape[2:])
    return jnp.moveaxis(jnp.moveaxis(x, (3, 1), (0, 1)), 3, -1)


def _from_heads(x: Array) -> Array:
    """The inverse of `_by_head`."""
    x = jnp.moveaxis(jnp.moveaxis(x, -1, 3), (0, 1), (3, 1))
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def deformable_sampling_packed(
    value: Float[Array, "b l heads c"],
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    spatial_shapes: SpatialShapes,
) -> Float[Array, "b q heads c"]:
    """`deformable_sampling` for TPUs; not to be differentiated."""
    size = chunk_size(sampling_locations.shape[1], _CHUNK)
    c = value.shape[-1]

    def sample_head(head: tuple[Array, ...]) -> Array:
        value_of_head, *chunks = head
        packed = _pack(value_of_head, spatial_shapes)

        def sample_chunk(chunk: tuple[Array, ...]) -> Array:
            x, y, attention = chunk
            samples = _locate(x, y, spatial_shapes)
            rows = _gather(packed, samples.index)
            attention = attention.reshape(samples.index.shape)
            total = jnp.zeros(())
            for i, weight in enumerate(samples.weights):
                scale = (weight * attention)[..., None]
                total += jnp.sum(scale * rows[..., i * c : (i + 1) * c], axis=1)
            return total

        return jax.lax.map(sample_chunk, tuple(chunks))

    arguments = (
        jnp.moveaxis(value, 2, 0).astype(jnp.float32),
        *_chunked_arguments(sampling_locations, attention_weights, size),
    )
    out = jax.lax.map(sample_head, arguments)
    return _from_heads(jnp.swapaxes(out, -1, -2)).astype(value.dtype)


def _chunked_arguments(
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    size: int,
) -> tuple[Array, Array, Array]:
    """Returns x, y and weights, each (heads, q / size, b, levels, points, size) in float32."""
    locations = sampling_locations.astype(jnp.float32)
    return (
        _by_head(locations[..., 0], size),
        _by_head(locations[..., 1], size),
        _by_head(attention_weights.astype(jnp.float32), size),
    )


def packed_backward(
    value: Array, locations: Array, weights: Array, grad: Array, *, spatial_shapes: SpatialShapes
) -> tuple[Array, Array, Array]:
    """Gradients of `deformable_sampling_packed` in closed form; rows are gathered anew."""
    size = chunk_size(locations.shape[1], _CHUNK)
    c = value.shape[-1]

    def differentiate_head(head: tuple[Array, ...]) -> tuple[Array, ...]:
        value_of_head, *chunks = head
        packed = _pack(value_of_head, spatial_shapes)

        def add_chunk(
            grad_packed: Array, chunk: tuple[Array, ...]
        ) -> tuple[Array, tuple[Array, ...]]:
            x, y, attention, grad = chunk
            grad = jnp.swapaxes(grad, -1, -2)[:, None]
            samples = _locate(x, y, spatial_shapes)
            rows = _gather(packed, samples.index)
            shape, attention = attention.shape, attention.reshape(samples.index.shape)
            grad_x = grad_y = grad_attention = jnp.zeros(())
            updates = []
            for i, weight in enumerate(samples.weights):
                # How much the neighbour's row agrees with the gradient: all that is needed.
                agreement = jnp.sum(rows[..., i * c : (i + 1) * c] * grad, axis=-1)
                grad_attention += weight * agreement
                grad_x += samples.slopes_x[i] * agreement * attention
                grad_y += samples.slopes_y[i] * agreement * attention
                updates.append((weight * attention)[..., None] * grad)
            update = jnp.concatenate(updates, axis=-1)
            grad_packed = jax.vmap(
                lambda total, index, rows: total.at[index].add(rows, mode="promise_in_bounds")
            )(grad_packed, samples.index, update)
            return grad_packed, tuple(
                part.reshape(shape) for part in (grad_x, grad_y, grad_attention)
            )

        grad_packed, grads = jax.lax.scan(add_chunk, jnp.zeros_like(packed), tuple(chunks))
        return _unpack_sum(grad_packed, spatial_shapes), *grads

    arguments = (
        jnp.moveaxis(value, 2, 0).astype(jnp.float32),
        *_chunked_arguments(locations, weights, size),
        _by_head(grad.astype(jnp.float32), size),
    )
    grad_value, *grads = jax.lax.map(differentiate_head, arguments)
    grad_x, grad_y, grad_weights = (_from_heads(part) for part in grads)
    return (
        jnp.moveaxis(grad_value, 0, 2).astype(value.dtype),
        jnp.stack([grad_x, grad_y], -1).astype(locations.dtype),
        grad_weights.astype(weights.dtype),
    )
