"""Proposals against a literal version that builds every mask at full size."""

import copy
import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax import proposals
from uniovseg_jax.masks import mask_nms
from uniovseg_jax.models.mask_decoder import compute_masks
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.proposals import ProposalConfig, Proposals, letterbox, make_proposer, point_grid

SIDE = 64
# Random weights give similar masks: only near repetitions are removed.
CONFIG = ProposalConfig(
    points_per_side=4,
    chunk_size=5,
    score_threshold=0.0,
    nms_iou=0.9,
    nms_inside=0.98,
    max_proposals=None,
)


@pytest.mark.parametrize(
    "hw,content",
    [
        ((100, 50), (32, 64)),
        ((30, 90), (64, 21)),
        ((128, 3), (2, 64)),  # 1.5 pixels round up
        ((1, 1), (64, 64)),
        ((1, 5000), (64, 1)),
    ],
)
def test_letterbox(hw, content):
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3), np.uint8)
    boxed, wh = letterbox(image, SIDE)
    assert wh == content and boxed.shape == (SIDE, SIDE, 3) and boxed.dtype == np.uint8
    resized = Image.fromarray(image).resize(content, Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(boxed[: wh[1], : wh[0]], np.asarray(resized))
    assert (boxed[wh[1] :] == 128).all() and (boxed[:, wh[0] :] == 128).all()


def test_point_grid():
    grid = point_grid(4, (128, 101), 128)
    np.testing.assert_allclose(
        grid[[0, 1, -1]] - 2, [(13.875, 10.5), (45.625, 10.5), (109.125, 85.5)]
    )
    assert np.isfinite(point_grid(3, (1, 1), 64)).all()
    # Twice the image, the same content.
    np.testing.assert_allclose(point_grid(5, (201, 101), 64), point_grid(5, (401, 201), 64))


class Setup:
    """A model, the maps of all of its masks, and its proposer, compiled once for all tests."""

    def __init__(self, quality_head, images):
        config = dataclasses.replace(get_preset("test"), quality_head=quality_head)
        self.model = UniOVSeg(config)
        self.variables = init_variables(config, jax.random.key(3), ("clip", "masks"))
        self.images = images
        self.points = point_grid(CONFIG.points_per_side, (SIDE, SIDE), SIDE)

        def all_masks(model, images, points):
            features = model.encode_image(images)
            memory = model.prepare_masks(features)
            out = model.decode_masks(features, memory, points_to_boxes(points), "point")
            ious = out.pred_ious[-1] if quality_head else None
            return compute_masks(out.mask_embeds[-1], memory.pixel_embeds), ious

        run = jax.jit(lambda *args: self.model.apply(*args, method=all_masks))
        points = np.broadcast_to(self.points, (len(images), *self.points.shape))
        logits, ious = jax.device_get(run(self.variables, images, points))
        self.logits = logits.reshape(len(images), -1, SIDE // 4, SIDE // 4)
        if ious is None:
            p = np.asarray(jax.nn.sigmoid(self.logits))
            inside = p >= 0.5
            ious = np.where(inside, p, 0).sum(axis=(2, 3)) / (inside.sum(axis=(2, 3)) + 1e-6)
        self.ious = ious.reshape(len(images), -1)
        self.proposer = make_proposer(self.model, CONFIG)
        self.together = self.proposer(self.variables, images)

    def propose(self, **changes):
        """Proposals under another configuration of the host's part, which compiles nothing."""
        proposer = copy.copy(self.proposer)
        proposer.config = dataclasses.replace(CONFIG, **changes)
        return proposer(self.variables, self.images)

    def literal(self, i, config):
        """Filters and suppresses the full-size masks of image i."""
        logits, ious = self.logits[i], self.ious[i]
        shape = (len(logits), SIDE, SIDE)
        full = np.asarray(jax.image.resize(logits, shape, "bilinear", antialias=False))
        half = full.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4))
        low, high = config.stable_logits
        stable = np.array([(x > high).sum() / max(1, (x > low).sum()) for x in half], np.float64)
        areas = 4 * (half > config.mask_logit).sum(axis=(1, 2))
        index = np.flatnonzero(
            (ious >= config.score_threshold)
            & (areas > 0)
            & (areas >= config.min_area)
            & (stable >= config.min_stability)
        )
        masks = half[index] > config.mask_logit
        kept = index[mask_nms(masks, ious[index], config.nms_iou, config.nms_inside)]
        return Proposals(logits[kept], ious[kept], self.points[kept // 4], stable[kept])


@pytest.fixture(scope="module")
def with_quality(images):
    return Setup(True, images)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    images = np.full((3, SIDE, SIDE, 3), 128, np.uint8)
    for image in images:
        for _ in range(8):
            y, x = rng.integers(0, 40, 2)
            image[y : y + 24, x : x + 24] = rng.integers(0, 256, 3)
    return images


def check_equal(found, expected):
    np.testing.assert_allclose(found.points_xy, expected.points_xy)
    np.testing.assert_allclose(found.ious, expected.ious, atol=2e-6)
    np.testing.assert_allclose(found.mask_logits, expected.mask_logits, atol=1e-4)
    np.testing.assert_allclose(found.stability, expected.stability, atol=0.02)


def check_literal(setup):
    middle = float(np.median(np.concatenate([p.ious for p in setup.together]))) + 1e-5
    for threshold in (0.0, middle):
        config = dataclasses.replace(CONFIG, score_threshold=threshold)
        found = setup.propose(score_threshold=threshold)
        for i, of_image in enumerate(found):
            check_equal(of_image, setup.literal(i, config))
        assert 0 < sum(len(p.ious) for p in found) < setup.ious.size
    assert sum(len(p.ious) for p in found) < sum(len(p.ious) for p in setup.together)


def test_equals_the_literal_version(with_quality):
    check_literal(with_quality)


def test_without_a_quality_head_the_mean_probability_counts(images):
    check_literal(Setup(False, images))


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_logit": 0.0},
        {"min_area": 100.0},
        {"stable_logits": (0.0, 0.2), "min_stability": 0.32},
    ],
)
def test_other_filters_equal_the_literal_version(with_quality, changes):
    config = dataclasses.replace(CONFIG, **changes)
    found = with_quality.propose(**changes)
    for i, of_image in enumerate(found):
        check_equal(of_image, with_quality.literal(i, config))
    before = [p.points_xy.tolist() for p in with_quality.together]
    assert [p.points_xy.tolist() for p in found] != before
    assert sum(len(p.ious) for p in found) > 0


def test_chunk_size_batch_and_order_change_nothing(with_quality):
    config = dataclasses.replace(CONFIG, chunk_size=100)
    alone = make_proposer(with_quality.model, config)
    for image, expected in zip(with_quality.images, with_quality.together, strict=True):
        check_equal(alone(with_quality.variables, image[None])[0], expected)
    backwards = with_quality.proposer(with_quality.variables, with_quality.images[::-1])
    for found, expected in zip(backwards[::-1], with_quality.together, strict=True):
        check_equal(found, expected)


def test_best_first_and_limit(with_quality):
    few = with_quality.propose(max_proposals=1)
    for found, expected in zip(few, with_quality.together, strict=True):
        assert (np.diff(expected.ious) <= 0).all()
        check_equal(found, Proposals(*(x[:1] for x in dataclasses.astuple(expected))))


def test_points_lie_on_the_content(with_quality):
    proposer, variables = with_quality.proposer, with_quality.variables
    features = proposer.encode(variables, with_quality.images)
    for found in proposer.propose_from(variables, features, [(100, 50)] * 3):
        assert found.points_xy[:, 1].max() < 32
    for found, expected in zip(
        proposer.propose_from(variables, features), with_quality.together, strict=True
    ):
        check_equal(found, expected)


def test_nothing_survives(with_quality):
    for found in with_quality.propose(score_threshold=1.1):
        assert found.mask_logits.shape == (0, SIDE // 4, SIDE // 4)
        assert found.ious.shape == found.stability.shape == (0,)
        assert found.points_xy.shape == (0, 2)


@pytest.mark.parametrize("count", [0, 1, 32, 33, 40])
def test_only_the_groups_that_are_needed_are_made(count):
    rng = np.random.default_rng(count)
    embeds, pixels = rng.normal(size=(50, 8)), rng.normal(size=(6, 10, 8))
    index = np.zeros(64, np.int32)
    index[:count] = rng.permutation(50)[:count]
    packed, areas = jax.jit(proposals._binarise)(
        embeds.astype(np.float32),
        pixels.astype(np.float32),
        index,
        count,
        np.array((0.5, 0, 1), np.float32),
    )
    assert packed.shape == (64, 12, 3) and areas.shape == (64, 3)
    logits = np.einsum("nd,hwd->nhw", embeds[index[:count]], pixels).astype(np.float32)
    large = np.asarray(jax.image.resize(logits, (count, 12, 20), "bilinear", antialias=False))
    expected = np.packbits(large > 0.5, axis=-1)
    np.testing.assert_array_equal(np.asarray(packed)[:count], expected)
    for column, threshold in enumerate((0.5, 0, 1)):
        counts = (large > threshold).sum(axis=(1, 2))
        np.testing.assert_array_equal(np.asarray(areas)[:count, column], counts)
    groups = -(-count // 32) * 32
    assert not np.asarray(packed)[groups:].any() and not np.asarray(areas)[groups:].any()


@pytest.mark.parametrize(
    ("counts", "max_masks", "padded"),
    [
        ((0, 0), 100, 16),
        ((3, 16), 100, 16),
        ((17, 2), 100, 32),
        ((70, 1), 100, 100),
        ((9, 4), 6, 6),
    ],
)
def test_masks_are_padded_to_few_sizes_with_empty_ones(counts, max_masks, padded):
    masks = [np.full((count, 2, 3), float(i + 1), np.float32) for i, count in enumerate(counts)]
    found = proposals.pad_masks(masks, max_masks)
    assert found.shape == (len(counts), padded, 2, 3)
    for i, count in enumerate(counts):
        kept = min(count, max_masks)
        assert (found[i, :kept] == i + 1).all() and (found[i, kept:] < 0).all()
