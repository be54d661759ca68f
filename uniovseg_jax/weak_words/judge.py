"""What label maps say of models: mIoU with words, the position prior, and the paired ceiling."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Integer

from uniovseg_jax.data.mask_sources.folder import number_regions
from uniovseg_jax.eval.semantic import SemanticScores
from uniovseg_jax.image_io import read_image, read_labels
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.weights.store import Pretrained

# Share of an image from which a connected region has a name of its own in the ceiling.
_MIN_AREA = 1e-3


def score_words(
    pretrained: Pretrained,
    images: pathlib.Path,
    labels: pathlib.Path,
    names: Sequence[str],
    quarters: bool,
) -> dict[str, Any]:
    """Returns semantic scores of a model on a folder, see `SemanticScores.compute`.

    Args:
      pretrained: With an adapter, or without for the frozen CLIP.
      images: Folder of photographs.
      labels: Folder of label maps with the same stems; labels beyond the names are void.
      names: Of the labels 0, 1, ...
      quarters: Segment each quarter by itself, as training saw them; all pixels count once.
    """
    segmenter = OpenVocabularySegmenter(pretrained)
    segmenter.set_vocabulary(list(names), stuff=list(names))
    scores = SemanticScores(len(names))
    for image, truth in tqdm.tqdm(list(_files(images, labels)), "scoring", mininterval=1.0):
        pixels, own = read_image(image), read_labels(truth.read_bytes(), truth.name)
        h, w = own.shape
        rows = ((0, h // 2), (h // 2, h)) if quarters else ((0, h),)
        columns = ((0, w // 2), (w // 2, w)) if quarters else ((0, w),)
        for top, bottom in rows:
            for left, right in columns:
                part = np.ascontiguousarray(pixels[top:bottom, left:right])
                found = segmenter.segment(part, "semantic").label_map - 1
                scores.add(found, own[top:bottom, left:right].astype(np.int32))
    return scores.compute()


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


def _files(
    images: pathlib.Path, labels: pathlib.Path
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    stems = {path.stem: path for path in images.glob("*") if path.suffix in (".jpg", ".png")}
    for path in sorted(labels.glob("*.png")):
        if path.stem not in stems:
            raise ValueError(f"{path} has no photograph in {images}.")
        yield stems[path.stem], path
