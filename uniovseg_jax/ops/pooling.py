"""Averages of dense features inside masks (mask pooling)."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.ops.resize import resize_maps

PoolingMode = Literal["binary", "binary_or_soft", "area"]


def _covered_fraction(
    mask: Float[Array, "b n H W"], hw: tuple[int, int]
) -> Float[Array, "b n h w"]:
    """Returns the part of each cell that a 0/1 mask covers."""
    b, n, height, width = mask.shape
    h, w = hw
    if height % h == 0 and width % w == 0:
        return mask.reshape(b, n, h, height // h, w, width // w).mean((3, 5))
    return jax.image.resize(mask, (b, n, h, w), "linear", antialias=True)


def mask_weights(
    mask_logits: Float[Array, "b n H W"], hw: tuple[int, int], mode: PoolingMode
) -> Float[Array, "b n h w"]:
    """Returns the weight of every cell of an `hw` map in every mask's average.

    Args:
      mask_logits: Mask logits at any size; a pixel belongs to a mask where the logit is >= 0.
      hw: Size of the map that will be pooled.
      mode: `binary` resizes the logits bilinearly and takes cells >= 0; `binary_or_soft` does the
        same, but weighs by probability where no cell is left; `area` weighs every cell by the
        fraction of it that the mask covers, so small masks never vanish.

    Returns:
      float32 weights that sum to 1 per mask, or all zero for an empty mask. No gradient flows
      through them.

    Raises:
      ValueError: If the mode is unknown.

    Source: FC-CLIP's mask pooling (binary); arXiv 2402.08960, section 3.4.
    """
    mask_logits = jax.lax.stop_gradient(mask_logits).astype(jnp.float32)
    if mode == "area":
        weights = _covered_fraction((mask_logits >= 0).astype(jnp.float32), hw)
    elif mode in ("binary", "binary_or_soft"):
        resized = resize_maps(mask_logits, hw)
        weights = (resized >= 0).astype(jnp.float32)
        if mode == "binary_or_soft":
            empty = weights.sum((-2, -1), keepdims=True) == 0
            weights = jnp.where(empty, jax.nn.sigmoid(resized), weights)
    else:
        raise ValueError(
            f"Unknown pooling mode {mode!r}; expected 'binary', 'binary_or_soft' or 'area'."
        )
    total = weights.sum((-2, -1), keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)


def pool(
    features: Float[Array, "b h w c"], weights: Float[Array, "b n h w"]
) -> Float[Array, "b n c"]:
    """Returns the weighted sum of features per mask, in float32."""
    return jnp.einsum(
        "bhwc,bnhw->bnc",
        features.astype(jnp.float32),
        weights,
        precision=jax.lax.Precision.HIGHEST,
    )


def mask_pooling(
    features: Float[Array, "b h w c"], mask_logits: Float[Array, "b n H W"], mode: PoolingMode
) -> Float[Array, "b n c"]:
    """Averages features inside each mask; zeros for an empty mask, never NaN."""
    h, w = features.shape[1:3]
    return pool(features, mask_weights(mask_logits, (h, w), mode))
