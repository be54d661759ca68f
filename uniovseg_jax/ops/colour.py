"""Changes of brightness, contrast, saturation and hue, on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8


def jitter_colours(
    image: UInt8[Array, "b h w 3"],
    colours: Float[Array, "b 5"],
    content_hw: Int[Array, "b 2"],
) -> UInt8[Array, "b h w 3"]:
    """Changes the colours of RGB images, not of their padding.

    Args:
      image: RGB.
      colours: For each image, in this order: levels added to the brightness; a factor of the
        contrast; a factor of the saturation; turns of the hue, 1 for the whole circle; and whether
        (1) or not (0) the contrast comes before saturation and hue rather than last. Values are
        cut to 0..255 after each change.
      content_hw: Size of what is no padding, from the upper left corner.

    Source: Liu et al., SSD (arXiv 1512.02325), appendix of the authors' code.
    """
    shift, contrast, saturation, turn, contrast_first = (
        colours[:, i, None, None, None] for i in range(5)
    )
    first = contrast_first > 0.5
    x = _cut(image.astype(jnp.float32) + shift)
    x = _cut(x * jnp.where(first, contrast, 1.0))
    x = _change_hue_and_saturation(x, saturation, turn)
    x = _cut(x * jnp.where(first, 1.0, contrast))
    _, h, w, _ = image.shape
    inside = (jnp.arange(h)[:, None, None] < content_hw[:, 0, None, None, None]) & (
        jnp.arange(w)[:, None] < content_hw[:, 1, None, None, None]
    )
    return jnp.where(inside, jnp.round(x).astype(jnp.uint8), image)


def _cut(x: Float[Array, "*s"]) -> Float[Array, "*s"]:
    return jnp.clip(x, 0.0, 255.0)


def _change_hue_and_saturation(
    rgb: Float[Array, "b h w 3"],
    saturation: Float[Array, "b 1 1 1"],
    turn: Float[Array, "b 1 1 1"],
) -> Float[Array, "b h w 3"]:
    """Multiplies the saturation and turns the hue of the HSV colour model.

    The value is the largest channel, the chroma its distance from the smallest one; each channel
    follows from the hue's distance to its own corner of the colour hexagon.
    """
    r, g, b = rgb[..., :1], rgb[..., 1:2], rgb[..., 2:]
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    hue = jnp.where(
        value == r,
        (g - b) / divisor,
        jnp.where(value == g, 2 + (b - r) / divisor, 4 + (r - g) / divisor),
    )
    hue += 6 * turn
    chroma = jnp.minimum(chroma * saturation, value)
    corners = jnp.array([5.0, 3.0, 1.0])
    k = jnp.mod(corners + hue, 6.0)
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0.0, 1.0)
