"""How well true masks of tinyscenes are named at several input sizes (table 4b)."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from uniovseg_jax.eval.naming.matching_accuracy import RegionNamer, SizeSets, measure_accuracy
from uniovseg_jax.eval.naming.true_regions import TrueRegions
from uniovseg_jax.eval.scenes.scores import JOINT_VOCABULARY
from uniovseg_jax.packed_masks import PackedMasks
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained


def name_true_masks(
    base: Pretrained, records: Any, size_sets: SizeSets, templates: str
) -> list[dict[str, Any]]:
    """Classifies true masks by frozen CLIP vectors, whose cosines are averaged over input sizes.

    Args:
      base: The frozen model.
      records: Of the panoptic part.
      size_sets: Input sides that go together, one set per row.
      templates: Prompts, see `prompt_templates.TEMPLATES`.

    Returns:
      As `measure_accuracy`.
    """
    names = TextEncoder(base, templates).embed(JOINT_VOCABULARY.names)
    sizes = {size for sizes in size_sets for size in sizes}
    namer = RegionNamer(base, names, JOINT_VOCABULARY.name_to_class, sizes)
    return measure_accuracy(namer, _regions(records), size_sets)


def _regions(records: Any) -> Iterator[TrueRegions]:
    for index in range(len(records)):
        record = records[index]
        ids, segments = record["panoptic"], record["segments_info"]
        masks = PackedMasks.from_masks([ids == info["id"] for info in segments], ids.shape)
        labels = np.array([info["category_id"] for info in segments], np.int64)
        yield TrueRegions(record["image"], masks, labels)
