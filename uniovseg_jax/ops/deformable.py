"""Multi-scale deformable sampling: every query gathers a few weighted samples of every level.

Source: Zhu et al., Deformable DETR (arXiv 2010.04159), equation 3.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from uniovseg_jax.ops.chunks import chunk_size
from uniovseg_jax.ops.corners import SpatialShapes, find_corners
from uniovseg_jax.ops.deformable_packed import deformable_sampling_packed, packed_backward
from uniovseg_jax.ops.platform import by_platform

# Queries per step of the CPU form: its gathered rows then stay in cache.
_FORWARD_CHUNK = 256
_BACKWARD_CHUNK = 1024


def deformable_sampling_gather(
    value: Float[Array, "b l heads c"],
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    spatial_shapes: SpatialShapes,
) -> Float[Array, "b q heads c"]:
    """`deformable_sampling` as one gather of all rows and one product: for GPUs."""
    b, _, heads, c = value.shape
    q = sampling_locations.shape[1]
    index, weight, _ = find_corners(sampling_locations, spatial_shapes)
    weight = weight * attention_weights[..., None]
    index = jnp.moveaxis(index, 2, 1).reshape(b, heads, -1, 1)
    weight = jnp.moveaxis(weight, 2, 1).reshape(b, heads, q, -1)
    rows = jnp.take_along_axis(jnp.moveaxis(value, 2, 1), index, axis=2)
    rows = rows.reshape(b, heads, q, -1, c).astype(jnp.float32)
    return jnp.einsum("bhqkc,bhqk->bqhc", rows, weight).astype(value.dtype)


def _chunked(x: Array, size: int) -> Array:
    """Cuts the queries: (b, q, heads, ...) -> (heads, q / size, b, size, ...)."""
    b, q = x.shape[:2]
    x = x.reshape(b, q // size, size, *x.shape[2:])
    return jnp.moveaxis(x, (3, 1), (0, 1))


def _unchunked(x: Array) -> Array:
    """The inverse of `_chunked`."""
    x = jnp.moveaxis(x, (0, 1), (3, 1))
    return x.reshape(x.shape[0], -1, *x.shape[3:])


def _rows(value: Float[Array, "b l c"], index: Int[Array, "b q"]) -> Float[Array, "b q c"]:
    """Gathers rows that `find_corners` has put inside the value: no bounds are checked."""
    batch = jnp.arange(value.shape[0])[:, None]
    return value.at[batch, index].get(mode="promise_in_bounds")


def _sum_corners(x: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Sums the last axis by plain additions, which fuse; a reduction of four would not."""
    return x[..., 0] + x[..., 1] + x[..., 2] + x[..., 3]


def deformable_sampling_chunked(
    value: Float[Array, "b l heads c"],
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    spatial_shapes: SpatialShapes,
) -> Float[Array, "b q heads c"]:
    """`deformable_sampling` head by head and some queries at a time: for CPU.

    The gathers of a chunk are unrolled so that XLA fuses them with the weighted sum; not to be
    differentiated.
    """
    size = chunk_size(sampling_locations.shape[1], _FORWARD_CHUNK)

    def sample_head(head: tuple[Array, Array, Array]) -> Array:
        rows_of_head, all_locations, all_weights = head

        def sample_chunk(chunk: tuple[Array, Array]) -> Array:
            locations, weights = chunk
            index, weight, _ = find_corners(locations, spatial_shapes)
            index = index.reshape(*index.shape[:2], -1)
            weight = (weight * weights[..., None]).reshape(index.shape)
            total = jnp.zeros((*index.shape[:2], value.shape[-1]), jnp.float32)
            for k in range(index.shape[-1]):
                total += _rows(rows_of_head, index[..., k]) * weight[..., k, None]
            return total

        return jax.lax.map(sample_chunk, (all_locations, all_weights))

    heads = (
        jnp.moveaxis(value, 2, 0).astype(jnp.float32),
        _chunked(sampling_locations, size),
        _chunked(attention_weights, size),
    )
    return _unchunked(jax.lax.map(sample_head, heads)).astype(value.dtype)


def _chunked_backward(
    value: Array, locations: Array, weights: Array, grad: Array, *, spatial_shapes: SpatialShapes
) -> tuple[Array, Array, Array]:
    """Gradients of `deformable_sampling_chunked` in closed form."""
    size = chunk_size(locations.shape[1], _BACKWARD_CHUNK)

    def differentiate_head(head: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array]:
        rows_of_head, *chunks = head

        def add_chunk(
            grad_value: Array, chunk: tuple[Array, Array, Array]
        ) -> tuple[Array, tuple[Array, Array]]:
            locations, weights, grad = chunk
            index, weight, slope = find_corners(locations, spatial_shapes)
            flat = index.reshape(*index.shape[:2], -1)
            # How much every neighbour's row agrees with the gradient: all that is needed. A gather
            # and a product; unrolled sums as in the forward pass take seven times as long.
            rows = _rows(rows_of_head, flat.reshape(flat.shape[0], -1))
            rows = rows.reshape(*flat.shape, -1)
            agreement = jnp.einsum("bqkc,bqc->bqk", rows, grad).reshape(index.shape)
            grad_weights = _sum_corners(weight * agreement)
            grad_locations = jnp.stack(
                [_sum_corners(slope[..., axis] * agreement) * weights for axis in (0, 1)], -1
            )
            update = (weight * weights[..., None]).reshape(flat.shape)[..., None] * grad[:, :, None]
            grad_value = jax.vmap(
                lambda total, index, rows: total.at[index].add(rows, mode="promise_in_bounds")
            )(grad_value, flat, update)
            return grad_value, (grad_locations, grad_weights)

        grad_value, grads = jax.lax.scan(
            add_chunk, jnp.zeros_like(rows_of_head), (chunks[0], chunks[1], chunks[2])
        )
        return grad_value, *grads

    heads = (
        jnp.moveaxis(value, 2, 0).astype(jnp.float32),
        _chunked(locations.astype(jnp.float32), size),
        _chunked(weights.astype(jnp.float32), size),
        _chunked(grad.astype(jnp.float32), size),
    )
    grad_value, grad_locations, grad_weights = jax.lax.map(differentiate_head, heads)
    return (
        jnp.moveaxis(grad_value, 0, 2).astype(value.dtype),
        _unchunked(grad_locations).astype(locations.dtype),
        _unchunked(grad_weights).astype(weights.dtype),
    )


def _gather_backward(
    value: Array, locations: Array, weights: Array, grad: Array, *, spatial_shapes: SpatialShapes
) -> tuple[Array, Array, Array]:
    """Gradients of `deformable_sampling_gather`."""
    sample = functools.partial(deformable_sampling_gather, spatial_shapes=spatial_shapes)
    return jax.vjp(sample, value, locations, weights)[1](grad)


def deformable_sampling(
    value: Float[Array, "b l heads c"],
    sampling_locations: Float[Array, "b q heads levels points 2"],
    attention_weights: Float[Array, "b q heads levels points"],
    spatial_shapes: SpatialShapes,
) -> Float[Array, "b q heads c"]:
    """Samples every level at every point and sums with the attention weights.

    Args:
      value: Rows of all levels, flattened row by row and concatenated.
      sampling_locations: Points (x, y), [0, 1] inside a level; outside counts as zero.
      attention_weights: Weight of every sample.
      spatial_shapes: Height and width of every level.

    Returns:
      Weighted sums in the dtype of `value`, accumulated in float32. The gradient of the locations
      jumps where a sample lies on a pixel centre, as bilinear interpolation has a kink there.

    Raises:
      ValueError: If the levels do not add up to the rows of `value`.
    """
    if sum(math.prod(hw) for hw in spatial_shapes) != value.shape[1]:
        raise ValueError(f"Levels of {spatial_shapes} do not add up to {value.shape[1]} rows.")
    return _sample(value, sampling_locations, attention_weights, spatial_shapes)


def _choose(value: Array, locations: Array, weights: Array, spatial_shapes: SpatialShapes) -> Array:
    return by_platform(
        value,
        locations,
        weights,
        cpu=functools.partial(deformable_sampling_chunked, spatial_shapes=spatial_shapes),
        accelerator=functools.partial(deformable_sampling_gather, spatial_shapes=spatial_shapes),
        tpu=functools.partial(deformable_sampling_packed, spatial_shapes=spatial_shapes),
    )


def _forward(
    value: Array, locations: Array, weights: Array, spatial_shapes: SpatialShapes
) -> tuple[Array, tuple[Array, Array, Array]]:
    return _choose(value, locations, weights, spatial_shapes), (value, locations, weights)


def _backward(
    spatial_shapes: SpatialShapes, residuals: tuple[Array, Array, Array], grad: Array
) -> tuple[Array, Array, Array]:
    return by_platform(
        *residuals,
        grad,
        cpu=functools.partial(_chunked_backward, spatial_shapes=spatial_shapes),
        accelerator=functools.partial(_gather_backward, spatial_shapes=spatial_shapes),
        tpu=functools.partial(packed_backward, spatial_shapes=spatial_shapes),
    )


_sample = jax.custom_vjp(_choose, nondiff_argnums=(3,))
_sample.defvjp(_forward, _backward)
