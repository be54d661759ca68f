"""What label maps say of models: the position prior, and the paired ceiling."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Integer

from uniovseg_jax.data.mask_sources.folder import number_regions
from uniovseg_jax.eval.metrics.semantic import SemanticScores
from uniovseg_jax.image_io import read_labels
from uniovseg_jax.masks import rle_encode

# Share of an image from which a connected region has a name of its own in the ceiling.
_MIN_AREA = 1e-3


def score_position_prior(
    known: pathlib.Path, labels: pathlib.Path, num_classes: int
) -> dict[str, Any]:
    """Returns the scores of the most frequent label of every pixel in other label maps."""
    counts: Any = None
    for path in sorted(known.glob("*.png")):
        own = read_labels(path.read_bytes(), path.name).astype(np.int64)
        if counts is None:
            counts = np.zeros((num_classes, *own.shape), np.int64)
        for label in range(num_classes):
            counts[label] += own == label
    prior, scores = counts.argmax(axis=0), SemanticScores(num_classes)
    for path in sorted(labels.glob("*.png")):
        scores.add(prior, read_labels(path.read_bytes(), path.name).astype(np.int32))
    return scores.compute()


def read_oracle(labels: pathlib.Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the true regions of label maps by stem, as `eval.oracle` takes them.

    Only the paired ceiling and the matching accuracy may use it.
    """
    oracle = {}
    for path in tqdm.tqdm(sorted(labels.glob("*.png")), "true regions", mininterval=1.0):
        own = read_labels(path.read_bytes(), path.name)
        oracle[path.stem] = {"segments": list(_segments(own, names))}
    return oracle


def _segments(labels: Integer[np.ndarray, "h w"], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    void = tuple(set(np.unique(labels).tolist()) - set(range(len(names))))
    regions = number_regions(labels, void, _MIN_AREA)[0]
    for number in range(1, int(regions.max()) + 1):
        mask = regions == number
        name = names[int(labels[mask][0])]
        yield {"level": "region", "name": name, "noun": name, **rle_encode(mask)}
