import numpy as np
import pytest

from uniovseg_jax.inference.mask_generator import AutomaticMaskGenerator
from uniovseg_jax.masks import box_from_mask, rle_decode
from uniovseg_jax.proposals import ProposalConfig

CONFIG = ProposalConfig(points_per_side=4, score_threshold=0.0)


@pytest.fixture(scope="module")
def generator(pretrained):
    return AutomaticMaskGenerator(pretrained, CONFIG)


@pytest.fixture(scope="module")
def records(generator, image):
    return generator.generate(image)


def test_records_have_segment_anythings_keys_and_agree_with_their_mask(records, image):
    assert records
    for record in records:
        assert set(record) == {
            "segmentation",
            "area",
            "bbox",
            "predicted_iou",
            "point_coords",
            "stability_score",
            "crop_box",
        }
        mask = record["segmentation"]
        x0, y0, x1, y1 = box_from_mask(mask)
        assert mask.shape == image.shape[:2] and mask.sum() == record["area"] > 0
        assert record["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert record["crop_box"] == [0, 0, 110, 70]
        assert 0 <= record["stability_score"] <= 1 and 0 <= record["predicted_iou"] <= 1


def test_records_are_ordered_by_quality_and_name_points_of_the_grid(records):
    quality = [record["predicted_iou"] for record in records]
    assert quality == sorted(quality, reverse=True)
    grid_x, grid_y = (np.arange(4) + 0.5) / 4 * 109, (np.arange(4) + 0.5) / 4 * 69
    for record in records:
        ((x, y),) = record["point_coords"]
        assert np.abs(grid_x - x).min() < 1e-3 and np.abs(grid_y - y).min() < 1e-3


def test_run_lengths_hold_the_same_masks(generator, image, records, monkeypatch):
    monkeypatch.setattr(generator, "_output_mode", "coco_rle")  # A second one would compile anew.
    compact = generator.generate(image)
    assert len(compact) == len(records)
    for a, b in zip(compact, records, strict=True):
        np.testing.assert_array_equal(rle_decode(a["segmentation"]), b["segmentation"])
