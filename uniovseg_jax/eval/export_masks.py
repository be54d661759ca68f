"""Writes the true masks of a benchmark as a COCO file, so that any other model can be asked.

Every mask comes with the prompts that our own models get: its centre point and its tight box. What
a model answers is scored by `score_prompts.score_prompted`, by the ids of annotations.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import tqdm

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.check import check_benchmark
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.benchmarks.sampling import sampled_unless_whole
from uniovseg_jax.eval.metrics.promptable import TrueMasks
from uniovseg_jax.eval.prediction_files import stored_id
from uniovseg_jax.files import check_folder, make_folder, write_text_whole
from uniovseg_jax.image_io import image_hw
from uniovseg_jax.masks import rle_encode


def export_masks(
    name: str,
    data_dir: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    split: str = "",
    limit: int = 0,
    seed: int = 0,
) -> tuple[pathlib.Path, ...]:
    """Writes `<benchmark>.json` for a benchmark, or for every part of a suite.

    Its images are those that an evaluation of the same seed scores: large sets are sampled, and the
    sample is kept in `sample.json`.

    Args:
      name: One of `registry.BENCHMARKS`.
      data_dir: Folder that all datasets are in.
      folder: Where the files go; made when needed.
      split: Empty for the usual one.
      limit: Only the first images; 0 for all.
      seed: Of the sample.

    Returns:
      The files.

    Raises:
      FileNotFoundError: If the dataset is not there.
      ValueError: If there is no such benchmark, it has no masks, or its files are not as expected.
    """
    check_folder(pathlib.Path(folder))
    parts, written = open_benchmarks(name, data_dir, split), []
    for part in parts:
        if part.read_masks is None:
            raise ValueError(f"{part.name} has no masks for prompts.")
    parts = sampled_unless_whole(name, parts, pathlib.Path(folder) / "sample.json", seed)
    for part in parts:
        check_benchmark(part)
        text = json.dumps(masks_document(part, pathlib.Path(data_dir), limit)) + "\n"
        path = pathlib.Path(folder) / f"{part.name.replace('/', '-')}.json"
        make_folder(path.parent)
        write_text_whole(path, text)
        written.append(path)
    return tuple(written)


def masks_document(part: Benchmark, data_dir: pathlib.Path, limit: int = 0) -> dict[str, Any]:
    """Returns `images` and `annotations` as COCO has them, without categories.

    Crowds and empty masks are left out, as they are not scored. Ids of images are the benchmark's,
    numbers as numbers; `file_name` is relative to the data folder. Annotations have `bbox` `[x, y,
    width, height]` and besides, in pixels, `center_point` `[x, y]`, see `promptable.center_point`.

    Args:
      part: Benchmark with masks.
      data_dir: Folder that all datasets are in.
      limit: Only the first images; 0 for all.

    Raises:
      ValueError: If a file of the benchmark is not as expected.
    """
    assert part.read_masks is not None
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in tqdm.tqdm(part.first(limit).images, part.name, unit="image"):
        rles, stored = part.read_masks(image_id), stored_id(image_id)
        path = part.images[image_id]
        if rles:
            height, width = rles[0]["size"]
        else:
            height, width = part.read_sizes(image_id) if part.read_sizes else image_hw(path)
        name = path.relative_to(data_dir) if path.is_relative_to(data_dir) else path
        images.append(
            {"id": stored, "file_name": name.as_posix(), "height": height, "width": width}
        )
        truth = TrueMasks.from_rles(rles, (height, width))
        boxes = np.asarray(truth.masks.boxes_xyxy, np.float64).reshape(-1, 4)
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            mask = truth.masks.mask(row)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": stored,
                    "segmentation": rle_encode(mask),
                    "area": int(np.count_nonzero(mask)),
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "center_point": truth.centers_xy[row].tolist(),
                }
            )
    return {"images": images, "annotations": annotations}
