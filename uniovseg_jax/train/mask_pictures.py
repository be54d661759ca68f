"""A picture of how masks come along: image and points, targets, and masks by granularity."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, UInt8
from PIL import Image, ImageDraw

from uniovseg_jax.models.mask_decoder import compute_masks
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.visualize import colour_label_map, contact_sheet, distinct_colours

_MAX_EXAMPLES = 4
_OPACITY = 0.55


def make_mask_picture(
    model: UniOVSeg, batch: dict[str, Any]
) -> Callable[[Any], UInt8[np.ndarray, "h w 3"]]:
    """Returns `variables -> picture`: one row per example, one column per mask of a point.

    Args:
      model: With CLIP and masks.
      batch: Numpy arrays as training has them; the first few examples are drawn.
    """
    examples = {name: np.asarray(batch[name])[:_MAX_EXAMPLES] for name in ("image", "points")}
    bits = np.asarray(batch["mask_bits"])[:_MAX_EXAMPLES]
    targets = np.unpackbits(bits, axis=-1).astype(bool)

    def predict(variables: Any, image: Array, points: Array) -> Float[Array, "b q k h w"]:
        def decode(model: UniOVSeg) -> Array:
            features = model.encode_image(image)
            memory = model.prepare_masks(features)
            boxes = points_to_boxes(points, model.config.point_box_size)
            output = model.decode_masks(features, memory, boxes, "point")
            return compute_masks(output.mask_embeds[-1], memory.pixel_embeds)

        return model.apply(variables, method=decode)  # pyright: ignore[reportReturnType]

    compiled = jax.jit(predict)

    def draw(variables: Any) -> UInt8[np.ndarray, "h w 3"]:
        masks = np.asarray(compiled(variables, *examples.values())) >= 0
        panels, titles = [], []
        for image, points, truth, of_points in zip(*examples.values(), targets, masks, strict=True):
            panels.append(_draw_points(image, points))
            panels.append(_paint(image, truth))
            panels += [_paint(image, of_points[:, k]) for k in range(masks.shape[2])]
            titles += ["points", "targets"]
            titles += [f"mask {k + 1} of every point" for k in range(masks.shape[2])]
        return contact_sheet(panels, titles, columns=2 + masks.shape[2], cell=256)

    return draw


def _draw_points(
    image: UInt8[np.ndarray, "h w 3"], points: Float[np.ndarray, "q 2"]
) -> UInt8[np.ndarray, "h w 3"]:
    picture = Image.fromarray(image)
    brush = ImageDraw.Draw(picture)
    radius = max(2, image.shape[0] // 128)
    for x, y in points:
        corners = (x - radius, y - radius, x + radius, y + radius)
        brush.ellipse(corners, fill=(255, 230, 0), outline=(0, 0, 0))
    return np.asarray(picture)


def _paint(
    image: UInt8[np.ndarray, "h w 3"], masks: Bool[np.ndarray, "n h2 w2"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Paints masks of any size over an image, the largest first."""
    labels: Integer[np.ndarray, "h2 w2"] = np.zeros(masks.shape[1:], np.int32)
    for index in np.argsort(-masks.sum(axis=(1, 2)), kind="stable"):
        labels[masks[index]] = index + 1
    h, w = image.shape[:2]
    labels = np.asarray(Image.fromarray(labels).resize((w, h), Image.Resampling.NEAREST))
    colours = colour_label_map(labels, distinct_colours([str(i) for i in range(len(masks))]))
    painted = (1 - _OPACITY) * image + _OPACITY * colours
    return np.where(labels[..., None] > 0, painted, image).astype(np.uint8)
