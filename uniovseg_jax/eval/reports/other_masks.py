"""Masks of other models for the images of a benchmark, beside those of a run."""

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from uniovseg_jax.eval.files.coco_files import of_size, read_image_id, read_result_list
from uniovseg_jax.eval.metrics.promptable import BestMasks, TrueMasks
from uniovseg_jax.json_fields import at
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.packed_masks import PackedMasks, packed_iou

# Files by benchmark and by the name of the model: image ids of different sets are often the same.
OtherFiles = Mapping[str, Mapping[str, pathlib.Path]]


def parse_others(words: Sequence[str], benchmarks: Collection[str]) -> OtherFiles:
    """Reads `SAM:ishape/fence=sam_fence.json`.

    Args:
      words: One per model and benchmark.
      benchmarks: That there are.

    Raises:
      ValueError: If one is malformed, given twice, or of another benchmark.
    """
    files: dict[str, dict[str, pathlib.Path]] = {}
    for word in words:
        of, _, file = word.partition("=")
        name, _, benchmark = of.partition(":")
        if not (name and benchmark and file):
            raise ValueError(f"--others is {word}; expected name:benchmark=file.")
        if benchmark not in benchmarks:
            known = ", ".join(sorted(benchmarks)) or "none"
            raise ValueError(
                f"--others names the benchmark {benchmark!r}; the results with prompts are of "
                f"{known}."
            )
        if name in files.setdefault(benchmark, {}):
            raise ValueError(f"--others has two files of {name} for {benchmark}.")
        files[benchmark][name] = pathlib.Path(file)
    return files


def read_masks(
    path: pathlib.Path, images: Mapping[str, Any]
) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Reads COCO results by image id, each entry with its place in words.

    Raises:
      FileNotFoundError: If the file is not there.
      ValueError: If it is no list of results, or none is of an image of the benchmark.
    """
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for place, entry in enumerate(read_result_list(path)):
        where = f"{path}: [{place}]"
        found.setdefault(str(read_image_id(entry, where)), []).append((where, entry))
    if not found.keys() & images.keys():
        raise ValueError(
            f"{path} has no result for an image of the benchmark, such as {next(iter(images))}."
        )
    return found


def best_masks(truth: TrueMasks, entries: Sequence[tuple[str, dict[str, Any]]]) -> BestMasks:
    """Returns for every true mask the result that fits best.

    Raises:
      ValueError: If a result is malformed or of another size than the image.
    """
    best = BestMasks(truth)
    if entries and len(truth):
        hw = truth.masks.hw
        rles = [at(where, of_size, entry.get("segmentation"), hw) for where, entry in entries]
        masks = PackedMasks.from_masks([rle_decode(rle) for rle in rles], hw)
        iou = packed_iou(truth.masks, masks)
        best.offer(iou.max(axis=1), masks.words[iou.argmax(axis=1)])
    return best
