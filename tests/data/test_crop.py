"""Cuts: image and masks stay together, and masks are what cutting them whole would give."""

import io

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.data.crop import Crop
from uniovseg_jax.masks import rle_encode


def literal_mask(mask, size, scale, offset, flip):
    """The whole mask flipped, scaled to the nearest pixel, cropped and padded."""
    if flip:
        mask = mask[:, ::-1]
    h, w = mask.shape
    zoom = scale * size / max(h, w)
    scaled_h, scaled_w = max(1, round(h * zoom)), max(1, round(w * zoom))
    rows = np.minimum(((np.arange(scaled_h) + 0.5) * h / scaled_h).astype(int), h - 1)
    columns = np.minimum(((np.arange(scaled_w) + 0.5) * w / scaled_w).astype(int), w - 1)
    scaled = mask[rows][:, columns]
    y, x = (round(offset * max(0, side - size)) for side in (scaled_h, scaled_w))
    scaled = scaled[y : y + size, x : x + size]
    return np.pad(scaled, ((0, size - scaled.shape[0]), (0, size - scaled.shape[1])))


def cut(crop, mask):
    found = np.zeros((crop.size, crop.size), bool)
    block = crop.cut_mask(rle_encode(mask))
    if block is not None:
        (h, w), top, left = block.pixels.shape, block.top, block.left
        found[top : top + h, left : left + w] = block.pixels
    return found


def draw_mask(rng, h, w):
    kind = rng.integers(5)
    if kind == 0:
        return rng.random((h, w)) < rng.random()
    mask = np.zeros((h, w), bool)
    if kind == 1:
        return mask
    if kind == 2:
        return ~mask
    y, x = rng.integers(0, h), rng.integers(0, w)
    mask[y : y + rng.integers(1, h + 1), x : x + rng.integers(1, w + 1)] = True
    if kind == 3:
        mask[:, rng.integers(0, w)] = True  # A run over whole columns.
    return mask


def test_a_cut_mask_is_the_mask_that_is_cut():
    rng = np.random.default_rng(0)
    for _ in range(400):
        h, w = rng.integers(1, 60, 2)
        size = int(rng.integers(8, 64))
        where = rng.uniform(0.3, 2.5), rng.random(), bool(rng.integers(2))
        mask = draw_mask(rng, h, w)
        crop = Crop(int(h), int(w), size, *where)
        np.testing.assert_array_equal(cut(crop, mask), literal_mask(mask, size, *where))


def test_empty_runs_change_nothing():
    mask = draw_mask(np.random.default_rng(1), 30, 40)
    runs = list(np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=~mask[0, 0])), append=1200))
    runs = [0, *runs] if mask[0, 0] else runs
    torn = [part for run in runs for part in (run - run // 2, 0, run // 2)]
    for padded in (runs, torn, [*runs, 0], [*runs, 0, 0]):
        block = Crop(30, 40, 64, 0.9, 0.0, True).cut_mask({"size": [30, 40], "counts": padded})
        whole = Crop(30, 40, 64, 0.9, 0.0, True).cut_mask(rle_encode(mask))
        assert block[1:] == whole[1:]
        np.testing.assert_array_equal(block.pixels, whole.pixels)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.2, 1.7])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.4, 1.0])
def test_masks_follow_the_image(scale, flip, offset):
    mask = np.zeros((40, 64), bool)
    mask[8:20, 12:40] = True
    image = Image.fromarray(np.where(mask[..., None], 255, 0).repeat(3, -1).astype(np.uint8))
    crop = Crop(40, 64, 64, scale, offset, flip)
    pixels, found = crop.pad(crop.cut_image(image)), cut(crop, mask)
    h, w = crop.content_hw
    assert np.mean((pixels[:h, :w, 0] > 127) != found[:h, :w]) < 0.01
    assert found.any()
    assert (pixels[h:] == 128).all() and (pixels[:, w:] == 128).all()


def test_a_fitting_image_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop = Crop(64, 64, 64, offset=0.3)
    np.testing.assert_array_equal(crop.pad(crop.cut_image(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("flip", [False, True])
def test_a_large_file_read_at_half_its_size_gives_the_same_picture(flip):
    y, x = np.mgrid[:900, :1350]
    smooth = np.stack([128 + 100 * np.sin(x / 90), 128 + 90 * np.cos(y / 70), x / 6], -1)
    buffer = io.BytesIO()
    Image.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    encoded = buffer.getvalue()
    crop = Crop(900, 1350, 512, 1.1, 0.4, flip)
    reduced = Image.open(io.BytesIO(encoded))
    found = np.asarray(crop.cut_image(reduced), int)
    assert reduced.width < 1350
    expected = np.asarray(crop.cut_image(Image.open(io.BytesIO(encoded)).convert("RGB")), int)
    assert np.abs(found - expected).max() <= 6


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="A mask is 4 x 6, its image 6 x 4"):
        Crop(6, 4, 8).cut_mask(rle_encode(np.ones((4, 6), bool)))
