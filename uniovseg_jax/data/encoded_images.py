"""Encoded images for storage: known to be whole, and upright."""

import io

import numpy as np
from PIL import ExifTags, Image

from uniovseg_jax.image_io import decode_image, open_image

_KEPT_FORMATS = ("JPEG", "PNG")
# Pillow turns pixels of these modes into RGB by itself; grey of 16 bits it clips to white.
_KEPT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
# Turning a JPEG means another loss; at this quality it is below that of most cameras.
_JPEG = {"format": "JPEG", "quality": 95, "subsampling": 0}


def upright_image(encoded: bytes, name: str) -> tuple[bytes, int, int]:
    """Makes sure that an image can be decoded as it lies, without regard to its EXIF orientation.

    An upright JPEG or PNG file of 8 bits keeps its bytes. One that EXIF turns is encoded anew as it
    is seen, since masks are drawn on what people see; other formats, and 16 bits of grey, become
    PNG files of 8-bit RGB.

    Args:
      encoded: The file.
      name: Of it, for complaints.

    Returns:
      The bytes to store, height and width.

    Raises:
      ValueError: If it is no whole image, or too large.
    """
    with open_image(io.BytesIO(encoded), name) as image:
        width, height = image.size
        kind = str(image.format)
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) not in range(2, 9)
        if upright and kind in _KEPT_FORMATS and image.mode in _KEPT_MODES:
            # Every coefficient is read, which is what finds a file that is cut off; pixels are
            # made at an eighth of the size, where the format can.
            image.draft(None, (1, 1))
            image.load()
            return encoded, height, width
    pixels = decode_image(encoded, name)
    return _encode(pixels, kind), *pixels.shape[:2]


def _encode(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **_JPEG if kind == "JPEG" else {"format": "PNG"})
    return buffer.getvalue()
