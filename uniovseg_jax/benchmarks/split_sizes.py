"""How many images the published splits have, so that half a download is noticed.

Sources: the datasets' own pages; PASCAL Context's numbers are those of `trainval_merged.json`.
"""

import dataclasses

from uniovseg_jax.benchmarks.benchmark import Benchmark

# What most datasets call the folders of the two splits.
LONG_NAMES = {"train": "training", "val": "validation"}

COCO = {"train": 118287, "val": 5000}
ADE20K = {"train": 20210, "val": 2000}
ADE20K_FULL = {"train": 25574, "val": 2000}
PASCAL_CONTEXT = {"train": 4998, "val": 5104}
# PASCAL in Detail leaves one image of VOC's lists out.
PASCAL_CONTEXT_OF_VOC = {"train": 4998, "val": 5105}
VOC = {"train": 1464, "val": 1449}
CITYSCAPES = {"train": 2975, "val": 500}

_OF_BENCHMARKS = {
    "coco_panoptic": (COCO,),
    "ade20k_150": (ADE20K,),
    "ade20k_847": (ADE20K_FULL,),
    "pascal_context_59": (PASCAL_CONTEXT, PASCAL_CONTEXT_OF_VOC),
    "pascal_context_459": (PASCAL_CONTEXT,),
    "pascal_voc21": (VOC,),
    "pascal_voc21_threshold": (VOC,),
    "pascal_voc20": (VOC,),
    "pascal_voc20b": (VOC,),
    "cityscapes": (CITYSCAPES,),
}


def with_note_of_size(benchmark: Benchmark, split: str) -> Benchmark:
    """Returns the benchmark; it says so where it has not as many images as the published one.

    Args:
      benchmark: With classes; of those that nobody published nothing is said.
      split: `train` or `val`.
    """
    known = [sizes[split] for sizes in _OF_BENCHMARKS.get(benchmark.name, ()) if split in sizes]
    found = len(benchmark.images)
    if not known or found in known:
        return benchmark
    note = note_of_size(found, split, known[0])
    return dataclasses.replace(
        benchmark, unverified=(*benchmark.unverified, note), as_published=False
    )


def note_of_size(found: int, split: str, expected: int) -> str:
    """Returns the sentence about a split with another number of images."""
    return f"{found} images were found, the published split {split} has {expected}."
