import colorsys

import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.ops.colour import jitter_colours


def change(pixel, colours):
    """One pixel in float64, with Python's own HSV."""
    shift, contrast, saturation, turn, contrast_first = colours
    rgb = np.clip(np.asarray(pixel, float) + shift, 0, 255)
    if contrast_first:
        rgb = np.clip(rgb * contrast, 0, 255)
    h, s, v = colorsys.rgb_to_hsv(*rgb / 255)
    rgb = 255 * np.array(colorsys.hsv_to_rgb((h + turn) % 1, min(1, s * saturation), v))
    return rgb if contrast_first else np.clip(rgb * contrast, 0, 255)


@pytest.mark.parametrize("contrast_first", [0, 1])
def test_colours_equal_those_of_the_hsv_model(contrast_first):
    rng = np.random.default_rng(contrast_first)
    image = rng.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    image[:, 0, :4] = [[0, 0, 0], [255, 255, 255], [90, 90, 90], [255, 0, 0]]  # Without hue, pure.
    image[:, 1] = np.sort(image[:, 1], axis=-1)
    image[:, 2, :, 1] = image[:, 2, :, 0]  # Two largest or two smallest channels.
    colours = rng.uniform([-32, 0.5, 0.5, -0.1], [32, 1.5, 1.5, 0.1], (6, 4))
    colours[0], colours[1] = [0, 1, 1, 0], [0, 1, 1, -0.5]
    colours = np.concatenate([colours, np.full((6, 1), contrast_first)], axis=1)
    whole = np.full((6, 2), 8)
    got = jitter_colours(jnp.asarray(image), jnp.asarray(colours, jnp.float32), jnp.asarray(whole))
    expected = [
        [change(pixel, own) for pixel in pixels.reshape(-1, 3)]
        for pixels, own in zip(image, colours, strict=True)
    ]
    difference = np.asarray(got, float) - np.reshape(expected, image.shape)
    assert np.abs(difference).max() < 0.501  # Rounded to levels.
    np.testing.assert_array_equal(got[0], image[0])


def test_padding_keeps_its_colour():
    image = np.full((2, 6, 8, 3), 128, np.uint8)
    content = np.array([[4, 8], [6, 5]])
    colours = jnp.tile(jnp.array([[20.0, 1.0, 1.0, 0.0, 0.0]]), (2, 1))
    got = np.asarray(jitter_colours(jnp.asarray(image), colours, jnp.asarray(content)))
    assert (got[0, :4] == 148).all() and (got[0, 4:] == 128).all()
    assert (got[1, :, :5] == 148).all() and (got[1, :, 5:] == 128).all()
