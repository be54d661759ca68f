from typing import Any

import jax
import numpy as np

from uniovseg_jax.eval.scenes.images import prepare_images
from uniovseg_jax.eval.scenes.scores import make_embed
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.weights.store import Pretrained


def _records(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        ids = np.zeros((64, 64), np.int32)
        ids[8:40, 8:40], ids[40:] = 1, 2
        yield {
            "image": rng.integers(0, 256, (64, 64, 3), np.uint8),
            "panoptic": ids,
            "segments_info": [
                {"id": 1, "category_id": 3, "area": 1024, "iscrowd": 0},
                {"id": 2, "category_id": 97, "area": 1536, "iscrowd": 0},
            ],
        }


def test_true_masks_are_pooled_from_their_pixels_and_batches_change_nothing():
    config = get_preset("test")
    model = UniOVSeg(config)
    variables = init_variables(config, jax.random.key(0), ("clip", "masks"))
    pretrained = Pretrained(model, config, variables, None, ("clip", "masks"), {})
    settings = SegmenterConfig(ProposalConfig(points_per_side=2, score_threshold=0.0))
    records = list(_records(3))
    alone = list(prepare_images(pretrained, records, settings, batch_size=1))
    together = list(prepare_images(pretrained, records, settings, batch_size=2))
    embed = make_embed(pretrained, adapt=False)
    for record, one, many in zip(records, alone, together, strict=True):
        assert [s.category for s in one.segments] == [3, 97]
        assert len(one.scores) == len(one.masks) == len(one.pooled["clip"]) > 0
        np.testing.assert_allclose(one.true_pooled["res2"], many.true_pooled["res2"], atol=1e-4)
        np.testing.assert_allclose(embed(one.pooled), embed(many.pooled), atol=1e-3)

        # At stride 4 both masks fill their cells exactly, so a plain mean is the oracle.
        image = jax.numpy.asarray(record["image"][None])
        trunk: Any = model.apply(variables, image, method=UniOVSeg.encode_trunk)
        res2 = np.asarray(trunk["res2"][0], np.float64)
        expected = [res2[2:10, 2:10].mean((0, 1)), res2[10:].mean((0, 1))]
        np.testing.assert_allclose(one.true_pooled["res2"], expected, rtol=1e-4, atol=1e-5)
