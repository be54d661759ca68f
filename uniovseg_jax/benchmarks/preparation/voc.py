"""PASCAL VOC 2012: labels with and without the background."""

import pathlib
from typing import Any

import numpy as np

from uniovseg_jax.benchmarks.preparation.label_files import (
    encode_png,
    read_label_map,
    read_photo,
)
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe
from uniovseg_jax.benchmarks.split_sizes import LONG_NAMES, VOC

_VOID = 255


def _plan(root: pathlib.Path, split: str) -> Plan:
    source, made = root / "VOCdevkit" / "VOC2012", root / "pascal_voc_d2"
    names = read_names(source / "ImageSets" / "Segmentation" / f"{split}.txt")
    long = LONG_NAMES[split]
    items = [
        Item(
            name,
            (source / "JPEGImages" / f"{name}.jpg", source / "SegmentationClass" / f"{name}.png"),
            (
                made / "images" / long / f"{name}.jpg",
                made / "annotations_pascal21" / long / f"{name}.png",
                made / "annotations_pascal20" / long / f"{name}.png",
            ),
        )
        for name in names
    ]
    return Plan(items, VOC[split], make)


def make(item: Item) -> tuple[list[bytes], None]:
    """Copies the image, and writes palette indices as they are and without the background."""
    image, segmentation = item.inputs
    labels = read_label_map(segmentation, range(21), _VOID).astype(np.uint8)
    photo = read_photo(image, labels.shape)
    # Background becomes void, and class k becomes k - 1.
    without = np.where((labels == 0) | (labels == _VOID), _VOID, labels - 1).astype(np.uint8)
    return [photo, encode_png(labels), encode_png(without)], None


def read_names(path: pathlib.Path) -> list[str]:
    """Reads a list of the devkit, one name in a line.

    Raises:
      FileNotFoundError: If there is none.
      ValueError: If it holds anything but plain names, or one twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; expected a name in each line.") from None
    lines: list[Any] = text.split("\n")
    names = [line.strip() for line in lines if line.strip()]
    seen: set[str] = set()
    for name in names:
        if not name.replace("_", "").isalnum() or name in seen:
            fault = "twice" if name in seen else "which is no name of an image"
            raise ValueError(f"{path} holds {name[:40]!r}, {fault}; expected a name in each line.")
        seen.add(name)
    return names


RECIPE = Recipe(
    "voc",
    "pascal_voc_d2",
    (
        "VOCtrainval_11-May-2012.tar from host.robots.ox.ac.uk/pascal/VOC/voc2012: unpack it in "
        "the data root, so that there is VOCdevkit/VOC2012/ with JPEGImages, SegmentationClass "
        "and ImageSets/Segmentation/{train,val}.txt (1,464 and 1,449 images).",
    ),
    (
        "pascal_voc_d2/images/{training,validation}/*.jpg: copies.",
        "pascal_voc_d2/annotations_pascal21/...png: 0 background, 1 to 20, 255 void.",
        "pascal_voc_d2/annotations_pascal20/...png: 0 to 19, 255 void and background.",
    ),
    _plan,
)
