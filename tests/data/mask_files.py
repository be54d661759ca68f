"""Small images, masks and files of every published layout, for the tests of the conversion."""

import io
import json
import pathlib

import numpy as np
from PIL import Image

from uniovseg_jax.data.conversion import convert
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.masks import rle_encode

HW = (12, 17)


def blob(rng, hw=HW):
    """A mask with at least one pixel and mostly long runs."""
    mask = np.kron(rng.random((3, 4)) < 0.4, np.ones((8, 8), bool))[: hw[0], : hw[1]]
    mask[rng.integers(hw[0]), rng.integers(hw[1])] = True
    return mask


def encode(array, kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def picture(rng, hw=HW, kind="JPEG", **options):
    return encode(rng.integers(0, 256, (*hw, 3), np.uint8), kind, **options)


def make_record(number, num_masks=3):
    rng = np.random.default_rng(number)
    masks = [rle_encode(blob(rng)) for _ in range(num_masks)]
    for mask in masks:
        mask["counts"] = mask["counts"].encode()
        mask["predicted_iou"], mask["stability"] = rng.random(2).tolist()
    height, width = HW
    image = picture(rng)
    return {"id": str(number), "image": image, "height": height, "width": width, "masks": masks}


def sa1b_json(record):
    """A record's annotation as SA-1B has it."""
    annotations = [
        {
            "id": index,
            "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
            "bbox": [0, 0, 1, 1],
            "area": 1,
            "predicted_iou": mask["predicted_iou"],
            "stability_score": mask["stability"],
            "crop_box": [0, 0, record["width"], record["height"]],
            "point_coords": [[1.5, 2.0]],
        }
        for index, mask in enumerate(record["masks"])
    ]
    image = {
        "image_id": int(record["id"]),
        "width": record["width"],
        "height": record["height"],
        "file_name": f"sa_{record['id']}.jpg",
    }
    return {"image": image, "annotations": annotations}


def sa1b_members(records):
    """(name, content) of image and annotation of every record."""
    for record in records:
        yield f"sa_{record['id']}.jpg", record["image"]
        yield f"sa_{record['id']}.json", json.dumps(sa1b_json(record)).encode()


def write_json(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def run(source, output, **options):
    """`convert` with small shards."""
    chosen = {"records_per_shard": 4, "max_skipped": 0.01, "num_workers": 1, **options}
    return convert(source, pathlib.Path(output), Sample(), **chosen)


def skipped_names(output):
    lines = (pathlib.Path(output) / "skipped.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
