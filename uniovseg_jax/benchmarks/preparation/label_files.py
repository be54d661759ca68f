"""Reading and writing the image files of datasets without losing a label."""

import io
import pathlib

import numpy as np
from jaxtyping import Integer, UInt8, UInt16
from PIL import Image

from uniovseg_jax.image_io import open_image, read_labels


def read_label_map(
    path: pathlib.Path, allowed: range, also: int | None = None
) -> Integer[np.ndarray, "h w"]:
    """Reads a PNG file of one channel, grey or palette, as it is stored.

    Args:
      path: The file.
      allowed: Values that may occur.
      also: One more.

    Raises:
      ValueError: If it cannot be read, is of another kind, or holds another value.
    """
    labels = read_labels(_read(path), str(path))
    check_values(labels, allowed, also, path)
    return labels


def check_values(
    labels: Integer[np.ndarray, "h w"], allowed: range, also: int | None, path: pathlib.Path
) -> None:
    """Makes sure that a map holds nothing but some values; `path` is for complaints."""
    wrong = (labels < allowed.start) | (labels >= allowed.stop)
    if also is not None:
        wrong &= labels != also
    if wrong.any():
        extra = "" if also is None else f" or {also}"
        raise ValueError(
            f"{path} holds the value {labels[wrong].min()}, expected {allowed.start} to "
            f"{allowed.stop - 1}{extra}."
        )


def read_colours(path: pathlib.Path) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a PNG file of three channels of 8 bits as it is stored.

    Raises:
      ValueError: If it cannot be read or is of another kind.
    """
    with open_image(io.BytesIO(_read(path)), str(path)) as image:
        kind, mode, pixels = image.format, image.mode, np.asarray(image)
    if kind != "PNG" or mode not in ("RGB", "RGBA"):
        raise ValueError(f"{path} is {kind} of mode {mode}, expected a PNG file of 8-bit colours.")
    return pixels[..., :3]


def read_photo(path: pathlib.Path, hw: tuple[int, int]) -> bytes:
    """Returns the bytes of an image whose labels have a certain size; its pixels are not decoded.

    Raises:
      ValueError: If it cannot be read or, as it is stored, has another size.
    """
    encoded = _read(path)
    with open_image(io.BytesIO(encoded), str(path)) as image:
        found = (image.height, image.width)
    check_size(found, hw, path)
    return encoded


def check_size(found: tuple[int, ...], hw: tuple[int, ...], path: pathlib.Path) -> None:
    """Makes sure that a file has the height and width of the labels of its image."""
    if found != hw:
        raise ValueError(
            f"{path} has {found[0]} x {found[1]} pixels, its labels have {hw[0]} x {hw[1]}."
        )


def encode_png(pixels: UInt8[np.ndarray, "h w *c"]) -> bytes:
    """Returns a PNG file, grey or of colours."""
    return _encode(pixels, "PNG")


def encode_tiff(labels: UInt16[np.ndarray, "h w"]) -> bytes:
    """Returns a TIFF file of 16 bits, which Pillow reads as mode `I;16`."""
    return _encode(labels, "TIFF", compression="tiff_adobe_deflate")


def encode_ids(ids: Integer[np.ndarray, "h w"]) -> bytes:
    """Returns a panoptic PNG file: a segment's id is R + 256 G + 65536 B."""
    return encode_png(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8))


def _encode(pixels: np.ndarray, kind: str, **options: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _read(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
