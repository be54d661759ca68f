"""Position encodings of points and of maps: random Fourier features and DETR's sine features."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

_TEMPERATURE = 10000.0
_EPS = 1e-6


def fourier_encoding(
    points_xy: Float[Array, "*n 2"], matrix: Float[Array, "2 f"]
) -> Float[Array, "*n 2*f"]:
    """Encodes points by `sin` and `cos` of random projections.

    Args:
      points_xy: Points, [0, 1] inside the image; points outside are encoded as they are.
      matrix: Fixed random frequencies; row 0 multiplies x, row 1 y.

    Source: Tancik et al., Fourier features (arXiv 2006.10739), as segment-anything uses them.
    """
    centred = 2 * points_xy.astype(jnp.float32) - 1
    # Two multiply-adds in place of a matrix product: a product may run in reduced precision, and
    # an angle of tens of radians cannot afford it.
    angle = 2 * math.pi * (centred[..., :1] * matrix[0] + centred[..., 1:] * matrix[1])
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def fourier_encoding_map(
    hw: tuple[int, int], matrix: Float[Array, "2 f"]
) -> Float[Array, "h w 2*f"]:
    """Encodes the cell centres of a map."""
    h, w = hw
    x = jnp.broadcast_to((jnp.arange(w) + 0.5) / w, (h, w))
    y = jnp.broadcast_to(((jnp.arange(h) + 0.5) / h)[:, None], (h, w))
    return fourier_encoding(jnp.stack([x, y], -1), matrix)


def _sine_features(angle: Float[Array, "*n"], features: int) -> Float[Array, "*n f"]:
    """Interleaves sin (even) and cos (odd) of `angle` over geometric wavelengths."""
    index = jnp.arange(features)
    wavelength = _TEMPERATURE ** (2 * (index // 2) / features)
    scaled = angle[..., None] / wavelength
    return jnp.where(index % 2 == 0, jnp.sin(scaled), jnp.cos(scaled))


def sine_encoding_map(hw: tuple[int, int], dim: int) -> Float[Array, "h w d"]:
    """Encodes the cells of a map as DETR does: `dim / 2` features of y, then as many of x.

    Source: Carion et al., DETR (arXiv 2005.12872).
    """
    h, w = hw
    y = jnp.arange(1, h + 1) / (h + _EPS) * 2 * math.pi
    x = jnp.arange(1, w + 1) / (w + _EPS) * 2 * math.pi
    y = jnp.broadcast_to(_sine_features(y, dim // 2)[:, None], (h, w, dim // 2))
    x = jnp.broadcast_to(_sine_features(x, dim // 2)[None], (h, w, dim // 2))
    return jnp.concatenate([y, x], -1)


def sine_encoding_points(
    points_xy_px: Float[Array, "*n 2"], image_hw: tuple[int, int], dim: int
) -> Float[Array, "*n d"]:
    """Encodes points in pixels of an image the way `sine_encoding_map` encodes cells."""
    h, w = image_hw
    x = points_xy_px[..., 0].astype(jnp.float32) / (w + _EPS) * 2 * math.pi
    y = points_xy_px[..., 1].astype(jnp.float32) / (h + _EPS) * 2 * math.pi
    return jnp.concatenate([_sine_features(y, dim // 2), _sine_features(x, dim // 2)], -1)
