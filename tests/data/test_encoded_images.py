"""Stored images: their own bytes wherever possible, whole, and upright."""

import io

import numpy as np
import pytest
from mask_files import encode, picture
from PIL import Image

from uniovseg_jax.data.crop import Crop
from uniovseg_jax.data.encoded_images import upright_image
from uniovseg_jax.image_io import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_upright_files_keep_their_bytes(kind):
    encoded = encode(PIXELS, kind)
    assert upright_image(encoded, "a") == (encoded, 40, 56)
    exif = Image.Exif()
    exif[0x0112] = 1
    encoded = encode(PIXELS, kind, exif=exif)
    assert upright_image(encoded, "a") == (encoded, 40, 56)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_files_are_stored_as_they_are_seen(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Flat blocks of 8, so that another JPEG compression changes little.
    blocks = np.kron(PIXELS[:5, :7], np.ones((8, 8, 1), np.uint8))
    encoded = encode(blocks, kind, exif=exif)
    stored, height, width = upright_image(encoded, "a")
    seen = decode_image(encoded, "a").astype(int)
    image = Image.open(io.BytesIO(stored))
    assert image.format == kind and image.getexif().get(0x0112, 1) == 1
    assert seen.shape[:2] == (height, width) == ((56, 40) if orientation > 4 else (40, 56))
    assert np.abs(np.asarray(image).astype(int) - seen).mean() < (4 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_become_png_of_the_same_pixels(kind):
    encoded = encode(PIXELS, kind)
    stored, height, width = upright_image(encoded, "a")
    assert stored.startswith(b"\x89PNG") and (height, width) == (40, 56)
    np.testing.assert_array_equal(decode_image(stored, "a"), decode_image(encoded, "a"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_training_sees_every_mode_as_inference_does(mode):
    image = Image.fromarray(PIXELS).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    encoded = buffer.getvalue()
    stored, height, width = upright_image(encoded, "a")
    assert (stored == encoded) == (mode != "I;16")
    cut = Crop(height, width, 56).cut_image(Image.open(io.BytesIO(stored)))
    np.testing.assert_array_equal(np.asarray(cut), decode_image(encoded, "a"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_file_passes_only_if_it_can_be_decoded(kind):
    rng = np.random.default_rng(0)
    encoded = picture(rng, (64, 80), kind)
    for length in [0, *rng.integers(1, len(encoded) - 20, 60)]:
        with pytest.raises(ValueError, match="The image cannot be read as an image"):
            upright_image(encoded[:length], "The image")
    num_refused = 0
    for _ in range(200):
        damaged = bytearray(encoded)
        damaged[rng.integers(len(encoded))] ^= 1 << int(rng.integers(8))
        try:
            stored, height, width = upright_image(bytes(damaged), "a")
        except ValueError:
            num_refused += 1
        else:
            assert decode_image(stored, "a").shape == (height, width, 3)
    assert num_refused > 0


def test_foreign_and_huge_files_are_refused(monkeypatch):
    for encoded in (b"", b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        with pytest.raises(ValueError, match="cannot be read as an image"):
            upright_image(encoded, "a")
    monkeypatch.setattr("uniovseg_jax.image_io.MAX_PIXELS", 40 * 56 - 1)
    with pytest.raises(ValueError, match="has more than 2239 pixels"):
        upright_image(encode(PIXELS), "a")
