"""Retrieval by hand."""

import numpy as np
import pytest

from uniovseg_jax.train.evaluations import retrieval_recall

EYE = np.eye(4, dtype=np.float32)


def test_each_image_finding_its_own_caption_is_100_percent():
    assert retrieval_recall(EYE, EYE, ["a", "b", "c", "d"], group_size=4) == 100


def test_another_caption_counts_only_if_it_reads_the_same():
    swapped = EYE[[1, 0, 2, 3]]
    assert retrieval_recall(EYE, swapped, ["a", "b", "c", "d"], group_size=4) == 50
    assert retrieval_recall(EYE, swapped, ["a", "a", "c", "d"], group_size=4) == 100


def test_an_image_competes_within_its_group_only():
    image = np.array([[1.0, 0], [0, 1], [0, 1], [1, 0], [1, 0]], np.float32)
    captions = ["a", "b", "c", "d", "left out"]
    assert retrieval_recall(image, image, captions, group_size=2) == 100
    # In one group, images 2 and 3 find the captions of 1 and 0, which come first.
    assert retrieval_recall(image, image, captions, group_size=5) == pytest.approx(40)
