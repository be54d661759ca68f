"""Points at which mask losses are taken: reading targets, choosing where masks are uncertain."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, UInt8

from uniovseg_jax.ops.chunks import chunk_size

# Name of the one value that is worth keeping when the rest is recomputed for the gradient.
THRESHOLD = "uncertainty_threshold"

# Points at which masks are read per step.
_CHUNK = 2048


def sample_masks(
    mask_bits: UInt8[Array, "n h w8"], points_xy: Float[Array, "p 2"]
) -> Float[Array, "n p"]:
    """Reads masks bilinearly at points in [0, 1] with zeros outside, as `grid_sample` does.

    The masks stay packed, eight pixels a byte with the first in the highest bit; only the four
    neighbours of each point are read.
    """
    n, h, w8 = mask_bits.shape
    w = 8 * w8
    flat = mask_bits.reshape(n, h * w8)

    def sample_chunk(points_xy: Float[Array, "p 2"]) -> Float[Array, "n p"]:
        u, v = points_xy[:, 0] * w - 0.5, points_xy[:, 1] * h - 0.5
        total = jnp.zeros((n, points_xy.shape[0]), jnp.float32)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            x, y = jnp.floor(u) + dx, jnp.floor(v) + dy
            weight = (1 - jnp.abs(u - x)) * (1 - jnp.abs(v - y))
            weight = jnp.where((x >= 0) & (x < w) & (y >= 0) & (y < h), weight, 0.0)
            column, row = (
                jnp.clip(z, 0, size - 1).astype(jnp.int32) for z, size in ((x, w), (y, h))
            )
            octets = jnp.take(flat, row * w8 + column // 8, axis=1)
            inside = (octets >> (7 - column % 8).astype(jnp.uint8)) & 1
            total += jnp.where(inside == 1, weight, 0.0)
        return total

    # In steps, because a TPU's program for a gather grows with its rows.
    size = chunk_size(len(points_xy), _CHUNK)
    chunks = jax.lax.map(sample_chunk, points_xy.reshape(-1, size, 2))
    return jnp.moveaxis(chunks, 0, 1).reshape(n, -1)


def kth_smallest(values: Float[Array, "*lead p"], k: int) -> Float[Array, "*lead 1"]:
    """Returns the k-th smallest of non-negative numbers along the last axis, exactly.

    Non-negative floats order as their bit patterns do, so the answer is found bit by bit in 31
    counting passes; `top_k` and `sort` take about eight times as long on a CPU.
    """
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)

    def narrow(step: Array, found: Array) -> Array:
        candidate = found | (1 << (30 - step))
        below = jnp.sum(bits < candidate, axis=-1, keepdims=True)
        return jnp.where(below < k, candidate, found)

    found = jax.lax.fori_loop(0, 31, narrow, jnp.zeros((*bits.shape[:-1], 1), jnp.int32))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def choose_points(
    logits: Float[Array, "*lead m"], num_candidates: int, num_uncertain: int
) -> Bool[Array, "*lead m"]:
    """Chooses, for each mask, its most uncertain candidates and all points behind them.

    Args:
      logits: Logits at the points, without a gradient from here; candidates come first.
      num_candidates: How many of the points are candidates.
      num_uncertain: How many candidates of the smallest magnitude to choose.
    """
    uncertainty = jnp.abs(jax.lax.stop_gradient(logits))
    candidates = uncertainty[..., :num_candidates]
    last = kth_smallest(candidates, num_uncertain)
    above = jnp.where(candidates > last, candidates, jnp.inf).min(axis=-1, keepdims=True)
    # Halfway to the next candidate, so that logits that are computed again for the gradient, and
    # come out with another rounding, fall on the same side.
    threshold = checkpoint_name((last + above) / 2, THRESHOLD)
    return (uncertainty <= threshold) | (jnp.arange(logits.shape[-1]) >= num_candidates)
