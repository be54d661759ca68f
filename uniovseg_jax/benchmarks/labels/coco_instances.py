"""COCO's instance files: objects as polygons or run lengths, of known classes or of none."""

import pathlib
from typing import Any

from uniovseg_jax.benchmarks.benchmark import Rle, TrueInstance
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.labels.categories import check_categories
from uniovseg_jax.data.coco_file import read_area, read_coco_json, read_iscrowd
from uniovseg_jax.json_fields import at, whole_number
from uniovseg_jax.masks import MAX_SIDE, rle_area, rle_decode, rle_encode
from uniovseg_jax.polygons import draw_polygons


class CocoInstances:
    """Objects of the images of one JSON file, in the order of the file; masks are drawn when asked.

    Attributes:
      path: The JSON file.
      images: Image files by id; ids that are numbers are written as text.
    """

    def __init__(
        self,
        json_path: pathlib.Path,
        image_folder: pathlib.Path,
        classes: ClassList | None = None,
    ):
        """Reads the file, which stays in memory, and checks all of it but the masks.

        Args:
          json_path: The JSON file.
          image_folder: What its file names are relative to.
          classes: Whose ids its categories have; None if categories do not matter.

        Raises:
          FileNotFoundError: If there is no such file.
          ValueError: If the file is not COCO's, an annotation is about an image that is not
            listed or of a category that is no class, or categories are others.
        """
        self.path = json_path
        document = read_coco_json(json_path)
        if classes is not None:
            check_categories(document, classes, json_path)
        self._classes = classes
        self._sizes: dict[str, tuple[int, int]] = {}
        self._by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.images: dict[str, pathlib.Path] = {}
        for index, entry in enumerate(document["images"]):
            try:
                image_id = read_image_id(entry, "id")
                self.images[image_id] = image_folder / _relative_name(entry.get("file_name"))
                self._sizes[image_id] = (
                    whole_number(entry, "height", high=MAX_SIDE),
                    whole_number(entry, "width", high=MAX_SIDE),
                )
            except ValueError as error:
                raise ValueError(f"{json_path}, images[{index}]: {error}") from error
            self._by_image[image_id] = []
        for index, entry in enumerate(document["annotations"]):
            try:
                image_id = read_image_id(entry, "image_id")
                if image_id not in self._by_image:
                    raise ValueError(f"its image {image_id} is not among the images.")
                if classes is not None:
                    _category(entry, classes)
            except ValueError as error:
                raise ValueError(f"{json_path}, annotations[{index}]: {error}") from error
            self._by_image[image_id].append((index, entry))

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of an image as the file states them."""
        return self._sizes[image_id]

    def instances(self, image_id: str) -> tuple[TrueInstance, ...]:
        """Returns the objects of an image, crowds included.

        An object without a pixel stays: AP counts it as one that nobody finds, as pycocotools does.

        Raises:
          ValueError: If an annotation is malformed; names it.
        """
        if self._classes is None:
            raise ValueError(f"{self.path} was opened without classes; it has masks only.")
        found = []
        for index, entry in self._by_image[image_id]:
            rle, where = self._mask(index, entry, image_id), self._place(index)
            area, iscrowd = at(where, read_area, entry), at(where, read_iscrowd, entry)
            category = _category(entry, self._classes)
            found.append(TrueInstance(rle, category, area, iscrowd))
        return tuple(found)

    def masks(self, image_id: str) -> tuple[Rle, ...]:
        """Returns the masks of an image that have a pixel, those of crowds with `iscrowd`.

        Raises:
          ValueError: If an annotation is malformed; names it.
        """
        found = []
        for index, entry in self._by_image[image_id]:
            rle = self._mask(index, entry, image_id)
            if rle_area(rle):
                iscrowd = at(self._place(index), read_iscrowd, entry)
                found.append({**rle, "iscrowd": 1} if iscrowd else rle)
        return tuple(found)

    def _place(self, index: int) -> str:
        return f"{self.path}, annotations[{index}]"

    def _mask(self, index: int, entry: dict[str, Any], image_id: str) -> Rle:
        """Returns one mask as compressed run lengths of the image's size."""
        height, width = self._sizes[image_id]
        segmentation = entry.get("segmentation")
        try:
            if isinstance(segmentation, list):
                return draw_polygons(segmentation, height, width)
            mask = rle_decode(segmentation)
            if mask.shape != (height, width):
                raise ValueError(
                    f"its mask has {mask.shape[0]} x {mask.shape[1]} pixels, its image {height} x "
                    f"{width}."
                )
            return rle_encode(mask)
        except ValueError as error:
            raise ValueError(f"{self.path}, annotations[{index}]: {error}") from error


def read_image_id(entry: Any, key: str) -> str:
    """Returns the id of an image, a number or a name, as text.

    Raises:
      ValueError: If it is neither.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, str) and value:
        return value
    return str(whole_number(entry, key, low=0))


def _relative_name(name: Any) -> str:
    """Returns a file name that stays in its folder; it may be in a folder of that folder."""
    parts = pathlib.PurePosixPath(name).parts if isinstance(name, str) and "\0" not in name else ()
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name:
        raise ValueError(
            f"'file_name' is {str(name)[:80]!r}, expected that of a file in the image folder."
        )
    return name


def _category(entry: dict[str, Any], classes: ClassList) -> int:
    category = whole_number(entry, "category_id", low=0)
    if category not in classes.index_of:
        raise ValueError(f"category_id {category} is none of the {len(classes)} {classes.name}.")
    return classes.index_of[category]
