"""Image bytes of caption records: from files and from tars, both below one folder."""

import collections
import dataclasses
import hashlib
import io
import os
import pathlib
import threading

from PIL import Image, ImageOps

from uniovseg_jax.captions.record import CaptionRecord, ImageReference
from uniovseg_jax.captions.sources.source import safe_path
from uniovseg_jax.data.encoded_images import upright_image
from uniovseg_jax.data.mask_sources.source import MAX_IMAGE_BYTES, FilePart, Skipped
from uniovseg_jax.data.tar_members import tar_members
from uniovseg_jax.image_io import open_image

# Tars whose members are remembered; sources go through them one after the other.
_MAX_TARS = 8
_JPEG_QUALITY = 90


class ImageFolder:
    """Finds the images that records refer to; threads may share it."""

    def __init__(self, path: str | os.PathLike[str]):
        """Takes a folder.

        Raises:
          FileNotFoundError: If there is none.
        """
        self._path = pathlib.Path(path)
        if not self._path.is_dir():
            raise FileNotFoundError(f"There is no image folder {self._path}.")
        self._lock = threading.Lock()
        self._tars: collections.OrderedDict[str, dict[str, FilePart]] = collections.OrderedDict()

    def read(self, image: ImageReference) -> bytes:
        """Returns the encoded image as it lies there.

        Raises:
          ValueError: If it is behind an address, its path leaves the folder, it cannot be read, has
            more than `MAX_IMAGE_BYTES`, or is not what its digest was taken of.
        """
        encoded = self._part(image).read(MAX_IMAGE_BYTES)
        if image.sha256 not in (None, hashlib.sha256(encoded).hexdigest()):
            raise ValueError("The image changed after it was first read.")
        return encoded

    def _part(self, image: ImageReference) -> FilePart:
        if image.kind == "url":
            raise ValueError("It is behind an address; addresses are not fetched.")
        path = safe_path(image.path)
        if image.kind == "file":
            return FilePart(self._path / path)
        part = self._members(path).get(image.member or "")
        if part is None:
            raise ValueError(f"{path} has no member {str(image.member)[:80]!r}.")
        return part

    def _members(self, path: str) -> dict[str, FilePart]:
        with self._lock:
            if path not in self._tars:
                tar = self._path / path
                try:
                    self._tars[path] = {
                        member.name: FilePart(tar, member.offset_data, member.size)
                        for member in tar_members(tar)
                        if member.isreg() and not member.issparse()
                    }
                except OSError as error:
                    raise ValueError(f"{path} cannot be read: {error.strerror}.") from error
                if len(self._tars) > _MAX_TARS:
                    self._tars.popitem(last=False)
            return self._tars[path]


def check_image(record: CaptionRecord, folder: ImageFolder) -> CaptionRecord | Skipped:
    """Reads a record's image completely; digest, width and height become known.

    Returns:
      The record with them and with the upright image, or why it has none that can be used.
    """
    try:
        encoded = folder.read(record.image)
        upright, height, width = upright_image(encoded, "The image")
    except ValueError as error:
        return Skipped(record.id, "bad image", str(error))
    digest = hashlib.sha256(encoded).hexdigest()
    image = dataclasses.replace(record.image, sha256=digest, width=width, height=height)
    # Kept, so that what is stored is what the digest was taken of, and is decoded once.
    return dataclasses.replace(record, image=image, encoded=upright)


def small_jpeg(encoded: bytes, max_side: int) -> tuple[bytes, int, int]:
    """Returns an image as an upright RGB JPEG file of at most `max_side` pixels a side.

    Args:
      encoded: The image file.
      max_side: Longer sides are scaled down to it; smaller images keep their size.

    Returns:
      The file, height and width.

    Raises:
      ValueError: If it is no whole image.
    """
    with open_image(io.BytesIO(encoded), "The image") as image:
        image.draft("RGB", (max_side, max_side))
        upright = ImageOps.exif_transpose(image)
        upright.thumbnail((max_side, max_side), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        # Straight to RGB: alpha is dropped as everywhere in the package.
        upright.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue(), upright.height, upright.width
