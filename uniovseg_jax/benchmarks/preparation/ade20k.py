"""ADE20K's 150 classes: shifted labels, and the panoptic and instance forms.

Source: what detectron2's users do with prepare_ade20k_{sem,pan,ins}_seg.py of MaskFormer and
Mask2Former, except that segments are numbered: there they get colours, which once were the same.
"""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.preparation.label_files import (
    check_size,
    encode_ids,
    encode_png,
    read_colours,
    read_label_map,
    read_photo,
)
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe, stems
from uniovseg_jax.benchmarks.preparation.segments import describe_classes, describe_regions
from uniovseg_jax.benchmarks.split_sizes import ADE20K, LONG_NAMES
from uniovseg_jax.masks import rle_encode

_VOID = 255


def _plan(root: pathlib.Path, split: str) -> Plan:
    folder, long = root / "ADEChallengeData2016", LONG_NAMES[split]
    inputs = {"images": "jpg", "annotations": "png", "annotations_instance": "png"}
    names = stems(
        {
            folder / part / long: (
                rf"(ADE_{split}_\d+)\.{suffix}",
                f"ADE_{split}_<number>.{suffix}",
            )
            for part, suffix in inputs.items()
        }
    )
    panoptic = folder / f"ade20k_panoptic_{split}"
    items = [
        Item(
            name,
            tuple(folder / part / long / f"{name}.{suffix}" for part, suffix in inputs.items()),
            (
                folder / "annotations_detectron2" / long / f"{name}.png",
                panoptic / f"{name}.png",
            ),
        )
        for name in names
    ]
    documents = (panoptic.with_suffix(".json"), folder / f"ade20k_instance_{split}.json")
    return Plan(items, ADE20K[split], make, documents, finish)


def make(item: Item) -> tuple[list[bytes], dict[str, Any]]:
    """Makes both label files, and what the JSON files say about the image."""
    image, semantic_file, instance_file = item.inputs
    semantic = read_label_map(semantic_file, range(151))
    read_photo(image, semantic.shape)
    pairs = read_colours(instance_file)
    check_size(pairs.shape[:2], semantic.shape, instance_file)
    instances = pairs[..., 1].astype(np.int32)
    categories = find_categories(pairs[..., 0], instances, instance_file)
    ids, segments = find_segments(semantic, instances, categories)
    # In 8 bits 0 minus 1 is 255; said as it is meant.
    shifted = np.where(semantic == 0, _VOID, semantic - 1).astype(np.uint8)
    height, width = semantic.shape
    entry = {
        "id": item.id,
        "height": height,
        "width": width,
        "segments_info": segments,
        "instances": _find_instances(instances, categories),
    }
    return [encode_png(shifted), encode_ids(ids)], entry


def find_categories(
    kinds: Integer[np.ndarray, "h w"], instances: Integer[np.ndarray, "h w"], path: pathlib.Path
) -> dict[int, int]:
    """Returns the index of the class of every instance number.

    Args:
      kinds: Class of the instance challenge, 1 to 100, where there is an instance.
      instances: Number within the image, 0 for none.
      path: Of the file, for complaints.

    Raises:
      ValueError: If an instance has no class, several, or one that is not known.
    """
    found = {}
    for number in np.unique(instances[instances > 0]).tolist():
        values = np.unique(kinds[instances == number]).tolist()
        if len(values) > 1 or values[0] not in _index_by_kind():
            raise ValueError(
                f"{path}: instance {number} has the classes {values}, expected one from 1 to 100."
            )
        found[number] = _index_by_kind()[values[0]]
    return found


def find_segments(
    semantic: Integer[np.ndarray, "h w"],
    instances: Integer[np.ndarray, "h w"],
    categories: dict[int, int],
) -> tuple[Integer[np.ndarray, "h w"], list[dict[str, Any]]]:
    """Pastes instances on the stuff of an image; things without an instance stay void.

    Stuff has the area and box that it had before, as in the published ground truth, and is listed
    even where nothing of it is left.

    Args:
      semantic: 0 or a class, 1 to 150.
      instances: Number within the image, 0 for none.
      categories: Index of the class of every such number.

    Returns:
      Numbers from 1 on, 0 for void, and the segments.
    """
    classes = load_class_list("ade20k_150")
    ids, segments = np.zeros(semantic.shape, np.int32), []
    for value, region in describe_regions(semantic).items():
        if value == 0 or classes.is_thing[value - 1]:
            continue
        number = len(segments) + 1
        ids[semantic == value] = number
        segments.append({"id": number, "category_id": value - 1, **region, "iscrowd": 0})
    for instance, region in describe_regions(instances).items():
        if instance == 0:
            continue
        number = len(segments) + 1
        ids[instances == instance] = number
        category = categories[instance]
        segments.append({"id": number, "category_id": category, **region, "iscrowd": 0})
    return ids, segments


def finish(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the panoptic and the instance JSON file."""
    images = [
        {
            "id": entry["id"],
            "file_name": f"{entry['id']}.jpg",
            "width": entry["width"],
            "height": entry["height"],
        }
        for entry in entries
    ]
    panoptic = [
        {
            "image_id": entry["id"],
            "file_name": f"{entry['id']}.png",
            "segments_info": entry["segments_info"],
        }
        for entry in entries
    ]
    found = [(entry["id"], instance) for entry in entries for instance in entry["instances"]]
    instances = [
        {"id": number, "image_id": image, **instance}
        for number, (image, instance) in enumerate(found, start=1)
    ]
    categories = describe_classes(load_class_list("ade20k_150"), "index")
    things = [{"id": row["id"], "name": row["name"]} for row in categories if row["isthing"]]
    return [
        {"images": images, "annotations": panoptic, "categories": categories},
        {"images": images, "annotations": instances, "categories": things},
    ]


def _find_instances(
    instances: Integer[np.ndarray, "h w"], categories: dict[int, int]
) -> list[dict[str, Any]]:
    return [
        {
            "category_id": categories[number],
            **region,
            "iscrowd": 0,
            "segmentation": rle_encode(instances == number),
        }
        for number, region in describe_regions(instances).items()
        if number
    ]


@functools.cache
def _index_by_kind() -> dict[int, int]:
    classes = load_class_list("ade20k_150").classes
    return {
        info.instance_id: index
        for index, info in enumerate(classes)
        if info.instance_id is not None
    }


RECIPE = Recipe(
    "ade20k",
    "ADEChallengeData2016",
    (
        "ADEChallengeData2016.zip from sceneparsing.csail.mit.edu: unpack it in the data root, so "
        "that there are ADEChallengeData2016/{images,annotations}/{training,validation}/ (20,210 "
        "and 2,000 images).",
        "annotations_instance.tar of the instance challenge (ChallengeData2017) from the same "
        "place: unpack it in ADEChallengeData2016/, so that there is "
        "ADEChallengeData2016/annotations_instance/{training,validation}/.",
    ),
    (
        "ADEChallengeData2016/annotations_detectron2/{training,validation}/*.png: 0 to 149, 255 "
        "void.",
        "ADEChallengeData2016/ade20k_panoptic_{train,val}/ and .json: categories 0 to 149.",
        "ADEChallengeData2016/ade20k_instance_{train,val}.json: 100 of the same categories.",
    ),
    _plan,
)
