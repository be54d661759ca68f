"""What only the true names of captioned scenes can tell: matching accuracy and the ceiling.

Nothing that trains or chooses the unpaired model may import this file.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.alignment.store_writer import Row, write_targets
from uniovseg_jax.masks import mask_iou_matrix, rle_decode

# A region stands for a true segment from this intersection over union on.
MIN_IOU = 0.5

Oracle = Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class OracleImage:
    """An image of the store beside its truth.

    Attributes:
      image: Regions and entities.
      pairs: (region, entity) rows.
      segments: True segments with `level` (object, part or region), `name` and `noun`.
      iou: Overlap of every region with every segment; 0 for regions that were not kept.
    """

    image: ImageRegions
    pairs: np.ndarray
    segments: list[Mapping[str, Any]]
    iou: Float[np.ndarray, "n m"]

    @classmethod
    def of_image(
        cls, image: ImageRegions, pairs: np.ndarray, segments: list[Mapping[str, Any]]
    ) -> "OracleImage":
        """Measures the overlaps."""
        iou = np.zeros((len(image.scores), len(segments)))
        if image.masks and segments:
            regions = np.stack([rle_decode(mask) for mask in image.masks])
            truths = np.stack([rle_decode(segment) for segment in segments])
            iou[image.kept] = mask_iou_matrix(regions, truths)
        return cls(image, pairs, segments, iou)


def join_oracle(store: PairStore, oracle: Oracle) -> Iterator[OracleImage]:
    """Yields every image of a store with the overlaps of its regions with the true segments.

    Args:
      store: Of the captioned scenes.
      oracle: By image id: `segments`, a list of {level, name, noun, size, counts}.

    Raises:
      ValueError: If the oracle lacks an image of the store.
    """
    for stored in store.images():
        name = stored.regions.image_id
        if name not in oracle:
            raise ValueError(f"The oracle has no image {name}; is it of another world?")
        yield OracleImage.of_image(stored.regions, stored.pairs, list(oracle[name]["segments"]))


def count_correct_pairs(joined: OracleImage) -> tuple[int, int]:
    """Returns how many pairs are right, strictly and with parts of the right thing counted.

    A pair is right when its mask overlaps a whole thing or a region of the entity's name; an entity
    without colour names every colour of its noun. A part counts for the thing that it belongs to.
    """
    strict = with_parts = 0
    for region, entity in joined.pairs.tolist():
        text = joined.image.entities[entity]
        levels = {
            segment["level"]
            for segment, iou in zip(joined.segments, joined.iou[region], strict=True)
            if iou >= MIN_IOU and text in (segment["name"], segment["noun"])
        }
        strict += bool(levels - {"part"})
        with_parts += bool(levels)
    return strict, with_parts


def write_ceiling(
    store: PairStore,
    oracle: Oracle,
    embed: Callable[[Sequence[str]], np.ndarray],
    directory: str | os.PathLike[str],
) -> tuple[PairStore, dict[str, float]]:
    """Writes the targets of the paired ceiling, and measures the matching on the way.

    Every region that overlaps a true thing or stuff region takes its true name, with colour.

    Args:
      store: The unpaired pairs and all their regions.
      oracle: True segments by image id.
      embed: Text embeddings of names, as used for the store.
      directory: Where the ceiling's store goes; it holds targets and no images.

    Returns:
      The ceiling's store, and in percent of the pairs `strict` and `with_parts` (see
      `count_correct_pairs`), and `confident_strict` and `confident_with_parts` in percent of those
      that are trained on.

    Raises:
      ValueError: If no region overlaps any true segment.
    """
    rows: list[Row] = []
    confident, done = store.confident(), 0
    counts = {"": np.zeros(3, int), "confident_": np.zeros(3, int)}
    for joined in join_oracle(store, oracle):
        chosen = confident[done : done + len(joined.pairs)]
        done += len(joined.pairs)
        for kind, some in (("", joined.pairs), ("confident_", joined.pairs[chosen])):
            correct = count_correct_pairs(dataclasses.replace(joined, pairs=some))
            counts[kind] += (len(some), *correct)
        whole = [i for i, segment in enumerate(joined.segments) if segment["level"] != "part"]
        if not whole:
            continue
        iou = joined.iou[:, whole]
        for region in np.flatnonzero(iou.max(axis=1) >= MIN_IOU).tolist():
            name = joined.segments[whole[int(np.argmax(iou[region]))]]["name"]
            rows.append((joined.image.vectors(region), name))
    if not rows:
        raise ValueError("No region overlaps a true segment; there is no ceiling to train.")
    ceiling = write_targets(directory, {"kind": "paired", "of": store.settings}, rows, embed)
    accuracy = {
        f"{kind}{name}": 100.0 * float(correct) / max(int(total), 1)
        for kind, (total, *both) in counts.items()
        for name, correct in zip(("strict", "with_parts"), both, strict=True)
    }
    return ceiling, accuracy
