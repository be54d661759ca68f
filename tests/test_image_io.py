"""Images of every kind."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax import image_io
from uniovseg_jax.image_io import read_image

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = PICTURE[..., 0]


def save(tmp_path, image, name="image.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.webp"])
def test_rgb_is_read_as_it_is(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    read = read_image(save(tmp_path, Image.fromarray(PICTURE), name, **options))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, PICTURE)


def test_jpeg_and_gif(tmp_path):
    flat = Image.new("RGB", (9, 6), (200, 40, 90))
    jpeg = read_image(save(tmp_path, flat, "a.jpg", quality=95)).astype(int)
    assert jpeg.shape == (6, 9, 3) and np.abs(jpeg - (200, 40, 90)).max() <= 4
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "blue")]
    gif = save(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(gif) == (255, 0, 0)).all()


def test_grey_alpha_and_palette(tmp_path):
    grey3 = np.repeat(GREY[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(GREY))), grey3)
    black_white = Image.fromarray(GREY).convert("1", dither=Image.Dither.NONE)
    expected = np.where(grey3 >= 128, 255, 0)
    np.testing.assert_array_equal(read_image(save(tmp_path, black_white)), expected)
    alpha = np.concatenate([PICTURE, GREY[..., None]], axis=-1)
    np.testing.assert_array_equal(read_image(save(tmp_path, Image.fromarray(alpha))), PICTURE)
    grey_alpha = Image.fromarray(np.stack([GREY, 255 - GREY], axis=-1))
    assert grey_alpha.mode == "LA"
    np.testing.assert_array_equal(read_image(save(tmp_path, grey_alpha)), grey3)
    palette = Image.fromarray(PICTURE).quantize(4)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read_image(save(tmp_path, palette)), expected)
    np.testing.assert_array_equal(read_image(save(tmp_path, palette, transparency=0)), expected)


def test_cmyk(tmp_path):
    cmyk = Image.new("CMYK", (9, 6), (0, 255, 255, 0))
    read = read_image(save(tmp_path, cmyk, "a.jpg", quality=95)).astype(int)
    assert np.abs(read - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bit_is_scaled(tmp_path, name):
    deep = (GREY.astype(np.uint16) * 257).copy()
    read = read_image(save(tmp_path, Image.fromarray(deep), name))
    np.testing.assert_array_equal(read, np.repeat(GREY[..., None], 3, axis=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # What a camera stores so that turning it back gives PICTURE.
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, 1),
        7: PICTURE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    np.testing.assert_array_equal(read_image(save(tmp_path, image, exif=exif)), PICTURE)


@pytest.mark.parametrize("wh", [(1, 1), (20000, 3), (2, 20000)])
def test_extreme_sizes(tmp_path, wh):
    assert read_image(save(tmp_path, Image.new("RGB", wh))).shape == (wh[1], wh[0], 3)


def test_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = save(tmp_path, Image.fromarray(PICTURE))
    monkeypatch.setattr(image_io, "MAX_PIXELS", 53)
    with pytest.raises(ValueError, match=r"image\.png has more than 53 pixels"):
        read_image(path)
    monkeypatch.setattr(image_io, "MAX_PIXELS", 54)
    read_image(path)


def test_bad_files_are_named_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file .*nothing\.png"):
        read_image(tmp_path / "nothing.png")
    with pytest.raises(ValueError, match="not an image file"):
        read_image(tmp_path)
    large = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    bad = {"empty.png": b"", "text.jpg": b"<html></html>"}
    for name in ("cut.png", "cut.jpg", "cut.webp", "cut.tiff"):
        content = save(tmp_path, large, name).read_bytes()
        bad[name] = content[: len(content) // 2]
    bad["drawing.eps"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name.replace(".", r"\.") + " cannot be read"):
            read_image(tmp_path / name)


def test_float_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="floating point"):
        read_image(save(tmp_path, Image.new("F", (3, 3)), "a.tiff"))


def test_sizes_without_decoding_are_those_of_the_decoded_image(tmp_path):
    image = Image.fromarray(np.zeros((4, 9, 3), np.uint8))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(tmp_path, image, exif=exif)
        assert image_io.image_hw(path) == read_image(path).shape[:2]
        assert image_io.stored_hw(path) == (4, 9)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        image_io.image_hw(tmp_path / "nowhere.png")


def test_orientation_counts_only_where_the_labels_have_the_turned_size(tmp_path):
    for orientation, stored in {6: np.rot90(PICTURE, 1), 3: PICTURE[::-1, ::-1]}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
        assert image_io.stored_hw(path) == stored.shape[:2]
        # Labels of the turned image, then labels on the pixels as they are stored.
        np.testing.assert_array_equal(image_io.read_image_for(path, (6, 9)), PICTURE)
        if orientation == 6:
            np.testing.assert_array_equal(image_io.read_image_for(path, (9, 6)), stored)
    square = save(tmp_path, Image.fromarray(np.ascontiguousarray(PICTURE[:, :6])), exif=exif)
    turned = PICTURE[::-1, 5::-1]
    np.testing.assert_array_equal(image_io.read_image_for(square, (6, 6)), turned)


@pytest.mark.parametrize("orientation", [1, 3])
def test_labels_of_another_size_are_an_error_before_decoding(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, Image.fromarray(PICTURE), exif=exif)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    image_io.check_fits(path, (6, 9))
    for hw in ((9, 6), (6, 10)):
        with pytest.raises(ValueError, match=rf"6 x 9 pixels, its labels {hw[0]} x {hw[1]}"):
            image_io.check_fits(path, hw)
        with pytest.raises(ValueError, match="its labels"):
            image_io.read_image_for(path, hw)
    with pytest.raises(ValueError, match="cannot be read"):
        image_io.read_image_for(path, (6, 9))
    with pytest.raises(FileNotFoundError, match="no image file"):
        image_io.check_fits(tmp_path / "none.png", (6, 9))


@pytest.mark.parametrize("orientation", [3, 6])
def test_label_maps_are_not_turned_by_exif(orientation):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(GREY).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(image_io.read_labels(file.getvalue(), "a"), GREY)


def test_label_maps_of_16_bits_keep_them_and_fractions_are_refused():
    labels = np.array([[0, 255, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(labels).save(file, kind)
        np.testing.assert_array_equal(image_io.read_labels(file.getvalue(), "a"), labels)
    file = io.BytesIO()
    Image.fromarray(labels.astype(np.float32)).save(file, "TIFF")
    with pytest.raises(ValueError, match="a is no label map"):
        image_io.read_labels(file.getvalue(), "a")


def test_segment_ids_of_16_bits_are_refused():
    # Pillow reads such a file and writes none.
    def chunk(name, content):
        checksum = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + checksum

    def png(bits):
        header = struct.pack(">IIBBBBB", 2, 1, bits, 2, 0, 0, 0)
        pixels = np.array([[7, 1, 0], [9, 0, 2]], f">u{bits // 8}").tobytes()
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + pixels))
        return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")

    assert image_io.read_segment_ids(png(8), "a").tolist() == [[7 + 256, 9 + 2 * 65536]]
    with pytest.raises(ValueError, match="a must be a PNG file of 8-bit colours, got 16 bits"):
        image_io.read_segment_ids(png(16), "a")
