"""Reading images of any kind as RGB, safely."""

import contextlib
import io
import os
import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32, Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Larger files are refused before they are decoded.
MAX_PIXELS = 1 << 26
_ORIENTATION = 0x0112
# Where a PNG file states how many bits a channel has.
_PNG_BITS = 24
# Orientations that exchange height and width.
_SIDEWAYS = (5, 6, 7, 8)


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Reads an image as 8-bit RGB, turned as its EXIF orientation says.

    Grey, palette and CMYK images are converted, 16-bit ones scaled to 8 bit, alpha is dropped (the
    colours beneath it stay, as segmentation tools expect), animations give their first frame.

    Args:
      path: A JPEG, PNG, WebP, BMP, TIFF or GIF file.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is no whole image of these formats or has more than `MAX_PIXELS` pixels.
    """
    with _open_file(path) as image:
        return _to_rgb(ImageOps.exif_transpose(image))


def read_image_for(path: str | os.PathLike[str], hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """`read_image` of an image whose labels have a known size.

    Its EXIF orientation counts only if it gives that size: labels are never turned, and most were
    drawn on the pixels as they are stored.

    Args:
      path: As `read_image`.
      hw: Height and width of the labels.

    Raises:
      FileNotFoundError: As `read_image`.
      ValueError: As `read_image`, or if the image has another size, turned or not.
    """
    check_fits(path, hw)
    with _open_file(path) as image:
        turned = ImageOps.exif_transpose(image)
        return _to_rgb(turned if (turned.height, turned.width) == hw else image)


def check_fits(path: str | os.PathLike[str], hw: tuple[int, int]) -> None:
    """Makes sure that `read_image_for` would give an image of this size, without decoding it.

    Raises:
      FileNotFoundError: As `read_image`.
      ValueError: If it would not.
    """
    with _open_file(path) as image:
        stored = image.height, image.width
        # Of a PNG file the tag is found only after decoding: looked for where it can matter.
        sideways = stored == hw[::-1] != hw and image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
    if stored != hw and not sideways:
        raise ValueError(
            f"{path} has {stored[0]} x {stored[1]} pixels, its labels {hw[0]} x {hw[1]}."
        )


def stored_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns height and width as a file states them, not turned, without decoding it.

    Raises:
      FileNotFoundError: As `read_image`.
      ValueError: As `read_image`.
    """
    with _open_file(path) as image:
        return image.height, image.width


def image_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns height and width that `read_image` gives, without decoding the pixels.

    Raises:
      FileNotFoundError: As `read_image`.
      ValueError: As `read_image`.
    """
    with _open_file(path) as image:
        on_its_side = image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS
        return (image.width, image.height) if on_its_side else (image.height, image.width)


def decode_image(encoded: bytes | np.ndarray, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """`read_image` of a file that is in memory; `name` stands for it in complaints.

    Pixels that are decoded already, RGB of 8 bits, are returned as they are.

    Raises:
      ValueError: As `read_image`, or if pixels are of another kind.
    """
    if isinstance(encoded, np.ndarray):
        if (
            encoded.dtype != np.uint8
            or encoded.ndim != 3
            or encoded.shape[2] != 3
            or not encoded.size
        ):
            raise ValueError(
                f"{name}: expected uint8 RGB, got {encoded.dtype} of shape {encoded.shape}."
            )
        return encoded
    with open_image(io.BytesIO(encoded), name) as image:
        return _to_rgb(ImageOps.exif_transpose(image))


def read_labels(encoded: bytes, name: str) -> Integer[np.ndarray, "h w"]:
    """Reads a label map as it is stored: grey values, or indices of a palette.

    EXIF does not turn it. (The orientation of a TIFF file is a tag of the format itself, by which
    Pillow decodes it.)

    Args:
      encoded: A PNG or TIFF file of one channel; others lose labels when they are written.
      name: Of the file, for complaints.

    Raises:
      ValueError: If it is anything else or damaged.
    """
    with open_image(io.BytesIO(encoded), name) as image:
        kind, labels = image.format, np.asarray(image)
    if kind not in ("PNG", "TIFF") or labels.ndim != 2 or labels.dtype.kind == "f":
        raise ValueError(
            f"{name} is no label map: expected a PNG or TIFF file of one channel, whole numbers."
        )
    return labels.astype(np.int32)


def read_segment_ids(encoded: bytes, name: str) -> Int32[np.ndarray, "h w"]:
    """Reads the segment ids of a COCO panoptic PNG: R + 256 G + 65536 B; 0 is void.

    Args:
      encoded: A PNG file of 8-bit colours.
      name: Of the file, for complaints.

    Raises:
      ValueError: If it is anything else or damaged.
    """
    with open_image(io.BytesIO(encoded), name) as image:
        kind, pixels = (image.format, image.mode), np.asarray(image)
    if kind not in (("PNG", "RGB"), ("PNG", "RGBA")):
        raise ValueError(f"{name} must be a PNG file of 8-bit colours, got {kind}.")
    # Of 16 bits Pillow gives the upper half. The header comes first, and so do its fields.
    if (bits := encoded[_PNG_BITS]) != 8:
        raise ValueError(f"{name} must be a PNG file of 8-bit colours, got {bits} bits.")
    # In int32 before the factors, which leave 8 bits.
    ids = pixels[..., 2].astype(np.int32)
    for channel in (1, 0):
        ids <<= 8
        ids |= pixels[..., channel]
    return ids


@contextlib.contextmanager
def _open_file(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no image file {path}.")
    if not path.is_file():
        raise ValueError(f"{path} is not an image file.")
    with open_image(path, str(path)) as image:
        yield image


@contextlib.contextmanager
def open_image(file: pathlib.Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Opens an image of the allowed formats; whatever goes wrong within is one sentence.

    Args:
      file: Where the image is.
      name: Of the image, for complaints.

    Raises:
      ValueError: If it is no whole image of `FORMATS` or has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {MAX_PIXELS} pixels; make it smaller.") from None
    # Decoders fail on broken files with whatever comes up: OSError, SyntaxError, struct.error.
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # It would name an object in memory.
            reason = "unknown format"
        raise ValueError(
            f"{name} cannot be read as an image ({reason}); expected a whole {', '.join(FORMATS)}."
        ) from error


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """Converts any Pillow mode but floats to 8-bit RGB."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError("its values need more than 16 bits")
        grey = ((grey * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode == "F":
        raise ValueError("its values are floating point")
    if image.mode in ("PA", "La", "RGBa"):
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))
