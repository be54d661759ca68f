"""The loss of masks against float64 numpy that takes every step literally."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from uniovseg_jax import matching
from uniovseg_jax.losses import stage1 as losses
from uniovseg_jax.models.mask_decoder import DecoderOutput

B, Q, K, D, S, N, R, LAYERS = 2, 5, 4, 8, 64, 6, 3, 3
CONFIG = losses.Stage1LossConfig(num_points=40)
loss_with_gradient = jax.jit(
    jax.value_and_grad(losses.stage1_loss, argnums=(0, 1, 2), has_aux=True), static_argnums=5
)


def make_inputs(seed=0):
    """Embeddings (points, boxes), qualities (points, boxes), features and a batch, as numpy."""
    rng = np.random.default_rng(seed)
    embeds = [rng.standard_normal((LAYERS, B, *shape, D)) for shape in ((Q, K), (R, 1))]
    ious = [rng.random((LAYERS, B, *shape)) for shape in ((Q, K), (R, 1))]
    f = rng.standard_normal((B, S // 4, S // 4, D))
    masks = np.zeros((B, N, S, S), bool)
    for i in np.ndindex(B, N):
        y, x = rng.integers(0, S - 8, 2)
        masks[i][y : y + rng.integers(8, 50), x : x + rng.integers(8, 50)] = True
    mask_valid = np.ones((B, N), bool)
    mask_valid[0, 4:] = False
    batch = {
        "masks": masks,
        "mask_valid": mask_valid,
        "points": rng.uniform(0, S, (B, Q, 2)).astype(np.float32),
        "box_index": rng.integers(0, 4, (B, R)).astype(np.int32),
        "box_valid": np.array([[True] * R, [True, False, True]]),
    }
    return embeds, ious, f, batch


def packed(batch):
    """The batch with eight pixels a byte, as training has it."""
    masks = {"mask_bits": np.packbits(batch["masks"], axis=-1)}
    return masks | {name: value for name, value in batch.items() if name != "masks"}


def arguments(embeds, ious, f, batch, keys):
    """The arrays as `stage1_loss` takes them."""
    points, boxes = (
        DecoderOutput(
            tuple(jnp.asarray(x, jnp.float32) for x in of_pass),
            tuple(jnp.asarray(x, jnp.float32) for x in quality),
        )
        for of_pass, quality in zip(embeds, ious, strict=True)
    )
    batch = {name: jnp.asarray(value) for name, value in packed(batch).items()}
    batch = losses.pair_weights(batch, K) | batch
    return points, boxes, jnp.asarray(f, jnp.float32), batch, keys


def call(embeds, ious, f, batch, keys, config=CONFIG):
    return loss_with_gradient(*arguments(embeds, ious, f, batch, keys), config)[0]


def differentiate(embeds, ious, f, batch, keys, config=CONFIG):
    """Gradients as (embeddings, qualities, features), laid out as `make_inputs` has them."""
    args = arguments(embeds, ious, f, batch, keys)
    points, boxes, of_f = loss_with_gradient(*args, config)[1]
    return (
        [np.stack(points.mask_embeds), np.stack(boxes.mask_embeds)],
        [np.stack(points.pred_ious), np.stack(boxes.pred_ious)],
        np.asarray(of_f),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bce(logits, targets):
    return np.logaddexp(0, logits) - logits * targets


def dice_ratio(logits, targets):
    p = sigmoid(logits)
    return (2 * (p * targets).sum() + 1) / (p.sum() + targets.sum() + 1)


def read(image, points):
    """Grid sample of one map, one neighbour at a time."""
    h, w = image.shape
    u, v = points[:, 0] * w - 0.5, points[:, 1] * h - 0.5
    values = np.zeros(len(points))
    for i, (x, y) in enumerate(zip(u, v, strict=True)):
        for cy in (int(np.floor(y)), int(np.floor(y)) + 1):
            for cx in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= cx < w and 0 <= cy < h:
                    values[i] += image[cy, cx] * (1 - abs(x - cx)) * (1 - abs(y - cy))
    return values


def literal_match(logits, masks, member):
    """Returns (k, truth, dice ratio) of one point's pairs by scipy; logits (K, h, w)."""
    coarse = logits.reshape(K, S // 8, 2, S // 8, 2).mean(axis=(2, 4))
    truth = masks[:, ::8, ::8].astype(float)
    ratio = np.array([[dice_ratio(x, t) for t in truth] for x in coarse])
    cost = np.array([[2 * bce(x, t).mean() for t in truth] for x in coarse]) + 1 - ratio
    allowed = np.flatnonzero(member)
    rows, columns = scipy.optimize.linear_sum_assignment(cost[:, allowed])
    return [(k, allowed[c], ratio[k, allowed[c]]) for k, c in zip(rows, columns, strict=True)]


def literal_loss(embeds, ious, f, batch, keys, iou_weight=1.0):
    maps = [np.einsum("lbqkd,bhwd->lbqkhw", of_pass, f) for of_pass in embeds]
    pairs = [[], []]
    for b in range(B):
        masks = batch["masks"][b]
        for q in range(Q):
            x, y = np.floor(batch["points"][b, q]).astype(int)
            member = masks[:, y, x] & batch["mask_valid"][b]
            for k, n, ratio in literal_match(maps[0][-1, b, q], masks, member):
                pairs[0].append((b, q, k, n, ratio))
        for r in np.flatnonzero(batch["box_valid"][b]):
            pairs[1].append((b, r, 0, batch["box_index"][b, r], None))
    uncertain = int(0.75 * CONFIG.num_points)
    candidates = 3 * CONFIG.num_points
    total = 0.0
    for layer in range(LAYERS):
        points = [
            np.asarray(
                jax.random.uniform(
                    jax.random.fold_in(key, layer),
                    (candidates + CONFIG.num_points - uncertain, 2),
                ),
                np.float64,
            )
            for key in keys
        ]
        for of_pass, which in zip(pairs, (0, 1), strict=True):
            for b, q, k, n, ratio in of_pass:
                image, mask = maps[which][layer, b, q, k], batch["masks"][b, n].astype(float)
                values = read(image, points[b])
                order = np.argsort(np.abs(values[:candidates]))[:uncertain]
                chosen = np.concatenate([order, np.arange(candidates, len(values))])
                assert len(chosen) == CONFIG.num_points
                truth = read(mask, points[b][chosen])
                values = values[chosen]
                goal = dice_ratio(image, mask[::4, ::4]) if ratio is None else ratio
                error = abs(ious[which][layer, b, q, k] - goal)
                iou = 0.5 * error**2 if error < 1 else error - 0.5
                term = (
                    2 * bce(values, truth).mean() + 1 - dice_ratio(values, truth) + iou_weight * iou
                )
                total += term / len(of_pass)
    return total, pairs


def test_stage1_loss_equals_the_literal_one():
    embeds, ious, f, batch = make_inputs()
    keys = jax.random.split(jax.random.key(7), B)
    expected, pairs = literal_loss(embeds, ious, f, batch, keys)
    loss, metrics = call(embeds, ious, f, batch, keys)
    assert 0 < len(pairs[0]) < B * Q * K
    assert metrics["pairs_per_point"] == pytest.approx(len(pairs[0]) / (B * Q))
    assert metrics["pairs_per_box"] == pytest.approx(len(pairs[1]) / (B * R))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert metrics["point_quality"] == pytest.approx(np.mean([p[-1] for p in pairs[0]]), rel=1e-5)


def test_stage1_gradient_of_unmatched_predictions_is_zero():
    embeds, ious, f, batch = make_inputs(1)
    keys = jax.random.split(jax.random.key(7), B)
    grads = differentiate(embeds, ious, f, batch, keys)
    _, pairs = literal_loss(embeds, ious, f, batch, keys)
    unmatched = np.ones((B, Q, K), bool)
    for b, q, k, _, _ in pairs[0]:
        unmatched[b, q, k] = False
    assert unmatched.any() and not unmatched.all()
    for of_pass in (grads[0][0], grads[1][0]):
        assert (of_pass[:, unmatched] == 0).all()
        assert (of_pass[:, ~unmatched] != 0).any(axis=-1).all()
    assert (grads[0][1][:, 1, 1] == 0).all()  # the box that is padding


def test_stage1_gradient_equals_differences_of_the_literal_loss():
    embeds, ious, f, batch = make_inputs(3)
    keys = jax.random.split(jax.random.key(7), B)
    rng = np.random.default_rng(4)
    # Quality goals of boxes carry no gradient, so masks are checked without the quality term.
    for config, moves in (
        (dataclasses.replace(CONFIG, iou_weight=0.0), (1.0, 0.0, 1.0)),
        (CONFIG, (0.0, 1.0, 0.0)),
    ):
        inputs = (*embeds, *ious, f)
        scales = (moves[0], moves[0], moves[1], moves[1], moves[2])
        along = [s * rng.standard_normal(x.shape) for x, s in zip(inputs, scales, strict=True)]
        grads = jax.tree.leaves(differentiate(embeds, ious, f, batch, keys, config))
        slope = sum((g.astype(np.float64) * d).sum() for g, d in zip(grads, along, strict=True))
        values = []
        for step in (1e-5, -1e-5):
            e0, e1, i0, i1, moved_f = [x + step * d for x, d in zip(inputs, along, strict=True)]
            value, _ = literal_loss((e0, e1), (i0, i1), moved_f, batch, keys, config.iou_weight)
            values.append(value)
        assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-3)


def test_stage1_loss_is_normalised_over_the_whole_batch():
    embeds, ious, f, batch = make_inputs(5)
    keys = jax.random.split(jax.random.key(1), B)
    loss, metrics = call(embeds, ious, f, batch, keys)

    def repeat(x, axis):
        return np.concatenate([x, np.flip(x, axis)], axis)

    twice = call(
        [repeat(x, 1) for x in embeds],
        [repeat(x, 1) for x in ious],
        repeat(f, 0),
        {name: repeat(x, 0) for name, x in batch.items()},
        jnp.concatenate([keys, keys[::-1]]),
    )
    assert float(twice[0]) == pytest.approx(float(loss), rel=1e-5)
    assert twice[1]["pairs_per_point"] == pytest.approx(float(metrics["pairs_per_point"]))


def test_the_losses_of_the_parts_of_a_batch_add_up_to_that_of_the_whole():
    embeds, ious, f, batch = make_inputs(5)
    keys = jax.random.split(jax.random.key(1), B)
    args = arguments(embeds, ious, f, batch, keys)
    (loss, metrics), grads = loss_with_gradient(*args, CONFIG)
    total, sums, of_embeds = 0.0, {}, []
    for i in range(B):
        part = jax.tree.map(lambda x, i=i: x[i : i + 1], args)
        (value, found), of_part = loss_with_gradient(*part, CONFIG)
        total += value
        sums = {name: sums.get(name, 0.0) + value for name, value in found.items()}
        of_embeds.append(of_part[0].mask_embeds[0])
    assert float(total) == pytest.approx(float(loss), rel=1e-5)
    assert set(sums) == set(metrics)
    for name, value in metrics.items():
        assert float(sums[name]) == pytest.approx(float(value), rel=1e-5), name
    whole = grads[0].mask_embeds[0]
    np.testing.assert_allclose(np.concatenate(of_embeds), whole, rtol=1e-4, atol=1e-7)
    of_layers = [v for name, v in metrics.items() if "_layer_" in name]
    assert len(of_layers) == 2 * LAYERS
    assert float(sum(of_layers)) == pytest.approx(float(loss), rel=1e-5)


def test_pairs_are_counted_before_they_are_made():
    rng = np.random.default_rng(8)
    for _ in range(20):
        embeds, ious, f, batch = make_inputs(rng.integers(1 << 30))
        batch["mask_valid"] = rng.random((B, N)) < rng.random()
        _, metrics = call(embeds, ious, f, batch, jax.random.split(jax.random.key(1), B))
        weights = losses.pair_weights(jax.tree.map(jnp.asarray, packed(batch)), K)
        for name, prompts in (("point", Q), ("box", R)):
            pairs = round(float(metrics[f"pairs_per_{name}"]) * B * prompts)
            expected = np.full(B, 1 / max(1, pairs))
            np.testing.assert_allclose(weights[f"{name}_weight"], expected, rtol=1e-6)


def test_packed_masks_are_read_as_they_are():
    rng = np.random.default_rng(3)
    masks = rng.random((5, 24, 40)) < 0.5
    bits = jnp.asarray(np.packbits(masks, axis=-1))
    np.testing.assert_array_equal(losses.unpack_masks(bits), masks)
    points = rng.uniform(-2, 45, (200, 2)).astype(np.float32)
    valid = np.array([True, True, False, True, True])
    x, y = np.clip(np.floor(points).astype(int), 0, [39, 23]).T
    found = losses.membership(bits, jnp.asarray(valid), jnp.asarray(points))
    np.testing.assert_array_equal(found, masks[:, y, x].T & valid)


def test_given_targets_take_the_place_of_matching():
    embeds, ious, f, batch = make_inputs(9)
    keys = jax.random.split(jax.random.key(1), B)
    args = arguments(embeds, ious, f, batch, keys)
    costs = jax.vmap(losses.coarse_costs, in_axes=(0, 0, 0, None))
    of_points, _ = costs(args[0].mask_embeds[-1], args[2], jnp.asarray(batch["masks"]), CONFIG)
    member = jax.vmap(losses.membership)(
        *(args[3][name] for name in ("mask_bits", "mask_valid", "points"))
    )
    matched = matching.match_many_to_many(of_points, member)
    (loss, _), _ = loss_with_gradient(*args, CONFIG)
    given = (*args[:3], args[3] | {"targets": matched}, args[4])
    assert float(loss_with_gradient(*given, CONFIG)[0][0]) == float(loss)
    nothing = (*args[:3], args[3] | {"targets": jnp.full((B, Q, K), -1)}, args[4])
    metrics = loss_with_gradient(*nothing, CONFIG)[0][1]
    assert metrics["pairs_per_point"] == 0 and metrics["point_mask"] == 0 < metrics["box_mask"]


def test_stage1_loss_without_pairs_or_quality_head():
    embeds, ious, f, batch = make_inputs(6)
    keys = jax.random.split(jax.random.key(1), B)
    config = dataclasses.replace(CONFIG, iou_weight=0.0)
    with_head, _ = call(embeds, ious, f, batch, keys, config)
    without_head, _ = call(embeds, [(), ()], f, batch, keys, config)
    assert float(without_head) == pytest.approx(float(with_head), rel=1e-6)
    batch["mask_valid"][:] = False
    assert call(embeds, ious, f, batch, keys)[0] == 0
    assert all((g == 0).all() for g in jax.tree.leaves(differentiate(embeds, ious, f, batch, keys)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_points": 0}, "loss.num_points is 0; expected at least 1"),
        ({"importance": 1.5}, "loss.importance is 1.5 .* expected 0 to 1"),
        ({"oversample": 0.5}, "loss.oversample 0.5; expected 0 to 1, and at least 1"),
        ({"match_rule": "best"}, "loss.match_rule is 'best'; expected clean or released"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        losses.Stage1LossConfig(**changes)
