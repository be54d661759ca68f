"""Files as dataset owners ship them, made up and tiny."""

import json

import numpy as np
from PIL import Image

from uniovseg_jax.benchmarks.preparation.prepare import find_recipe, prepare


def write_png(path, pixels, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.asarray(pixels)
    if palette:
        image = Image.fromarray(pixels.astype(np.uint8), "P")
        # No two colours alike, so that a reader of colours cannot pass.
        image.putpalette([(7 * n + c) % 256 for n in range(256) for c in range(3)])
    else:
        image = Image.fromarray(pixels)
    image.save(path)


def write_jpeg(path, hw, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def read(path):
    """Returns the stored pixels, with the mode that Pillow opens the file in."""
    with Image.open(path) as image:
        return image.mode, np.array(image)


def read_ids(path):
    mode, pixels = read(path)
    assert mode == "RGB"
    return pixels.astype(np.int64) @ [1, 256, 65536]


def read_json(path):
    return json.loads(path.read_text())


def run(name, root, expected, **values):
    """Prepares a tiny copy."""
    short_side = values.pop("short_side", 512)
    return prepare(find_recipe(name, short_side), root, expected=expected, **values)


def write_voc(root, labels):
    """VOC 2012 with these label maps, by name."""
    folder = root / "VOCdevkit" / "VOC2012"
    for name, pixels in labels.items():
        write_jpeg(folder / "JPEGImages" / f"{name}.jpg", np.shape(pixels))
        write_png(folder / "SegmentationClass" / f"{name}.png", pixels, palette=True)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in labels))
    return folder
