"""Reading images of any kind as RGB, safely."""

import io
import os
import pathlib

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
# Larger files are refused before they are decoded.
MAX_PIXELS = 1 << 26


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
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no image file {path}.")
    if not path.is_file():
        raise ValueError(f"{path} is not an image file.")
    return _decode(path, str(path))


def decode_image(image: bytes | np.ndarray, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of a record's image, which is a file's bytes or RGB already.

    Args:
      image: Bytes are read as `read_image` reads files; an array must be uint8 "h w 3".
      name: What a complaint calls it.

    Raises:
      ValueError: As `read_image`, or if an array is no RGB image.
    """
    if isinstance(image, bytes):
        return _decode(io.BytesIO(image), name)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"{name}: expected uint8 RGB, got {image.dtype} of shape {image.shape}.")
    return image


def _decode(file: pathlib.Path | io.BytesIO, name: str) -> UInt8[np.ndarray, "h w 3"]:
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {MAX_PIXELS} pixels; make it smaller.") from None
    # Decoders fail on broken files with whatever comes up: OSError, SyntaxError, struct.error.
    except Exception as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
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
