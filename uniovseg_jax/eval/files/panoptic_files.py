"""Panoptic maps on disk in COCO's form: a PNG of segment ids per image, one JSON for all of them.

As panopticapi reads them: a pixel's id is R + 256 G + 65536 B, 0 is void, and the JSON lists the
segments of every image with the ids of their classes in the data set, not with our indices.
"""

import collections
import json
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer
from PIL import Image

from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.segment import VOID_ID, Segment
from uniovseg_jax.data.coco_file import MAX_SEGMENT_ID, read_iscrowd
from uniovseg_jax.eval.files.coco_files import (
    read_classes,
    read_image_id,
    read_json,
    read_list,
    stated_area,
)
from uniovseg_jax.files import write_text_whole, write_whole
from uniovseg_jax.image_io import read_segment_ids
from uniovseg_jax.json_fields import at, whole_number


class PanopticFiles:
    """The maps of a panoptic JSON, truth or prediction; PNG files are read when asked for.

    Attributes:
      path: The JSON.
      classes: In the order of their ids.
      image_ids: In the order of the JSON.
      unlisted: Segments of the truth read so far whose class is not listed. As in panopticapi they
        are of no class, and what is predicted on them is wrong.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        folder: str | os.PathLike[str] | None = None,
        classes: ClassList | None = None,
    ):
        """Reads the JSON.

        Args:
          path: Of the JSON, an object with the list `annotations`.
          folder: Of the PNG files; by default the JSON's path without `.json`.
          classes: Of a prediction, the classes of its truth; a truth lists them itself, as
            `categories`.

        Raises:
          FileNotFoundError: If the file or the folder is not there.
          ValueError: If it is not of this form or lists no image.
        """
        self.path = pathlib.Path(path)
        document = read_json(self.path)
        self._folder = self.path.with_suffix("") if folder is None else pathlib.Path(folder)
        if not self._folder.is_dir():
            raise FileNotFoundError(f"There is no folder {self._folder} with the PNG files.")
        entries = read_list(document, "annotations", self.path)
        self._is_truth = classes is None
        self.classes = classes or read_classes(document, self.path, with_things=True)
        self.unlisted = 0
        self._entries: dict[int | str, dict[str, Any]] = {}
        for place, entry in enumerate(entries):
            image_id = read_image_id(entry, f"{self.path}: annotations[{place}]")
            if image_id in self._entries:
                raise ValueError(f"{self.path} has two annotations of image {image_id}.")
            self._entries[image_id] = entry

    @property
    def image_ids(self) -> tuple[int | str, ...]:
        """In the order of the JSON."""
        return tuple(self._entries)

    def read(
        self, image_id: int | str
    ) -> tuple[Int32[np.ndarray, "h w"], tuple[Segment, ...], pathlib.Path]:
        """Returns the map of an image, its segments, and where the map was found.

        Raises:
          FileNotFoundError: If the PNG is not there.
          ValueError: If the image is not listed, or its entry or PNG is not of this form.
        """
        if image_id not in self._entries:
            raise ValueError(
                f"{self.path} has no entry for image {image_id}; one without any segment needs an "
                "entry with an empty list and a PNG that is all 0."
            )
        entry, where = self._entries[image_id], f"{self.path}, image {image_id}"
        name, infos = entry.get("file_name"), entry.get("segments_info")
        if not isinstance(name, str) or not name or not isinstance(infos, list):
            raise ValueError(f'{where}: expected a "file_name" and the list "segments_info".')
        if pathlib.PurePath(name).is_absolute() or ".." in pathlib.PurePath(name).parts:
            raise ValueError(f"{where}: {name[:80]!r} is not the name of a file in a folder.")
        found = [at(where, self._segment, info) for info in infos]
        listed = collections.Counter(info["id"] for info in infos)
        if len(listed) < len(infos):
            raise ValueError(f"{where}: segment {listed.most_common(1)[0][0]} is listed twice.")
        segments = tuple(segment for segment in found if segment is not None)
        self.unlisted += len(found) - len(segments)
        path = self._folder / name
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise FileNotFoundError(
                f"{path}, the map of image {image_id}, cannot be read: {error.strerror}."
            ) from error
        except ValueError as error:  # A null character, or half of a surrogate pair.
            raise ValueError(f"{where}: {name[:80]!r} cannot be the name of a file.") from error
        return read_segment_ids(encoded, str(path)), segments, path

    def _segment(self, info: Any) -> Segment | None:
        """Returns a segment; None for one of the truth whose class is not listed."""
        number = whole_number(info, "id", high=MAX_SEGMENT_ID)
        category = whole_number(info, "category_id", low=0)
        if category not in self.classes.index_of:
            if self._is_truth:
                return None
            raise ValueError(
                f"segment {number} has the category_id {category}, which is none of the "
                f"{len(self.classes)} categories; expected the data set's own ids."
            )
        index = self.classes.index_of[category]
        if not self._is_truth:  # Whatever else is stated plays no part.
            return Segment(number, index)
        return Segment(number, index, stated_area(info), read_iscrowd(info))


def write_panoptic_map(
    folder: pathlib.Path,
    image_id: int | str,
    name: str,
    ids: Integer[np.ndarray, "h w"],
    segments: Sequence[Segment],
    classes: ClassList,
) -> dict[str, Any]:
    """Writes the PNG of one image and returns its entry, for `write_panoptic_json`.

    Args:
      folder: Of the PNG files; made if need be.
      image_id: As the ground truth has it.
      name: Of the PNG file.
      ids: The map; 0 is void.
      segments: All that are in the map. Where an area is None, it is counted.
      classes: Gives the ids of classes.

    Raises:
      ValueError: If an id is too large, or map and list do not name the same segments.
    """
    numbers, areas = np.unique(ids, return_counts=True)
    counted = dict(zip(numbers.tolist(), areas.tolist(), strict=True))
    counted.pop(VOID_ID, None)
    if len(counted) < len(segments) or set(counted) != {segment.id for segment in segments}:
        raise ValueError(f"The map and the list of {name} do not name the same segments.")
    if counted and not 0 < min(counted) <= max(counted) <= MAX_SEGMENT_ID:
        raise ValueError(f"{name}: ids of segments must lie from 1 to {MAX_SEGMENT_ID}.")
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], axis=-1).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    # The quickest level: maps of segments shrink well at any.
    write_whole(
        folder / name, lambda path: Image.fromarray(rgb).save(path, "PNG", compress_level=1)
    )
    infos = [
        {
            "id": segment.id,
            "category_id": classes.classes[segment.category].id,
            "area": counted[segment.id] if segment.area is None else segment.area,
            "iscrowd": int(segment.iscrowd),
        }
        for segment in segments
    ]
    return {"image_id": image_id, "file_name": name, "segments_info": infos}


def write_panoptic_json(
    path: pathlib.Path, entries: Iterable[dict[str, Any]], classes: ClassList
) -> None:
    """Writes the JSON that goes with the PNG files of `write_panoptic_map`."""
    categories = [
        {"id": info.id, "name": info.name, "isthing": int(bool(info.isthing))}
        for info in classes.classes
    ]
    document = json.dumps({"annotations": list(entries), "categories": categories})
    write_text_whole(path, document)
