"""COCO's captions, five an image, which make one record together."""

import os
from collections.abc import Iterator
from typing import Any

from uniovseg_jax.captions.record import CaptionRecord
from uniovseg_jax.captions.sources.source import (
    Exclusion,
    checked_captions,
    describe_file,
    file_image,
    require_file,
)
from uniovseg_jax.data.mask_sources.source import FilePart, Skipped
from uniovseg_jax.json_fields import parse_json, whole_number

# COCO's file of 118,287 training images has 0.1 GB.
_MAX_FILE_BYTES = 1 << 32


class CocoCaptions:
    """Images of `captions_train2017.json` in the order of the file; it is held in memory."""

    name = "coco_captions"

    def __init__(self, path: str | os.PathLike[str], exclusion: Exclusion, has_images: bool):
        """Reads the file.

        Args:
          path: The JSON file.
          exclusion: Images to leave out.
          has_images: Whether the images are on this disk.

        Raises:
          FileNotFoundError: If there is no such file.
          ValueError: If it is not COCO's.
        """
        self._path = require_file(path, "annotation file")
        self._exclusion, self.has_images = exclusion, has_images
        try:
            document = parse_json(FilePart(self._path).read(_MAX_FILE_BYTES))
        except ValueError as error:
            raise ValueError(f"{self._path}: {error}") from error
        found = document if isinstance(document, dict) else {}
        images, annotations = found.get("images"), found.get("annotations")
        if not isinstance(images, list) or not isinstance(annotations, list):
            raise ValueError(
                f'{self._path}: expected an object with lists "images" and "annotations".'
            )
        self._images, self.total = images, len(images)
        self._by_image: dict[Any, list[Any]] = {}
        for entry in annotations:
            image_id = entry.get("image_id") if isinstance(entry, dict) else None
            key = image_id if type(image_id) is int else None
            self._by_image.setdefault(key, []).append(entry)

    def describe(self) -> dict[str, Any]:
        """Returns the layout and the file."""
        return {"layout": self.name, **describe_file(self._path), **self._exclusion.describe()}

    def records(self) -> Iterator[CaptionRecord | Skipped]:
        """Yields the images, then captions of images that are not listed, once per image."""
        known = set()
        for index, entry in enumerate(self._images):
            name = f"{self._path.name}: images[{index}]"
            try:
                image_id = whole_number(entry, "id", low=0)
                known.add(image_id)
                if self._exclusion.covers_number(image_id):
                    yield Skipped(name, "excluded", f"Image {image_id} is to be left out.")
                    continue
                image = file_image(entry.get("file_name"))
                annotations = self._by_image.get(image_id, [])
                captions = checked_captions([each.get("caption") for each in annotations])
            except ValueError as error:
                yield Skipped(name, "bad entry", str(error))
                continue
            yield CaptionRecord(str(image_id), image, captions, source=self.name)
        for image_id, entries in self._by_image.items():
            if image_id not in known:
                name = f"{self._path.name}: {len(entries)} captions"
                yield Skipped(name, "no image", f"Image {image_id} is not listed.")
