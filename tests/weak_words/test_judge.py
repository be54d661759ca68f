import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.masks import rle_decode
from uniovseg_jax.weak_words import judge

NAMES = ("sky", "road", "car")


def _save(folder, **maps):
    folder.mkdir(exist_ok=True)
    for name, pixels in maps.items():
        Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_prior_is_the_most_frequent_label_of_every_pixel(tmp_path):
    known = _save(tmp_path / "known", a=[[0, 1]], b=[[0, 1]], c=[[1, 2]], d=[[11, 11]])
    labels = _save(tmp_path / "labels", e=[[0, 1]], f=[[1, 11]], g=[[0, 2]])
    scores = judge.score_position_prior(known, labels, 3)
    # It says sky, road: right, wrong; right; and for the last one right, wrong.
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    np.testing.assert_allclose(scores["iou"], [2 / 3, 1 / 3, 0])


def test_the_oracle_names_connected_regions(tmp_path):
    labels = np.full((20, 30), 11)
    labels[:5] = 0
    labels[10:, :4] = 2
    labels[10:, 20:] = 2
    oracle = judge.read_oracle(_save(tmp_path, a=labels), NAMES)
    segments = oracle["a"]["segments"]
    assert [segment["name"] for segment in segments] == ["sky", "car", "car"]
    masks = np.stack([rle_decode(segment) for segment in segments])
    np.testing.assert_array_equal(masks[0], labels == 0)
    np.testing.assert_array_equal(masks[1] | masks[2], labels == 2)
