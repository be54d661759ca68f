"""PASCAL Context: 459 classes from its MATLAB files, 59 from PASCAL in Detail or from the same."""

import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int32, Integer

from uniovseg_jax.benchmarks.class_list import VOID, load_class_list
from uniovseg_jax.benchmarks.labels.label_maps import read_values
from uniovseg_jax.benchmarks.preparation.label_files import (
    check_size,
    check_values,
    encode_png,
    encode_tiff,
    read_photo,
)
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe
from uniovseg_jax.benchmarks.preparation.voc import read_names
from uniovseg_jax.benchmarks.split_sizes import (
    LONG_NAMES,
    PASCAL_CONTEXT,
    PASCAL_CONTEXT_OF_VOC,
)
from uniovseg_jax.data.mask_sources.source import is_plain_name
from uniovseg_jax.json_fields import parse_json, whole_number
from uniovseg_jax.masks import rle_decode

_VOID_59, _VOID_459 = 255, 65535
_DETAIL, _LABEL_MAPS = "trainval_merged.json", "trainval"


def _plan(root: pathlib.Path, split: str) -> Plan:
    source, made, long = root / "VOCdevkit" / "VOC2010", root / "pascal_ctx_d2", LONG_NAMES[split]
    detail = source / _DETAIL
    if detail.is_file():
        images, expected = read_detail(detail, split), PASCAL_CONTEXT[split]
    else:
        names = read_names(source / "ImageSets" / "Main" / f"{split}.txt")
        images, expected = dict.fromkeys(names), PASCAL_CONTEXT_OF_VOC[split]
    has_maps = (source / _LABEL_MAPS).is_dir()
    if not has_maps and not detail.is_file():
        raise FileNotFoundError(
            f"There is neither a folder {source / _LABEL_MAPS} nor a file {detail}."
        )
    items = []
    for name, annotations in sorted(images.items()):
        inputs = [source / "JPEGImages" / f"{name}.jpg"]
        outputs = [
            made / "images" / long / f"{name}.jpg",
            made / "annotations_ctx59" / long / f"{name}.png",
        ]
        if has_maps:
            inputs.append(source / _LABEL_MAPS / f"{name}.mat")
            outputs.append(made / "annotations_ctx459" / long / f"{name}.tif")
        items.append(Item(name, tuple(inputs), tuple(outputs), annotations))
    settings = {
        "classes_59_from": _DETAIL if detail.is_file() else f"LabelMap of {_LABEL_MAPS}/*.mat",
        "classes_459_from": f"LabelMap of {_LABEL_MAPS}/*.mat" if has_maps else None,
    }
    return Plan(items, expected, make, settings=settings)


def read_detail(path: pathlib.Path, split: str) -> dict[str, dict[str, Any]]:
    """Reads which images PASCAL in Detail has in a split, and their annotations.

    Returns:
      By stem of the image: height, width, and the category and run lengths of every region in the
      order of the file.

    Raises:
      ValueError: If the file is none of PASCAL in Detail.
    """
    try:
        document = parse_json(path.read_bytes())
        document = document if isinstance(document, dict) else {}
        rows, regions = document.get("images"), document.get("annos_segmentation")
        if not isinstance(rows, list) or not isinstance(regions, list):
            raise ValueError('expected an object with lists "images" and "annos_segmentation".')
        found: dict[int, dict[str, Any]] = {}
        stems = {}
        for row in rows:
            image_id = whole_number(row, "image_id", low=0)
            if row.get("phase") != split:
                continue
            if not is_plain_name(row.get("file_name")):
                raise ValueError(f"image {image_id} has no plain file_name.")
            stems[image_id] = pathlib.PurePath(row["file_name"]).stem
            found[image_id] = {
                "file": str(path),
                "hw": (whole_number(row, "height"), whole_number(row, "width")),
                "regions": [],
            }
        for region in regions:
            image_id = whole_number(region, "image_id", low=0)
            if image_id in found:
                category = whole_number(region, "category_id", low=0)
                found[image_id]["regions"].append((category, region.get("segmentation")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return {stems[image_id]: annotations for image_id, annotations in found.items()}


def make(item: Item) -> tuple[list[bytes], None]:
    """Copies the image and makes its labels."""
    image, *label_maps = item.inputs
    full = [_read_label_map(path) for path in label_maps]
    few = full[0] if item.detail is None else paint(item.detail, item.id)
    photo = read_photo(image, few.shape)
    contents = [photo, encode_png(_shifted("pascal_context_59", few, _VOID_59).astype(np.uint8))]
    for path, labels in zip(label_maps, full, strict=True):
        check_size(labels.shape, few.shape, path)
        shifted = _shifted("pascal_context_459", labels, _VOID_459)
        contents.append(encode_tiff(shifted.astype(np.uint16)))
    return contents, None


def paint(annotations: dict[str, Any], name: str) -> Integer[np.ndarray, "h w"]:
    """Paints regions over each other, the later ones on top; 0 where there is none.

    Raises:
      ValueError: If one is malformed or of another size than the image.
    """
    height, width = annotations["hw"]
    labels = np.zeros((height, width), np.int32)
    for category, rle in annotations["regions"]:
        try:
            mask = rle_decode(rle)
            if mask.shape != labels.shape:
                size = " x ".join(map(str, mask.shape))
                raise ValueError(f"A region has {size} pixels, its image {height} x {width}.")
        except ValueError as error:
            raise ValueError(f"{annotations['file']}: image {name}: {error}") from error
        labels[mask] = category
    return labels


def _shifted(
    list_name: str, labels: Integer[np.ndarray, "h w"], void: int
) -> Integer[np.ndarray, "h w"]:
    """Returns indices of a list for labels of the 459 classes, `void` for those that are not on."""
    lookup = load_class_list(list_name).lookup(int(labels.max()) + 1)
    return np.where(lookup == VOID, void, lookup)[labels]


def _read_label_map(path: pathlib.Path) -> Int32[np.ndarray, "h w"]:
    labels = read_values(path)
    check_values(labels, range(460), None, path)
    return labels


RECIPE = Recipe(
    "pascal_context",
    "pascal_ctx_d2",
    (
        "VOCtrainval_03-May-2010.tar from host.robots.ox.ac.uk/pascal/VOC/voc2010: unpack it in "
        "the data root, so that there is VOCdevkit/VOC2010/JPEGImages.",
        "For 459 classes trainval.tar.gz from www.cs.stanford.edu/~roozbeh/pascal-context: unpack "
        "it in VOCdevkit/VOC2010/, so that there is VOCdevkit/VOC2010/trainval/*.mat.",
        "For 59 classes and the usual split trainval_merged.json of PASCAL in Detail, in "
        "VOCdevkit/VOC2010/ (4,998 and 5,104 images). Without it the 59 classes are taken from "
        "the *.mat files, and the split from VOCdevkit/VOC2010/ImageSets/Main/{train,val}.txt "
        "(4,998 and 5,105).",
    ),
    (
        "pascal_ctx_d2/images/{training,validation}/*.jpg: copies.",
        "pascal_ctx_d2/annotations_ctx59/...png: 0 to 58, 255 void.",
        "pascal_ctx_d2/annotations_ctx459/...tif: 16 bits, 0 to 458, 65535 void.",
    ),
    _plan,
)
