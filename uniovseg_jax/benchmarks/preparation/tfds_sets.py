"""What TensorFlow Datasets has prepared, unpacked to the layout of its owners, without TensorFlow.

tfds keeps the PNG and JPEG files as they were; only names, and what COCO's JSON file says, are put
together again.
"""

import io
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import tqdm

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.data.mask_sources.source import is_plain_name
from uniovseg_jax.data.tfds_source import open_tfds_source
from uniovseg_jax.files import write_text_whole, write_whole
from uniovseg_jax.image_io import open_image

# Our splits by those of tfds.
_SPLITS = {"val": "validation", "train": "train"}
_COCO_FEATURES = (
    "image",
    "image/filename",
    "image/id",
    "panoptic_image",
    "panoptic_image/filename",
    "panoptic_objects",
)


def unpack_coco(directory: pathlib.Path, root: pathlib.Path, split: str = "val") -> int:
    """Writes `coco/` of the data root from a prepared `coco/2017_panoptic`; returns its images.

    The JSON file comes last, so that nothing is opened before all is there.

    Args:
      directory: The folder that holds `dataset_info.json`, stored as array_record.
      root: The data root.
      split: `val` or `train`.

    Raises:
      ValueError: If the folder holds something else, or the annotations were there before.
    """
    year = f"{split}2017"
    target = root / "coco" / "annotations" / f"panoptic_{year}.json"
    if target.exists():
        raise ValueError(f"{target} is there already; remove it to unpack the set again.")
    source = _open(
        directory, "coco/2017_panoptic", _COCO_FEATURES, ("image", "panoptic_image"), split
    )
    images, labels = root / "coco" / year, root / "coco" / f"panoptic_{year}"
    for folder in (images, labels, target.parent):
        folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [
            {"id": info.id, "name": info.name, "isthing": int(bool(info.isthing))}
            for info in load_class_list("coco_panoptic_133").classes
        ],
    }
    for index in tqdm.trange(len(source), desc="unpacking", unit="image", delay=2):
        example = source[index]
        image, annotation = _entries(example)
        _write(images / image["file_name"], bytes(example["image"]))
        _write(labels / annotation["file_name"], bytes(example["panoptic_image"]))
        document["images"].append(image)
        document["annotations"].append(annotation)
    text = json.dumps(document)
    write_text_whole(target, text)
    return len(source)


def unpack_cityscapes(directory: pathlib.Path, root: pathlib.Path, split: str = "val") -> int:
    """Writes `cityscapes/` of the data root from a prepared `cityscapes/semantic_segmentation`.

    There are no instances in it. The same again changes nothing; where it was ended early, images
    are fewer than labels, which every reader refuses.

    Args:
      directory: The folder that holds `dataset_info.json`, stored as array_record.
      root: The data root.
      split: `val` or `train`.

    Returns:
      The number of images.

    Raises:
      ValueError: If the folder holds something else.
    """
    files = {"segmentation_label": "gtFine_labelIds", "image_left": "leftImg8bit"}
    source = _open(
        directory, "cityscapes/semantic_segmentation", ("image_id", *files), tuple(files), split
    )
    for feature, ending in files.items():
        folder = root / "cityscapes" / ending.partition("_")[0] / split
        title = f"unpacking {feature}"
        for index in tqdm.trange(len(source), desc=title, unit="image", delay=2):
            example = source[index]
            name = _text(example["image_id"])
            match = re.fullmatch(r"([a-z-]+)_\d+_\d+", name)
            if match is None:
                raise ValueError(
                    f"An example has the id {name[:80]!r}; expected <city>_<number>_<number>."
                )
            (folder / match[1]).mkdir(parents=True, exist_ok=True)
            _write(folder / match[1] / f"{name}_{ending}.png", bytes(example[feature]))
    return len(source)


# By the names of the recipes.
UNPACK: Mapping[str, Callable[[pathlib.Path, pathlib.Path, str], int]] = {
    "coco": unpack_coco,
    "cityscapes": unpack_cityscapes,
}


def _open(
    directory: pathlib.Path,
    name: str,
    features: tuple[str, ...],
    encoded: tuple[str, ...],
    split: str,
) -> Any:
    """Returns the examples of our split, some features as they are encoded."""
    import tensorflow_datasets as tfds

    if split not in _SPLITS:
        raise ValueError(f"There is no split {split!r}; expected train or val.")
    decoders = {feature: tfds.decode.SkipDecoding() for feature in encoded}
    return open_tfds_source(directory, name, features, _SPLITS[split], decoders)[0]


def _entries(example: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what the JSON file says of an image, and of its segments."""
    classes = load_class_list("coco_panoptic_133").classes
    names = [_text(example[f"{part}/filename"]) for part in ("image", "panoptic_image")]
    for name in names:
        if not is_plain_name(name):
            raise ValueError(f"An example names a file {name[:80]!r}; expected a plain name.")
    with open_image(io.BytesIO(bytes(example["image"])), names[0]) as picture:
        height, width = picture.height, picture.width
    objects, image_id = example["panoptic_objects"], int(example["image/id"])
    segments = []
    for number, area, box, label, crowd in zip(
        *(objects[key] for key in ("id", "area", "bbox", "label", "is_crowd")), strict=True
    ):
        # tfds has boxes as shares of the image, y first.
        y0, x0, y1, x1 = (float(share) for share in box)
        corner, far = (round(x0 * width), round(y0 * height)), (x1 * width, y1 * height)
        segments.append(
            {
                "id": int(number),
                "category_id": classes[int(label)].id,
                "area": int(area),
                "bbox": [*corner, round(far[0]) - corner[0], round(far[1]) - corner[1]],
                "iscrowd": int(crowd),
            }
        )
    return (
        {"id": image_id, "file_name": names[0], "height": height, "width": width},
        {"image_id": image_id, "file_name": names[1], "segments_info": segments},
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _write(path: pathlib.Path, content: bytes) -> None:
    write_whole(path, lambda temporary: temporary.write_bytes(content))
