"""COCO 2017: nothing is to be made; whether everything fits is checked.

The 133-class PNG files that others derive from the panoptic ones are not written, because the
reader paints them when it needs them.
"""

import pathlib
from typing import Any

import numpy as np

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.preparation.label_files import read_photo
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe
from uniovseg_jax.benchmarks.split_sizes import COCO
from uniovseg_jax.data.coco_file import MAX_SEGMENT_ID, read_coco_json, read_panoptic_png
from uniovseg_jax.data.mask_sources.source import is_plain_name
from uniovseg_jax.json_fields import whole_number


def _plan(root: pathlib.Path, split: str) -> Plan:
    folder = root / "coco"
    images, segments = folder / f"{split}2017", folder / f"panoptic_{split}2017"
    for part in (images, segments):
        if not part.is_dir():
            raise FileNotFoundError(f"There is no folder {part}.")
    panoptic = folder / "annotations" / f"panoptic_{split}2017.json"
    instances = folder / "annotations" / f"instances_{split}2017.json"
    document = read_coco_json(panoptic)
    sizes, rows = _sizes(document, panoptic), _by_image(document, panoptic)
    others = _sizes(read_coco_json(instances), instances)
    if sizes != others:
        wrong = sorted(set(sizes.items()) ^ set(others.items()))[0][0]
        raise ValueError(f"{panoptic} and {instances} do not say the same of image {wrong}.")
    unknown = {path.name for path in images.glob("*.jpg")} - {name for name, _ in sizes.values()}
    if unknown:
        raise ValueError(f"{images / min(unknown)} is no image of {panoptic}; move it away.")
    items = []
    for image_id, (name, hw) in sizes.items():
        try:
            if len(rows.get(image_id, [])) != 1:
                raise ValueError(f"it has {len(rows.get(image_id, []))} annotations, expected one.")
            row = rows[image_id][0]
            if not is_plain_name(row.get("file_name")):
                raise ValueError("its annotation has no plain file_name.")
            detail = (hw, _check_segments(row.get("segments_info")))
        except ValueError as error:
            raise ValueError(f"{panoptic}: image {image_id}: {error}") from error
        items.append(Item(name, (images / name, segments / row["file_name"]), detail=detail))
    return Plan(items, COCO[split], check)


def check(item: Item) -> tuple[list[bytes], None]:
    """Makes sure that an image and its segments fit each other and the list.

    Raises:
      ValueError: If they do not, naming the file.
    """
    (image, segments), (hw, listed) = item.inputs, item.detail
    ids = read_panoptic_png(segments)
    read_photo(image, ids.shape)
    if ids.shape != hw:
        size, listed_size = (f"{h} x {w}" for h, w in (ids.shape, hw))
        raise ValueError(f"{segments} has {size} pixels, its list says {listed_size}.")
    present = set(np.unique(ids).tolist()) - {0}
    if present != listed:
        raise ValueError(
            f"{segments} and its segments_info differ in segment {min(present ^ listed)}."
        )
    return [], None


def _check_segments(infos: Any) -> set[int]:
    """Returns the ids of a list of segments of known classes."""
    if not isinstance(infos, list):
        raise ValueError("its annotation has no list segments_info.")
    listed = {whole_number(info, "id", high=MAX_SEGMENT_ID) for info in infos}
    for info in infos:
        if whole_number(info, "category_id") not in load_class_list("coco_panoptic_133").index_of:
            raise ValueError(f"its segment {info['id']} is of no class: {info['category_id']}.")
    if len(listed) < len(infos):
        raise ValueError("a segment is listed twice.")
    return listed


def _sizes(document: dict[str, Any], path: pathlib.Path) -> dict[int, tuple[str, tuple[int, int]]]:
    """Returns the name, height and width of every image by its id."""
    sizes = {}
    for index, row in enumerate(document["images"]):
        try:
            image_id = whole_number(row, "id", low=0)
            if not is_plain_name(row.get("file_name")):
                raise ValueError("it has no plain file_name.")
            hw = (whole_number(row, "height"), whole_number(row, "width"))
        except ValueError as error:
            raise ValueError(f"{path}: images[{index}]: {error}") from error
        sizes[image_id] = (row["file_name"], hw)
    return sizes


def _by_image(document: dict[str, Any], path: pathlib.Path) -> dict[int, list[dict[str, Any]]]:
    rows: dict[int, list[dict[str, Any]]] = {}
    for index, row in enumerate(document["annotations"]):
        try:
            rows.setdefault(whole_number(row, "image_id", low=0), []).append(row)
        except ValueError as error:
            raise ValueError(f"{path}: annotations[{index}]: {error}") from error
    return rows


RECIPE = Recipe(
    "coco",
    "coco",
    (
        "train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org: unpack "
        "them in coco/ of the data root, so that there are coco/{train,val}2017/*.jpg (118,287 "
        "and 5,000 images) and coco/annotations/instances_{train,val}2017.json.",
        "panoptic_annotations_trainval2017.zip from the same place: unpack it in coco/, and the "
        "panoptic_{train,val}2017.zip that it holds too, so that there are "
        "coco/annotations/panoptic_{train,val}2017.json and coco/panoptic_{train,val}2017/*.png.",
    ),
    ("Nothing: the files are read as they are, after a check that they fit each other.",),
    _plan,
)
