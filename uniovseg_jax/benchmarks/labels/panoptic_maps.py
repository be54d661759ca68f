"""COCO's panoptic form: PNG files of segment ids, and a JSON file that says what segments are."""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int, Int32
from scipy.ndimage import find_objects

from uniovseg_jax.benchmarks.benchmark import LabelMap, TrueInstance
from uniovseg_jax.benchmarks.class_list import VOID, ClassList
from uniovseg_jax.benchmarks.labels.categories import check_categories
from uniovseg_jax.benchmarks.labels.coco_instances import read_image_id
from uniovseg_jax.benchmarks.segment import VOID_ID, Segment
from uniovseg_jax.data.coco_file import (
    MAX_SEGMENT_ID,
    find_segments,
    read_area,
    read_coco_json,
    read_iscrowd,
    read_panoptic_png,
)
from uniovseg_jax.data.mask_sources.source import is_plain_name
from uniovseg_jax.image_io import stored_hw
from uniovseg_jax.json_fields import whole_number
from uniovseg_jax.masks import rle_encode

# Maps that are kept, since one image is asked for by task after task. As many as are read at a
# time: fewer would push each other out.
_KEPT = 16


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What the JSON file says of one image; areas are as it states them."""

    path: pathlib.Path
    segments: tuple[Segment, ...]


class PanopticMaps:
    """Segments of the images of one JSON file.

    Attributes:
      path: The JSON file.
      file_names: Name of the image by id, as the file has it; some files name images that exist
        nowhere.
    """

    def __init__(self, json_path: pathlib.Path, classes: ClassList):
        """Reads the file and checks all of it; the PNG files are read when they are asked for.

        Args:
          json_path: The JSON file; the folder of PNG files has its name without `.json` and is
            beside it or one level up.
          classes: Whose ids its categories have.

        Raises:
          FileNotFoundError: If the file or the folder is not there.
          ValueError: If the file is not COCO's, an image has not exactly one annotation, or a
            segment is malformed or of a category that is no class, or categories are others.
        """
        self.path, self._classes = json_path, classes
        self._decoded = functools.lru_cache(_KEPT)(self._decode)
        document = read_coco_json(json_path)
        check_categories(document, classes, json_path)
        folder = find_segments(json_path)
        self.file_names: dict[str, str] = {}
        for index, image in enumerate(document["images"]):
            try:
                self.file_names[read_image_id(image, "id")] = str(image.get("file_name"))
            except ValueError as error:
                raise ValueError(f"{json_path}, images[{index}]: {error}") from error
        self._entries: dict[str, _Entry] = {}
        for index, annotation in enumerate(document["annotations"]):
            try:
                image_id = read_image_id(annotation, "image_id")
                if image_id not in self.file_names:
                    raise ValueError(f"its image {image_id} is not among the images.")
                if image_id in self._entries:
                    raise ValueError(f"a second annotation of image {image_id}.")
                self._entries[image_id] = self._read_entry(annotation, folder)
            except ValueError as error:
                raise ValueError(f"{json_path}, annotations[{index}]: {error}") from error
        for image_id in self.file_names:
            if image_id not in self._entries:
                raise ValueError(f"{json_path} has no annotation of its image {image_id}.")

    def _read_entry(self, annotation: dict[str, Any], folder: pathlib.Path) -> _Entry:
        name, infos = annotation.get("file_name"), annotation.get("segments_info")
        if not is_plain_name(name) or not isinstance(infos, list):
            raise ValueError("it lacks a plain file_name or a list segments_info.")
        segments = tuple(self._read_segment(info) for info in infos)
        ids = [segment.id for segment in segments]
        if len(set(ids)) < len(ids):
            raise ValueError("two of its segments have the same id.")
        return _Entry(folder / str(name), segments)

    def _read_segment(self, info: Any) -> Segment:
        category = whole_number(info, "category_id", low=0)
        if category not in self._classes.index_of:
            raise ValueError(
                f"category_id {category} is none of the {len(self._classes)} {self._classes.name}."
            )
        return Segment(
            id=whole_number(info, "id", high=MAX_SEGMENT_ID),
            category=self._classes.index_of[category],
            area=read_area(info),
            iscrowd=read_iscrowd(info),
        )

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of the map of an image, without decoding it.

        Raises:
          FileNotFoundError: If its PNG file is missing.
          ValueError: If that is no image.
        """
        return stored_hw(self._entries[image_id].path)

    def read(self, image_id: str) -> tuple[LabelMap, tuple[Segment, ...]]:
        """Reads the map of an image; a listed segment may have lost all its pixels to others.

        Raises:
          ValueError: If the PNG file is missing, damaged, of another kind, or holds a segment that
            is not listed.
        """
        return self._decoded(image_id)[0], self._entries[image_id].segments

    def _decode(
        self, image_id: str
    ) -> tuple[LabelMap, Int[np.ndarray, " ids"], Int32[np.ndarray, "h w"]]:
        """Returns a map, the ids in it, and for every pixel the place of its own among them."""
        entry = self._entries[image_id]
        ids = read_panoptic_png(entry.path)
        values, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
        unlisted = set(values.tolist()) - {s.id for s in entry.segments} - {VOID_ID}
        if unlisted:
            raise ValueError(
                f"{entry.path} holds the segment {min(unlisted)}, which {self.path.name} does not "
                "list."
            )
        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        for segment in entry.segments:
            # Unions could be empty.
            if segment.area == 0 and pixels.get(segment.id):
                raise ValueError(
                    f"{self.path.name} states an area of 0 for the segment {segment.id}, which has "
                    f"{pixels[segment.id]} pixels in {entry.path}."
                )
        # What is kept is shared.
        ids.flags.writeable = False
        return ids, values, places.reshape(ids.shape).astype(np.int32)

    def semantic(self, image_id: str) -> LabelMap:
        """Paints every segment, crowds included, with the index of its class.

        Raises:
          ValueError: As `read`.
        """
        _, values, places = self._decoded(image_id)
        category = {s.id: s.category for s in self._entries[image_id].segments}
        indices = np.array([category.get(value, VOID) for value in values.tolist()], np.int32)
        return indices[places]

    def instances(self, image_id: str) -> tuple[TrueInstance, ...]:
        """Returns the segments of things that have a pixel, crowds included.

        Raises:
          ValueError: As `read`.
        """
        ids, values, places = self._decoded(image_id)
        # 0 is no object to SciPy.
        boxes = dict(zip(values.tolist(), find_objects(places + 1), strict=True))
        found = []
        for segment in self._entries[image_id].segments:
            box = boxes.get(segment.id)
            if box is None or not self._classes.is_thing[segment.category]:
                continue
            mask = np.zeros(ids.shape, bool)
            mask[box] = ids[box] == segment.id
            area = float(segment.area or 0)
            rle = rle_encode(mask)
            found.append(TrueInstance(rle, segment.category, area, segment.iscrowd))
        return tuple(found)
