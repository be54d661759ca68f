"""The loss of phase `stage1`: masks and their quality, from points and from boxes.

The mask map of a point pass is never built. A mask logit is a product of a mask embedding
and the features f at a pixel, and every reading below (at a sampled point, the mean of 2 x 2
pixels) is linear in the map, so the features are read first and multiplied afterwards; the result
is the same. For that the candidates of the importance sampling are drawn once per image and
decoder layer; each pair keeps its own most uncertain ones among them.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from uniovseg_jax.matching import match_many_to_many
from uniovseg_jax.models.mask_decoder import DecoderOutput
from uniovseg_jax.ops.grid_sample import grid_sample
from uniovseg_jax.point_sampling import THRESHOLD, choose_points, sample_masks

Sums = dict[str, Float[Array, ""]]


@dataclasses.dataclass(frozen=True)
class Stage1LossConfig:
    """Sampling and weights of the stage-1 loss.

    Attributes:
      num_points: Points per pair at which mask losses are taken.
      oversample: Candidates per point.
      importance: Share of the points that are the most uncertain candidates; the rest is uniform.
      mask_weight: Weight of the cross-entropy.
      dice_weight: Weight of the dice loss.
      iou_weight: Weight of the quality loss; 0 without a quality head.
      match_rule: `clean`, see `matching.match_many_to_many`, or `released`, see
        `matching.match_many_to_many_released`; the latter needs targets from the host.
    """

    num_points: int = 12544
    oversample: float = 3.0
    importance: float = 0.75
    mask_weight: float = 2.0
    dice_weight: float = 1.0
    iou_weight: float = 1.0
    match_rule: str = "clean"

    def __post_init__(self) -> None:
        """Checks the rule's name and the numbers of points.

        Raises:
          ValueError: If one is not among what is expected.
        """
        if self.num_points < 1:
            raise ValueError(f"loss.num_points is {self.num_points}; expected at least 1.")
        if not 0 <= self.importance <= 1 <= self.oversample:
            raise ValueError(
                f"loss.importance is {self.importance} and loss.oversample {self.oversample}; "
                "expected 0 to 1, and at least 1."
            )
        if self.match_rule not in ("clean", "released"):
            raise ValueError(f"loss.match_rule is {self.match_rule!r}; expected clean or released.")

    @property
    def num_candidates(self) -> int:
        """Uniform points among which each pair finds its uncertain ones."""
        return int(self.oversample * self.num_points)

    @property
    def num_uncertain(self) -> int:
        """Points of a pair that are its most uncertain candidates."""
        return int(self.importance * self.num_points)

    @property
    def num_drawn(self) -> int:
        """All points that are drawn: candidates and the uniform rest."""
        return self.num_candidates + self.num_points - self.num_uncertain


def matching_costs(
    logits: Float[Array, "*lead p"], targets: Bool[Array, "n p"]
) -> tuple[Float[Array, "*lead n"], Float[Array, "*lead n"]]:
    """Returns mean cross-entropy and dice loss of every mask with every target, in float32.

    Args:
      logits: Coarse mask logits with flattened pixels (half the size of the stride-4 map).
      targets: Binary targets at the same pixels.
    """
    logits, truth = logits.astype(jnp.float32), targets.astype(jnp.float32).T
    probability = jax.nn.sigmoid(logits)
    bce = jnp.mean(jax.nn.softplus(logits), axis=-1)[..., None]
    bce -= jnp.matmul(logits, truth, precision="highest") / logits.shape[-1]
    inter = jnp.matmul(probability, truth, precision="highest")
    total = jnp.sum(probability, axis=-1)[..., None] + jnp.sum(truth, axis=0)
    return bce, 1 - (2 * inter + 1) / (total + 1)


def unpack_masks(mask_bits: UInt8[Array, "*n h w8"]) -> Bool[Array, "*n h w"]:
    """Unpacks masks of eight pixels a byte, the first pixel in the highest bit."""
    shifts = jnp.arange(7, -1, -1, dtype=jnp.uint8)
    bits = (mask_bits[..., None] >> shifts) & 1
    return bits.astype(bool).reshape(*mask_bits.shape[:-1], -1)


def membership(
    mask_bits: UInt8[Array, "n h w8"], valid: Bool[Array, " n"], points: Float[Array, "q 2"]
) -> Bool[Array, "q n"]:
    """Returns which packed masks contain which points (x, y in pixels)."""
    n, h, w8 = mask_bits.shape
    x, y = jnp.floor(points).astype(jnp.int32).T
    x, y = jnp.clip(x, 0, 8 * w8 - 1), jnp.clip(y, 0, h - 1)
    inside = (mask_bits[:, y, x // 8] >> (7 - x % 8).astype(jnp.uint8)) & 1
    return inside.astype(bool).T & valid


def point_losses(
    logits: Float[Array, "*lead m"],
    targets: Float[Array, "*lead m"],
    chosen: Bool[Array, "*lead m"],
) -> tuple[Float[Array, "*lead"], Float[Array, "*lead"]]:
    """Returns mean cross-entropy and dice loss of each pair over its chosen points."""
    weight = chosen.astype(jnp.float32)
    bce = jnp.maximum(logits, 0) + jnp.log1p(jnp.exp(-jnp.abs(logits))) - logits * targets
    bce = jnp.sum(bce * weight, axis=-1) / jnp.sum(weight, axis=-1)
    probability = jax.nn.sigmoid(logits) * weight
    inter = jnp.sum(probability * targets, axis=-1)
    total = jnp.sum(probability, axis=-1) + jnp.sum(targets * weight, axis=-1)
    return bce, 1 - (2 * inter + 1) / (total + 1)


def smooth_l1(error: Float[Array, "*lead"]) -> Float[Array, "*lead"]:
    """Huber's loss with a bend at 1, elementwise."""
    size = jnp.abs(error)
    return jnp.where(size < 1, 0.5 * size**2, size - 0.5)


def coarse_costs(
    mask_embeds: Float[Array, "q k d"],
    f: Float[Array, "h w d"],
    masks: Bool[Array, "n s s"],
    config: Stage1LossConfig,
) -> tuple[Float[Array, "q k n"], Float[Array, "q k n"]]:
    """Returns matching costs, and the dice losses in them, of one image's masks with its truths.

    They are taken on maps of half the stride-4 size (2 x 2 means of logits) against every eighth
    pixel of the truth.
    """
    h, w, d = f.shape
    coarse = jnp.mean(f.astype(jnp.float32).reshape(h // 2, 2, w // 2, 2, d), axis=(1, 3))
    embeds = mask_embeds.astype(jnp.float32)
    logits = jnp.einsum("qkd,pd->qkp", embeds, coarse.reshape(-1, d), precision="highest")
    stride = masks.shape[-1] // (w // 2)
    truth = masks[:, ::stride, ::stride].reshape(masks.shape[0], -1)
    bce, dice = matching_costs(logits, truth)
    return config.mask_weight * bce + config.dice_weight * dice, dice


def pair_weights(batch: dict[str, Array], masks_per_point: int) -> dict[str, Float[Array, " b"]]:
    """Returns what each pair of an image counts: 1 / the pairs of the whole batch.

    A point within m truths gets as many pairs as it can, min(m, masks per point), whatever the
    costs are: the number is known before any mask is predicted.

    Args:
      batch: The whole batch, as for `stage1_loss`.
      masks_per_point: Masks that a point predicts.

    Returns:
      "point_weight" and "box_weight", and "image_weight", 1 / images: the same numbers for every
      image.
    """
    inside = _memberships(batch)
    of_points = jnp.sum(jnp.minimum(jnp.sum(inside, axis=2), masks_per_point))
    counts = {"point_weight": of_points, "box_weight": jnp.sum(_box_valid(batch))}
    b = len(inside)
    counts["image_weight"] = jnp.asarray(b)
    return {name: jnp.full(b, 1 / jnp.maximum(count, 1)) for name, count in counts.items()}


def _memberships(batch: dict[str, Array]) -> Bool[Array, "b q n"]:
    return jax.vmap(membership)(batch["mask_bits"], batch["mask_valid"], batch["points"])


def _box_valid(batch: dict[str, Array]) -> Bool[Array, "b r"]:
    of_mask = jnp.take_along_axis(batch["mask_valid"], batch["box_index"], axis=1)
    return batch["box_valid"] & of_mask


def box_quality(
    mask_embeds: Float[Array, "b p d"], f: Float[Array, "b h w d"], targets: Bool[Array, "b p h w"]
) -> Float[Array, "b p"]:
    """Returns the soft dice ratio of whole stride-4 masks with their targets, no gradient."""
    embeds, f = jax.lax.stop_gradient((mask_embeds, f))
    probability = jax.nn.sigmoid(jnp.einsum("bpd,bhwd->bphw", embeds, f).astype(jnp.float32))
    inter = jnp.sum(jnp.where(targets, probability, 0.0), axis=(2, 3))
    total = jnp.sum(probability, axis=(2, 3)) + jnp.sum(targets, axis=(2, 3))
    return (2 * inter + 1) / (total + 1)


def stage1_loss(
    point_output: DecoderOutput,
    box_output: DecoderOutput,
    f: Float[Array, "b h w d"],
    batch: dict[str, Array],
    keys: Key[Array, " b"],
    config: Stage1LossConfig,
) -> tuple[Float[Array, ""], Sums]:
    """Mask, dice and quality losses of one point pass and one box pass over some images.

    Points are matched on the last layer and keep that match on every layer; boxes are paired with
    their own truth. Unmatched predictions take part in nothing. Everything returned is a sum over
    the images, so that the results of the parts of a batch add up to those of the whole.

    Args:
      point_output: Decoder output for `batch["points"]`.
      box_output: Decoder output for `batch["boxes"]`.
      f: The decoder's features at stride 4, of which mask logits are products.
      batch: "mask_bits" (b, n, s, s / 8) uint8, see `unpack_masks`, "mask_valid" (b, n) bool,
        "points" (b, q, 2) pixels, "box_index" (b, r) int32 into the masks, "box_valid" (b, r)
        bool, "point_weight", "box_weight" and "image_weight" (b,), see `pair_weights`.
        With "targets" (b, q, k) int32, -1 for none, nothing is matched here.
      keys: One random key per image, so that the points do not depend on the batch around it.
      config: Sampling and weights.

    Returns:
      The loss (sum over layers) and its terms: "point_mask", "point_dice", "point_iou",
      "pairs_per_point", "point_quality" (mean dice of the matches on the last layer),
      "point_layer_i" (the loss of layer i), the same for "box".
    """
    masks = unpack_masks(batch["mask_bits"])
    b, q, k, _ = point_output.mask_embeds[-1].shape
    targets, quality = jax.lax.stop_gradient(
        jax.vmap(functools.partial(_match, config=config))(
            point_output.mask_embeds[-1],
            f,
            masks,
            _memberships(batch),
            batch.get("targets"),
        )
    )
    index = jnp.concatenate([targets.reshape(b, q * k), batch["box_index"]], axis=1)
    valid = jnp.concatenate([targets.reshape(b, q * k) >= 0, _box_valid(batch)], axis=1)
    stride = masks.shape[-1] // f.shape[2]
    of_truth = jax.nn.one_hot(index, masks.shape[1])
    box_truth = jax.vmap(lambda m, i: m[i])(masks[:, :, ::stride, ::stride], batch["box_index"])

    # One layer at a time, forward and backward: what a layer reads of the features is read anew
    # for the gradient. Only the thresholds of the point choice are kept.
    @functools.partial(
        jax.checkpoint,
        policy=jax.checkpoint_policies.save_only_these_names(THRESHOLD),
    )
    def layer(f, embeds, ious, number):
        layer_keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        points = jax.vmap(lambda key: jax.random.uniform(key, (config.num_drawn, 2)))(layer_keys)
        features = grid_sample(f, points)
        logits = jnp.einsum("bpd,bmd->bpm", embeds, features).astype(jnp.float32)
        # Choosing rows by a product is several times faster than a gather on CPU.
        truth = jnp.einsum(
            "bpn,bnm->bpm",
            of_truth,
            jax.vmap(sample_masks)(batch["mask_bits"], points),
            precision="highest",
        )
        chosen = choose_points(logits, config.num_candidates, config.num_uncertain)
        bce, dice = point_losses(logits, truth, chosen)
        box_goal = box_quality(embeds[:, q * k :], f, box_truth)
        goal = jnp.concatenate([quality.reshape(b, q * k), box_goal], axis=1)
        iou = smooth_l1(ious.astype(jnp.float32) - goal)
        terms = jnp.where(valid, jnp.stack([bce, dice, iou, goal]), 0.0)
        return jnp.sum(terms[..., : q * k], 2), jnp.sum(terms[..., q * k :], 2)

    def joined(of_points: Array, of_boxes: Array) -> Array:
        shape = (len(of_points), b, -1, *of_points.shape[4:])
        return jnp.concatenate([of_points.reshape(shape), of_boxes.reshape(shape)], axis=2)

    point_embeds, point_ious, box_embeds, box_ious = (
        jnp.stack(part) for part in (*_layers(point_output), *_layers(box_output))
    )
    embeds, ious = joined(point_embeds, box_embeds), joined(point_ious, box_ious)
    sums = jax.lax.map(lambda args: layer(f, *args), (embeds, ious, jnp.arange(len(embeds))))
    weights = jnp.array([config.mask_weight, config.dice_weight, config.iou_weight])
    loss, metrics = jnp.zeros(()), {}
    of_passes = (("point", valid[:, : q * k], q), ("box", valid[:, q * k :], len(valid[0]) - q * k))
    for i, (name, of_pass, num_prompts) in enumerate(of_passes):
        # Layers x terms.
        means = sums[i] @ batch[f"{name}_weight"]
        of_layers = means[:, :3] @ weights
        loss += jnp.sum(of_layers)
        mask, dice, iou = jnp.sum(means[:, :3], axis=0)
        metrics |= {
            f"{name}_mask": mask,
            f"{name}_dice": dice,
            f"{name}_iou": iou,
            f"{name}_quality": means[-1, 3],
            f"pairs_per_{name}": jnp.sum(of_pass, axis=1) @ batch["image_weight"] / num_prompts,
        }
        metrics |= {f"{name}_layer_{number}": x for number, x in enumerate(of_layers)}
    return loss, metrics


def _match(
    mask_embeds: Float[Array, "q k d"],
    f: Float[Array, "h w d"],
    masks: Bool[Array, "n s s"],
    member: Bool[Array, "q n"],
    targets: Int[Array, "q k"] | None,
    config: Stage1LossConfig,
) -> tuple[Int[Array, "q k"], Float[Array, "q k"]]:
    """Matches one image's masks to the truths under their points, unless `targets` says how.

    Returns:
      Index of the truth, -1 for none, and 1 - dice loss of that match (0 for none).
    """
    costs, dice = coarse_costs(mask_embeds, f, masks, config)
    if targets is None:
        targets = match_many_to_many(costs, member)
    picked = jnp.take_along_axis(dice, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return targets, jnp.where(targets >= 0, 1 - picked, 0.0)


def _layers(output: DecoderOutput) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Returns embeddings and qualities per layer, zeros for a model without a quality head."""
    embeds = output.mask_embeds
    return embeds, output.pred_ious or tuple(jnp.zeros(x.shape[:3]) for x in embeds)
