"""What COCO's annotation and results files hold, checked; `panoptic_files.py` adds the maps."""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from uniovseg_jax.benchmarks.benchmark import Rle
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.data.coco_file import read_area
from uniovseg_jax.image_io import MAX_PIXELS
from uniovseg_jax.json_fields import at, parse_json, read_flag, whole_number
from uniovseg_jax.masks import MAX_SIDE, rle_area
from uniovseg_jax.polygons import draw_polygons

# Objects of a list, each with its place in words.
Entries = Sequence[tuple[str, dict[str, Any]]]


class TrueObjects:
    """The truth of a COCO file.

    Attributes:
      path: The file.
      sizes: Height and width by image id.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Reads the file.

        Raises:
          FileNotFoundError: If it is not there.
          ValueError: If it is not of this form, has no image or no annotation, or an annotation
            belongs to no listed image.
        """
        self.path = pathlib.Path(path)
        document = read_json(self.path)
        images = read_list(document, "images", self.path)
        annotations = read_list(document, "annotations", self.path)
        self._categories = {"categories": document.get("categories")}
        self.sizes: dict[int | str, tuple[int, int]] = {}
        for place, entry in enumerate(images):
            where = f"{self.path}: images[{place}]"
            image_id = read_image_id(entry, where, "id")
            if image_id in self.sizes:
                raise ValueError(f"{self.path} has two images of id {image_id}.")
            height, width = at(where, _side, entry, "height"), at(where, _side, entry, "width")
            if height * width > MAX_PIXELS:
                raise ValueError(f"{where}: {height} x {width} is more than {MAX_PIXELS} pixels.")
            self.sizes[image_id] = height, width
        self._by_image = group_by_image(annotations, self.path, self.sizes, "annotations")

    @functools.cached_property
    def classes(self) -> ClassList:
        """In the order of their ids; read when asked for, since prompts need none.

        Raises:
          ValueError: As `read_classes`.
        """
        return read_classes(self._categories, self.path)

    def entries(self, image_id: int | str) -> Entries:
        """Returns the annotations of an image, each with its place in words."""
        return self._by_image.get(image_id, [])

    def mask(self, entry: Mapping[str, Any], image_id: int | str) -> Rle:
        """Returns the mask of an annotation, polygons drawn as COCO does; it may be empty.

        Raises:
          ValueError: If it is malformed or of another size than the image.
          ImportError: If it is a polygon and pycocotools is not installed.
        """
        segmentation, hw = entry.get("segmentation"), self.sizes[image_id]
        if isinstance(segmentation, list):
            segmentation = draw_polygons(segmentation, *hw)
        return of_size(segmentation, hw)


def read_results(path: pathlib.Path, truth: TrueObjects) -> Mapping[int | str, Entries]:
    """Reads a list of COCO results by image.

    Raises:
      FileNotFoundError: If the file is not there.
      ValueError: If it is no list, or a result belongs to no image of the truth.
    """
    return group_by_image(read_result_list(path), path, truth.sizes, "")


def read_result_list(path: pathlib.Path) -> list[Any]:
    """Reads a list of COCO results, whose entries are unchecked.

    Raises:
      FileNotFoundError: If the file is not there.
      ValueError: If it is no list.
    """
    document = read_json(path)
    if not isinstance(document, list):
        raise ValueError(f"{path}: expected a list of results, one object per mask.")
    return document


def group_by_image(
    entries: list[Any], path: pathlib.Path, known: Mapping[int | str, Any], list_name: str
) -> Mapping[int | str, Entries]:
    """Sorts entries by image, in their order, each with its place in words.

    Raises:
      ValueError: If one is no object or names no image that is known.
    """
    groups: dict[int | str, list[tuple[str, dict[str, Any]]]] = {}
    for place, entry in enumerate(entries):
        where = f"{path}: {list_name}[{place}]"
        image_id = read_image_id(entry, where)
        if image_id not in known:
            raise ValueError(f"{where} is about image {image_id!r}, which the truth does not list.")
        groups.setdefault(image_id, []).append((where, entry))
    return groups


def of_size(segmentation: Any, hw: tuple[int, int]) -> Rle:
    """Returns run lengths that are known to be whole and of the image's size.

    Raises:
      ValueError: If they are not.
    """
    if isinstance(segmentation, list):
        raise ValueError("A result must be run lengths, not polygons.")
    rle_area(segmentation)
    if tuple(segmentation["size"]) != hw:
        raise ValueError(f"The mask has size {tuple(segmentation['size'])}, its image {hw}.")
    return segmentation


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      FileNotFoundError: If it cannot be read.
      ValueError: If it is no JSON.
    """
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_list(document: Any, name: str, path: pathlib.Path) -> list[Any]:
    """Returns one of the lists of a COCO file.

    Raises:
      ValueError: If there is none, or nothing in it.
    """
    rows = document.get(name) if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ValueError(f'{path}: expected an object with the list "{name}".')
    if not rows:
        raise ValueError(f'{path} has an empty list "{name}"; expected at least one.')
    return rows


def read_classes(document: Any, path: pathlib.Path, with_things: bool = False) -> ClassList:
    """Returns the `categories` of a COCO file in the order of their ids, which is that of scores.

    Args:
      document: The file's content.
      path: For complaints.
      with_things: Whether every category must say if it is a thing.

    Raises:
      ValueError: If there are none, or one is malformed or there twice.
    """
    infos: dict[int, ClassInfo] = {}
    for place, row in enumerate(read_list(document, "categories", path)):
        where = f"{path}: categories[{place}]"
        number = at(where, whole_number, row, "id", 0)
        isthing = at(where, read_flag, row, "isthing") if with_things else None
        if number in infos:
            raise ValueError(f"{path} has two categories of id {number}.")
        infos[number] = ClassInfo(number, str(row.get("name", number)), isthing=isthing)
    return ClassList(path.stem, tuple(infos[number] for number in sorted(infos)))


def read_image_id(entry: Any, where: str, key: str = "image_id") -> int | str:
    """Returns the id of an image: a whole number, or text as in Cityscapes.

    Raises:
      ValueError: If it is neither.
    """
    image_id = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(image_id, bool) or not isinstance(image_id, (int, str)):
        raise ValueError(f'{where}: expected an object with "{key}", a whole number or text.')
    return image_id


def stated_area(entry: dict[str, Any]) -> float | None:
    """Returns the `area` of an annotation in pixels; None where it states none.

    Raises:
      ValueError: If it is no finite number or less than 0.
    """
    return None if entry.get("area") is None else read_area(entry)


def _side(entry: dict[str, Any], key: str) -> int:
    """Returns height or width; some writers have it as 480.0."""
    value = entry.get(key)
    if isinstance(value, float) and value.is_integer():
        entry = {key: int(value)}
    return whole_number(entry, key, 1, MAX_SIDE)
