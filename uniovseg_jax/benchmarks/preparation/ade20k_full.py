"""ADE20K's full set with 847 classes: decoded labels, and smaller images as is customary.

Source: what detectron2's users do with prepare_ade20k_full_sem_seg.py of MaskFormer. It lists the
images by index_ade20k.pkl; here the folders say the same, and no pickle is opened.
"""

import functools
import io
import pathlib

import numpy as np
from PIL import Image

from uniovseg_jax.benchmarks.class_list import VOID, load_class_list
from uniovseg_jax.benchmarks.preparation.label_files import (
    encode_tiff,
    read_colours,
    read_photo,
)
from uniovseg_jax.benchmarks.preparation.opencv_resize import resize_linear, resize_nearest
from uniovseg_jax.benchmarks.preparation.recipe import Item, Plan, Recipe
from uniovseg_jax.benchmarks.split_sizes import ADE20K_FULL, LONG_NAMES
from uniovseg_jax.image_io import open_image

_VOID = 65535
# By (R // 10) * 256 + G there are no more.
_NUM_LABELS = 26 * 256


def make_recipe(short_side: int | None = 512) -> Recipe:
    """Returns the recipe.

    Args:
      short_side: In pixels; larger images are made smaller and all are written again as JPEG. None
        keeps them as they are. Published scores are those of 512.

    Raises:
      ValueError: If it is below 1.
    """
    if short_side is not None and short_side < 1:
        raise ValueError(f"short_side must be at least 1 or None, got {short_side}.")
    return Recipe(
        "ade20k_full",
        "ADE20K_2021_17_01",
        (
            "The release ADE20K_2021_17_01 from groups.csail.mit.edu/vision/datasets/ADE20K (after "
            "registration): unpack it in the data root, so that there are "
            "ADE20K_2021_17_01/images/ADE/{training,validation}/<scene type>/<scene>/ with "
            "ADE_*.jpg and ADE_*_seg.png (25,574 and 2,000 images).",
        ),
        (
            "ADE20K_2021_17_01/images_detectron2/{training,validation}/*.jpg: short side at most "
            "512 and encoded again, as published scores have it, or with --short_side=original "
            "copies.",
            "ADE20K_2021_17_01/annotations_detectron2/{training,validation}/*.tif: 16 bits, 0 to "
            "846, 65535 void.",
        ),
        functools.partial(_plan, short_side),
    )


def _plan(short_side: int | None, root: pathlib.Path, split: str) -> Plan:
    folder, long = root / "ADE20K_2021_17_01", LONG_NAMES[split]
    source = folder / "images" / "ADE" / long
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder {source}.")
    where: dict[str, pathlib.Path] = {}
    for suffix in (".jpg", "_seg.png"):
        for path in sorted(source.glob(f"*/*/ADE_{split}_*{suffix}")):
            name = path.name.removesuffix(suffix)
            if not name.removeprefix(f"ADE_{split}_").isdigit():
                continue  # A picture of parts.
            if where.setdefault(name, path.parent) != path.parent:
                raise ValueError(f"{name} is in two folders: {where[name]} and {path.parent}.")
    if not where:
        raise FileNotFoundError(f"{source} holds no <scene type>/<scene>/ADE_{split}_*.jpg.")
    items = [
        Item(
            name,
            (where[name] / f"{name}.jpg", where[name] / f"{name}_seg.png"),
            (
                folder / "images_detectron2" / long / f"{name}.jpg",
                folder / "annotations_detectron2" / long / f"{name}.tif",
            ),
        )
        for name in sorted(where)
    ]
    settings = {"short_side": "original" if short_side is None else short_side}
    make_files = functools.partial(make, short_side=short_side)
    return Plan(items, ADE20K_FULL[split], make_files, settings=settings)


def make(item: Item, short_side: int | None) -> tuple[list[bytes], None]:
    """Makes the image and its labels."""
    image, seg = item.inputs
    colours = read_colours(seg).astype(np.int32)
    lookup = load_class_list("ade20k_847").lookup(_NUM_LABELS)
    table = np.where(lookup == VOID, _VOID, lookup).astype(np.uint16)
    labels = table[colours[..., 0] // 10 * 256 + colours[..., 1]]
    photo = read_photo(image, labels.shape)
    if short_side is not None:
        hw = reduced_size(labels.shape, short_side)
        photo = _encode_again(photo, image, hw)
        labels = resize_nearest(labels, hw)
    return [photo, encode_tiff(labels)], None


def reduced_size(hw: tuple[int, ...], short_side: int) -> tuple[int, int]:
    """Returns the size with this short side, or the same one where the short side is no longer."""
    h, w = hw
    if min(h, w) <= short_side:
        return h, w
    # Half to even; the quotient first, as it was done.
    if w >= h:
        return short_side, round(w / h * short_side)
    return round(h / w * short_side), short_side


def _encode_again(encoded: bytes, path: pathlib.Path, hw: tuple[int, int]) -> bytes:
    """Returns an image of another size as JPEG of Pillow's own quality, 75; not turned by EXIF."""
    with open_image(io.BytesIO(encoded), str(path)) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if pixels.shape[:2] != hw:
        pixels = resize_linear(pixels, hw)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()
