"""Masks for points and boxes, with segment-anything's habits."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, UInt8
from numpy.typing import ArrayLike

from uniovseg_jax.buckets import SMALLEST_BUCKET, bucket_size
from uniovseg_jax.device_copies import DeviceCopies
from uniovseg_jax.inference.framing import Framing, Letterbox, NetworkInput
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.models.mask_decoder import DecoderMemory, compute_masks, mean_foreground
from uniovseg_jax.models.prompt_encoder import PromptType, points_to_boxes
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg
from uniovseg_jax.packed_masks import PackedMasks
from uniovseg_jax.weights.store import Pretrained

# Prompts per call of the decoder; fewer are padded to a power of two.
_LARGEST_BUCKET = 64


@dataclasses.dataclass(frozen=True)
class _EncodedImage:
    """An image, and its features on the device."""

    source: NetworkInput
    features: ImageFeatures
    memory: DecoderMemory


class Predictor:
    """Predicts masks for prompts on one image at a time.

    Every point and every box is a prompt of its own: several points do not describe one object.

    Args:
      pretrained: A model with the parts `clip` and `masks`.
      framing: How images get into the network; None for the letterbox of the released code.
    """

    def __init__(self, pretrained: Pretrained, framing: Framing | None = None):
        if not {"clip", "masks"} <= set(pretrained.parts):
            raise ValueError(
                "Predicting masks needs a model with the parts clip and masks; "
                f"this one has {', '.join(pretrained.parts)}."
            )
        model = pretrained.model
        self._config = pretrained.config
        self._frame = framing or Letterbox(pretrained.config.image_size)
        self._variables = pretrained.variables
        self._copies = DeviceCopies(pretrained.variables)
        self._encode = jax.jit(lambda *inputs: model.apply(*inputs, method=_encode))
        self._decode = jax.jit(
            lambda *inputs, prompt_type: model.apply(
                *inputs, prompt_type=prompt_type, method=_decode
            ),
            static_argnames="prompt_type",
        )
        self._image: _EncodedImage | None = None

    def on_device(self, device: Any) -> "Predictor":
        """Returns a predictor without an image that works on another device.

        All of one device share its copy of the weights.
        """
        other = copy.copy(self)
        other._variables = self._copies(device)
        other._image = None
        return other

    def set_image(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Encodes an RGB image of any size; prompts then refer to it.

        Raises:
          ValueError: If it is no uint8 RGB image.
        """
        source = self._frame(image)
        self._image = _EncodedImage(source, *self._encode(self._variables, source.pixels[None]))

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        multimask_output: bool = True,
    ) -> tuple[
        Bool[np.ndarray, "q k h w"], Float[np.ndarray, "q k"], Float[np.ndarray, "q k h4 w4"]
    ]:
        """Predicts masks for points or for boxes.

        Args:
          point_coords: "q 2", x, y in pixels of the image, each point a prompt.
          point_labels: "q", 1 for every point; a negative point (0) is refused.
          box: "4" or "q 4", x0, y0, x1, y1 in pixels of the image; each box is a prompt.
          multimask_output: All masks of a point (different granularities), or only the one of the
            highest predicted quality. A box has one mask.

        Returns:
          Masks at the image's size, their predicted quality (0..1), and their logits at stride 4 of
          the network input, where the image fills the top left.

        Raises:
          ValueError: If no image was set, prompts are malformed or outside the image, both kinds
            are given, or a label is not 1.
        """
        image, boxes, prompt_type = self._check_prompts(point_coords, point_labels, box)
        source = image.source
        chunks = list(self._decode_chunks(image, boxes, prompt_type, smallest=1))
        logits, ious = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        if not multimask_output:
            best = ious.argmax(axis=1)[:, None]
            ious = np.take_along_axis(ious, best, axis=1)
            logits = np.take_along_axis(logits, best[..., None, None], axis=1)
        full = source.full_size(logits.reshape(-1, *logits.shape[2:]))
        masks = np.empty((len(full), *source.image_hw), bool)
        for index in range(len(full)):
            masks[index] = full.mask(index) >= 0
        return masks.reshape(*logits.shape[:2], *source.image_hw), ious, logits

    def predict_packed(
        self, point_coords: ArrayLike | None = None, box: ArrayLike | None = None
    ) -> Iterator[tuple[PackedMasks, Float[np.ndarray, "q k"]]]:
        """Does as `predict_few`, and brings the masks to the image's size at one bit a pixel."""
        return ((masks.packed(), ious) for masks, ious in self.predict_few(point_coords, box))

    def predict_few(
        self, point_coords: ArrayLike | None = None, box: ArrayLike | None = None
    ) -> Iterator[tuple[FullSizeLogits, Float[np.ndarray, "q k"]]]:
        """Predicts masks for many points or boxes, a few at a time.

        Args:
          point_coords: As for `predict`; every point counts as positive.
          box: As for `predict`.

        Returns:
          For the next q prompts, again and again, their q * k masks at the image's size, prompt by
          prompt, and the predicted quality (0..1) of each.

        Raises:
          ValueError: As `predict`.
        """
        labels = None if point_coords is None else np.ones(np.shape(point_coords)[:1])
        image, boxes, prompt_type = self._check_prompts(point_coords, labels, box)
        return (
            (image.source.full_size(logits.reshape(-1, *logits.shape[2:])), ious)
            for logits, ious in self._decode_chunks(image, boxes, prompt_type, SMALLEST_BUCKET)
        )

    def _check_prompts(
        self, point_coords: ArrayLike | None, point_labels: ArrayLike | None, box: ArrayLike | None
    ) -> tuple[_EncodedImage, Float[np.ndarray, "q 4"], PromptType]:
        """Returns the image and the prompts as boxes in pixels of the network input."""
        if self._image is None:
            raise ValueError("There is no image yet: call set_image first.")
        source = self._image.source
        if (point_coords is None) == (box is None):
            raise ValueError("Give either points or boxes: each of them is a prompt of its own.")
        if point_coords is not None:
            points = _check_points(point_coords, point_labels, source.image_hw) * source.point_scale
            boxes = points_to_boxes(jnp.asarray(points, jnp.float32), self._config.point_box_size)
            return self._image, np.asarray(boxes), "point"
        assert box is not None
        boxes = _check_boxes(box, source.image_hw) * (source.box_scale * 2)
        return self._image, boxes.astype(np.float32), "box"

    def _decode_chunks(
        self,
        image: _EncodedImage,
        boxes: Float[np.ndarray, "q 4"],
        prompt_type: PromptType,
        smallest: int,
    ) -> Iterator[tuple[Float[np.ndarray, "c k h w"], Float[np.ndarray, "c k"]]]:
        """Decodes some prompts at a time, padded to at least `smallest`."""
        for start in range(0, len(boxes), _LARGEST_BUCKET):
            part = boxes[start : start + _LARGEST_BUCKET]
            padded = np.zeros((bucket_size(len(part), smallest), 4), np.float32)
            padded[: len(part)] = part
            logits, ious = self._decode(
                self._variables,
                image.features,
                image.memory,
                padded[None],
                prompt_type=prompt_type,
            )
            yield np.asarray(logits)[: len(part)], np.asarray(ious)[: len(part)]


def _encode(model: UniOVSeg, images: Num[Array, "b h w 3"]) -> tuple[ImageFeatures, DecoderMemory]:
    features = model.encode_image(images)
    return features, model.prepare_masks(features)


def _decode(
    model: UniOVSeg,
    features: ImageFeatures,
    memory: DecoderMemory,
    boxes: Float[Array, "1 q 4"],
    prompt_type: PromptType,
) -> tuple[Float[Array, "q k h w"], Float[Array, "q k"]]:
    output = model.decode_masks(features, memory, boxes, prompt_type)
    logits = compute_masks(output.mask_embeds[-1], memory.pixel_embeds)
    if output.pred_ious:
        return logits[0], output.pred_ious[-1][0]
    return logits[0], mean_foreground(logits[0])


def _check_points(
    coords: ArrayLike, labels: ArrayLike | None, image_hw: tuple[int, int]
) -> Float[np.ndarray, "q 2"]:
    coords = np.asarray(coords, np.float64)
    if coords.ndim != 2 or coords.shape[1] != 2 or not len(coords):
        raise ValueError(
            f"point_coords: expected one row x, y per point, got shape {coords.shape}."
        )
    if labels is None or np.shape(labels) != (len(coords),):
        raise ValueError(f"point_labels: expected {len(coords)} labels, one per point.")
    if not (np.asarray(labels) == 1).all():
        raise ValueError(
            "point_labels: only 1 is possible; each point is a prompt of its own, so a negative "
            "point (0) has nothing to be taken away from."
        )
    height, width = image_hw
    for x, y in coords.tolist():
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise ValueError(
                f"The point ({x:g}, {y:g}) is outside the image, whose pixels go from (0, 0) to "
                f"({width - 1}, {height - 1})."
            )
    return coords


def _check_boxes(boxes: ArrayLike, image_hw: tuple[int, int]) -> Float[np.ndarray, "q 4"]:
    boxes = np.asarray(boxes, np.float64)
    boxes = boxes[None] if boxes.ndim == 1 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"box: expected x0, y0, x1, y1 per box, got shape {boxes.shape}.")
    height, width = image_hw
    for x0, y0, x1, y1 in boxes.tolist():
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(
                f"The box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or outside the image of "
                f"{width} x {height} pixels: expected 0 <= x0 < x1 <= {width} and "
                f"0 <= y0 < y1 <= {height}."
            )
    return boxes
