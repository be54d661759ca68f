"""Class-free masks of an image from a grid of points: letterbox, decode, filter, suppress.

Nothing large is made before it is needed. The device first returns quality scores; a mask map is
built only for masks that pass the filter, and brought to the host only for those that survive the
suppression.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, Shaped, UInt8
from PIL import Image

from uniovseg_jax.buckets import SMALLEST_BUCKET, bucket_size
from uniovseg_jax.masks import packed_nms
from uniovseg_jax.models.mask_decoder import compute_masks, mean_foreground
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.ops.resize import resize_maps

_PAD_VALUE = 128
# Masks at half the input size that the device holds as numbers at a time.
_GROUP = 32


@dataclasses.dataclass(frozen=True)
class ProposalConfig:
    """How masks are proposed; the defaults are those of the released Uni-OVSeg code.

    Attributes:
      points_per_side: Points along each side of the grid; None for the model's own number.
      chunk_size: Prompts that are decoded at a time; it bounds memory and changes no result.
      score_threshold: Least quality of a mask.
      mask_logit: Logit above which a pixel belongs to a mask where masks are compared.
      stable_logits: The stability of a mask is the share of its pixels above the first logit that
        are above the second too.
      min_stability: Least stability of a mask.
      min_area: Least area of a mask in pixels of the network input.
      nms_iou: Overlap with a better mask from which a mask is a repetition.
      nms_inside: Share inside a better mask from which a mask is its part.
      max_proposals: Most masks per image, the best; None for all.
    """

    points_per_side: int | None = None
    chunk_size: int = 100
    score_threshold: float = 0.61904
    mask_logit: float = 0.5
    stable_logits: tuple[float, float] = (0.4, 0.6)
    min_stability: float = 0.0
    min_area: float = 0.0
    nms_iou: float = 0.5
    nms_inside: float = 0.7
    max_proposals: int | None = 100


@dataclasses.dataclass(frozen=True)
class Proposals:
    """Masks of one image, best first.

    Attributes:
      mask_logits: At a quarter of the network input; a pixel belongs to a mask from 0 on.
      ious: Quality in [0, 1].
      points_xy: The prompt of each mask in pixels of the network input.
      stability: Share of the pixels above the lower of two logits that are above the other too.
    """

    mask_logits: Float[np.ndarray, "n h w"]
    ious: Float[np.ndarray, " n"]
    points_xy: Float[np.ndarray, "n 2"]
    stability: Float[np.ndarray, " n"]


def letterbox(
    image: UInt8[np.ndarray, "h w 3"], size: int
) -> tuple[UInt8[np.ndarray, "s s 3"], tuple[int, int]]:
    """Resizes the long side to `size` and pads right and bottom with grey 128.

    Bilinear with Pillow's antialiasing; the short side is rounded half up, at least one pixel.

    Returns:
      The square image and width and height of its content.
    """
    h, w = image.shape[:2]
    width, height = (max(1, math.floor(side * size / max(h, w) + 0.5)) for side in (w, h))
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    out = np.full((size, size, 3), _PAD_VALUE, np.uint8)
    out[:height, :width] = np.asarray(resized)
    return out, (width, height)


def letterbox_labels(
    labels: Shaped[np.ndarray, "h w"], content_wh: tuple[int, int], size: int
) -> Shaped[np.ndarray, "s s"]:
    """Returns labels or a mask at the place that `letterbox` gives their image; 0 in the padding.

    Args:
      labels: Of the image's size; every pixel of the result takes the one at its centre.
      content_wh: Of `letterbox`.
      size: Of `letterbox`.
    """
    width, height = content_wh
    rows = (np.arange(height) + 0.5) * labels.shape[0] / height
    columns = (np.arange(width) + 0.5) * labels.shape[1] / width
    boxed = np.zeros((size, size), labels.dtype)
    boxed[:height, :width] = labels[rows.astype(int)[:, None], columns.astype(int)]
    return boxed


def point_grid(
    points_per_side: int, image_wh: tuple[int, int], input_size: int
) -> Float[np.ndarray, "p 2"]:
    """Returns cell centres of a grid over the content of a letterboxed image, row by row.

    Args:
      points_per_side: Points along each side.
      image_wh: Width and height of the image before letterboxing.
      input_size: Side of the network input.

    Returns:
      (x, y) in pixels of the network input.
    """
    w, h = image_wh
    scale = (input_size - 1) / max(1, w - 1, h - 1)
    return (unit_grid(points_per_side) * (w - 1, h - 1) * scale).astype(np.float32)


def unit_grid(points_per_side: int) -> Float[np.ndarray, "p 2"]:
    """Returns centres (x, y) of equal cells of the unit square, row by row."""
    relative = (np.arange(points_per_side) + 0.5) / points_per_side
    x, y = np.meshgrid(relative, relative)
    return np.stack([x.ravel(), y.ravel()], axis=1)


class Proposer:
    """Proposes masks; compiled once per shape of its inputs."""

    def __init__(self, model: UniOVSeg, config: ProposalConfig):
        self.config = config
        self.points_per_side = config.points_per_side or model.config.points_per_side

        def encode(variables: Any, images: Array) -> ImageFeatures:
            return model.apply(variables, images, method=UniOVSeg.encode_image)  # pyright: ignore

        def decode(variables: Any, features: ImageFeatures, points: Array) -> tuple[Array, ...]:
            return model.apply(  # pyright: ignore
                variables, features, points, config.chunk_size, method=_decode_in_chunks
            )

        self._encode = jax.jit(encode)
        self._decode = jax.jit(decode)
        self._binarise = jax.jit(_binarise)
        self._select = jax.jit(_select_masks)

    def __call__(
        self,
        variables: Any,
        images: UInt8[np.ndarray, "b s s 3"],
        images_wh: Sequence[tuple[int, int]] | None = None,
    ) -> list[Proposals]:
        """Proposes masks for letterboxed images.

        Args:
          variables: Of the model, with the parts `clip` and `masks`.
          images: From `letterbox`.
          images_wh: Width and height of each image before letterboxing, so that no point falls on
            padding; None when all are square.
        """
        return self.propose_from(variables, self.encode(variables, images), images_wh)

    def encode(self, variables: Any, images: Num[np.ndarray, "b h w 3"]) -> ImageFeatures:
        """Returns the features on the device, for `propose_from` and for region embeddings."""
        return self._encode(variables, images)

    def propose_from(
        self,
        variables: Any,
        features: ImageFeatures,
        images_wh: Sequence[tuple[int, int]] | None = None,
    ) -> list[Proposals]:
        """Proposes masks from the features of `encode`, for letterboxed images."""
        b, side = features.pixel.mask_features.shape[0], features.pixel.mask_features.shape[1] * 4
        contents = images_wh or [(side, side)] * b
        grids = [point_grid(self.points_per_side, image_wh, side) for image_wh in contents]
        return self.propose_at(variables, features, np.stack(grids))

    def propose_at(
        self, variables: Any, features: ImageFeatures, points_xy: Float[np.ndarray, "b p 2"]
    ) -> list[Proposals]:
        """Proposes masks from the features of `encode` at points in pixels of the input."""
        embeds, scores, pixel_embeds = self._decode(variables, features, points_xy)
        of_images = zip(points_xy, np.asarray(scores), embeds, pixel_embeds, strict=True)
        return [self._propose_one(*of_image) for of_image in of_images]

    def _propose_one(
        self,
        points: Float[np.ndarray, "q 2"],
        scores: Float[np.ndarray, "q k"],
        embeds: Float[Array, "qk d"],
        pixel_embeds: Float[Array, "h w d"],
    ) -> Proposals:
        k, scores = scores.shape[1], scores.ravel()
        good = np.flatnonzero(scores >= self.config.score_threshold)
        padded = np.zeros(-(-scores.size // _GROUP) * _GROUP, np.int32)
        padded[: good.size] = good
        thresholds = np.array((self.config.mask_logit, *self.config.stable_logits), np.float32)
        packed, areas = self._binarise(embeds, pixel_embeds, padded, good.size, thresholds)
        # Cut to few sizes where it lies, then to the right one on the host.
        size = min(bucket_size(good.size, _GROUP), len(padded))
        packed, areas = (np.asarray(x[:size])[: good.size] for x in (packed, areas))
        stability = areas[:, 2] / np.maximum(areas[:, 1], 1)
        # A pixel of half the input size is four of the input.
        fit = (4 * areas[:, 0] >= max(4, self.config.min_area)) & (
            stability >= self.config.min_stability
        )
        good, packed, stability = good[fit], packed[fit], stability[fit]
        kept = packed_nms(
            packed,
            scores[good],
            self.config.nms_iou,
            self.config.nms_inside,
            self.config.max_proposals,
        )
        chosen = good[kept]
        logits = np.asarray(self._select(embeds, pixel_embeds, _bucket(chosen)))[: chosen.size]
        return Proposals(logits, scores[chosen], points[chosen // k], stability[kept])


def make_proposer(model: UniOVSeg, config: ProposalConfig) -> Proposer:
    """Returns `propose(variables, images, images_wh) -> list[Proposals]` for a model."""
    return Proposer(model, config)


def pad_masks(
    logits: Sequence[Float[np.ndarray, "_ h w"]], max_masks: int | None = None
) -> Float[np.ndarray, "b n h w"]:
    """Stacks the first masks of every image; the others, up to one of few numbers, are empty."""
    count = bucket_size(max(len(masks) for masks in logits), SMALLEST_BUCKET)
    if max_masks is not None:
        count = min(count, max_masks)
    padded = np.full((len(logits), count, *logits[0].shape[1:]), -1.0, np.float32)
    for row, masks in zip(padded, logits, strict=True):
        row[: len(masks)] = masks[:max_masks]
    return padded


def _bucket(indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " padded"]:
    """Pads indices with zeros to a power of two, so that few shapes are compiled."""
    padded = np.zeros(bucket_size(indices.size, SMALLEST_BUCKET), np.int32)
    padded[: indices.size] = indices
    return padded


def _decode_in_chunks(
    model: UniOVSeg, features: ImageFeatures, points: Float[Array, "b q 2"], chunk_size: int
) -> tuple[Float[Array, "b qk d"], Float[Array, "b q k"], Float[Array, "b h w d"]]:
    """Decodes points chunk by chunk; returns mask embeddings, scores and pixel embeddings."""
    b, q = points.shape[:2]
    size = min(chunk_size, q)
    memory = model.prepare_masks(features)
    boxes = points_to_boxes(points, model.config.point_box_size)
    # The last chunk is filled up with copies of the last point.
    boxes = jnp.pad(boxes, ((0, 0), (0, -q % size), (0, 0)), mode="edge")
    chunks = jnp.moveaxis(boxes.reshape(b, -1, size, 4), 1, 0)

    def decode(chunk: Float[Array, "b c 4"]) -> tuple[Array, Array]:
        output = model.decode_masks(features, memory, chunk, "point")
        embeds = output.mask_embeds[-1]
        if output.pred_ious:
            return embeds, output.pred_ious[-1]
        return embeds, mean_foreground(compute_masks(embeds, memory.pixel_embeds))

    embeds, scores = jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(b, -1, *x.shape[3:])[:, :q],
        jax.lax.map(decode, chunks),
    )
    return embeds.reshape(b, -1, embeds.shape[-1]), scores, memory.pixel_embeds


def _select_masks(
    embeds: Float[Array, "n d"], pixel_embeds: Float[Array, "h w d"], index: Int[Array, " m"]
) -> Float[Array, "m h w"]:
    """Returns the logits of some masks."""
    return compute_masks(embeds[index][None, :, None], pixel_embeds[None])[0, :, 0]


def _binarise(
    embeds: Float[Array, "n d"],
    pixel_embeds: Float[Array, "h w d"],
    index: Int[Array, " m"],
    count: Int[Array, ""],
    thresholds: Float[Array, " 3"],
) -> tuple[UInt8[Array, "m h2 w8"], Int[Array, "m 3"]]:
    """Returns the first `count` of some masks at half the input size, 8 pixels a byte, and areas.

    The released code enlarges logits fourfold and averages 2 x 2 pixels; for bilinear resizing
    that is the same as enlarging twofold. A mask is what lies above the first threshold; there is
    an area for each of the three.
    Groups behind the last one that `count` needs are not computed and stay zero.
    """
    h, w = pixel_embeds.shape[:2]

    def add_group(number: Array, out: tuple[Array, Array]) -> tuple[Array, Array]:
        part = jax.lax.dynamic_slice_in_dim(index, number * _GROUP, _GROUP)
        logits = resize_maps(_select_masks(embeds, pixel_embeds, part), (2 * h, 2 * w))
        areas = [jnp.sum(logits > threshold, axis=(1, 2)) for threshold in thresholds]
        made = jnp.packbits(logits > thresholds[0], axis=-1), jnp.stack(areas, axis=-1)
        return jax.tree.map(
            lambda all_, x: jax.lax.dynamic_update_slice_in_dim(all_, x, number * _GROUP, 0),
            out,
            made,
        )

    packed = jnp.zeros((len(index), 2 * h, -(-2 * w // 8)), jnp.uint8)
    areas = jnp.zeros((len(index), 3), jnp.int32)
    groups = (count + _GROUP - 1) // _GROUP
    return jax.lax.fori_loop(0, groups, add_group, (packed, areas))
