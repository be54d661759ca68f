"""Cityscapes: labels by train id, and the panoptic form, as its own scripts make them.

Source: csCreateTrainIdLabelImgs and csCreatePanopticImgs of mcordts/cityscapesScripts, the latter
without train ids.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from uniovseg_jax.benchmarks.class_list import VOID, load_class_list
from uniovseg_jax.benchmarks.preparation.label_files import (
    check_size,
    encode_ids,
    encode_png,
    read_label_map,
    read_photo,
)
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe, stems
from uniovseg_jax.benchmarks.preparation.segments import describe_classes, describe_regions
from uniovseg_jax.benchmarks.split_sizes import CITYSCAPES

_NUM_LABELS = 34
_IGNORED = 255
# An instance's number is its label's times this, plus its own; below there are plain labels.
_INSTANCES = 1000
# First label of each group that is evaluated; groups have their labels in a row.
_GROUPS = {
    7: "flat",
    11: "construction",
    17: "object",
    21: "nature",
    23: "sky",
    24: "human",
    26: "vehicle",
}


def _plan(root: pathlib.Path, split: str) -> Plan:
    folder = root / "cityscapes"
    images, labels = folder / "leftImg8bit" / split, folder / "gtFine" / split
    panoptic = folder / "gtFine" / f"cityscapes_panoptic_{split}"
    for part in (images, labels):
        if not part.is_dir():
            raise FileNotFoundError(f"There is no folder {part}.")
    cities = sorted({city.name for part in (images, labels) for city in part.glob("*/")})
    items = []
    for city in cities:
        frames = stems(
            {
                images / city: (r"([^.].*)_leftImg8bit\.png", "<frame>_leftImg8bit.png"),
                labels / city: (
                    r"([^.].*)_gtFine_(?:labelIds|instanceIds)\.png",
                    "<frame>_gtFine_labelIds.png",
                ),
            }
        )
        items += [
            Item(
                frame,
                (
                    images / city / f"{frame}_leftImg8bit.png",
                    labels / city / f"{frame}_gtFine_labelIds.png",
                    labels / city / f"{frame}_gtFine_instanceIds.png",
                ),
                (
                    labels / city / f"{frame}_gtFine_labelTrainIds.png",
                    panoptic / f"{frame}_gtFine_panoptic.png",
                ),
            )
            for frame in frames
        ]
    return Plan(items, CITYSCAPES[split], make, (panoptic.with_suffix(".json"),), finish)


def make(item: Item) -> tuple[list[bytes], dict[str, Any]]:
    """Makes both label files, and what the JSON file says about the image."""
    image, label_file, instance_file = item.inputs
    labels = read_label_map(label_file, range(_NUM_LABELS))
    instances = read_label_map(instance_file, range(_NUM_LABELS * _INSTANCES))
    read_photo(image, labels.shape)
    check_size(instances.shape, labels.shape, instance_file)
    lookup = load_class_list("cityscapes_19").lookup(_NUM_LABELS)
    train_ids = np.where(lookup == VOID, _IGNORED, lookup).astype(np.uint8)
    ids, segments = find_segments(instances)
    height, width = labels.shape
    entry = {"id": item.id, "height": height, "width": width, "segments_info": segments}
    return [encode_png(train_ids[labels]), encode_ids(ids)], entry


def find_segments(
    instances: Integer[np.ndarray, "h w"],
) -> tuple[Integer[np.ndarray, "h w"], list[dict[str, Any]]]:
    """Turns an instance map into a panoptic one.

    Returns:
      The same numbers with 0 where the label is not evaluated, and the segments. Things without a
      number of their own are one crowd segment of their class.
    """
    classes = load_class_list("cityscapes_19")
    ids, segments = instances.copy(), []
    for number, region in describe_regions(instances).items():
        label = number if number < _INSTANCES else number // _INSTANCES
        if label not in classes.index_of:
            ids[instances == number] = 0
            continue
        isthing = bool(classes.is_thing[classes.index_of[label]])
        crowd = int(isthing and number < _INSTANCES)
        segments.append({"id": number, "category_id": label, **region, "iscrowd": crowd})
    return ids, segments


def finish(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the panoptic JSON file."""
    categories = describe_classes(load_class_list("cityscapes_19"), "id")
    for category in categories:
        category["supercategory"] = _GROUPS[max(n for n in _GROUPS if n <= category["id"])]
    return [
        {
            "images": [
                {
                    "id": entry["id"],
                    "width": entry["width"],
                    "height": entry["height"],
                    # No file has this name, but the official script writes it.
                    "file_name": f"{entry['id']}_gtFine_leftImg8bit.png",
                }
                for entry in entries
            ],
            "annotations": [
                {
                    "image_id": entry["id"],
                    "file_name": f"{entry['id']}_gtFine_panoptic.png",
                    "segments_info": entry["segments_info"],
                }
                for entry in entries
            ],
            "categories": categories,
        }
    ]


RECIPE = Recipe(
    "cityscapes",
    "cityscapes",
    (
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from www.cityscapes-dataset.com "
        "(with a login): unpack both in cityscapes/ of the data root, so that there are "
        "cityscapes/leftImg8bit/{train,val}/<city>/ and cityscapes/gtFine/{train,val}/<city>/ "
        "(2,975 and 500 images).",
    ),
    (
        "cityscapes/gtFine/<split>/<city>/*_gtFine_labelTrainIds.png: 0 to 18, 255 not evaluated.",
        "cityscapes/gtFine/cityscapes_panoptic_{train,val}/ and .json: segment ids are those of "
        "the instance maps, categories are label ids, things without a number are crowd.",
    ),
    _plan,
)
