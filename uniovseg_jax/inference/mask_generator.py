"""Masks of everything in an image, without names."""

from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.inference.framing import Letterbox
from uniovseg_jax.masks import box_from_mask, rle_encode
from uniovseg_jax.proposals import ProposalConfig, make_proposer
from uniovseg_jax.weights.store import Pretrained


class AutomaticMaskGenerator:
    """Turns a grid of points into masks of everything; records have segment-anything's keys.

    Args:
      pretrained: A model with the parts `clip` and `masks`.
      config: Point grid, quality filter and suppression.
      output_mode: `binary_mask` gives boolean arrays, `coco_rle` COCO run lengths, which take far
        less memory on large images.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        config: ProposalConfig | None = None,
        output_mode: Literal["binary_mask", "coco_rle"] = "binary_mask",
    ):
        if not {"clip", "masks"} <= set(pretrained.parts):
            raise ValueError(
                "Generating masks needs a model with the parts clip and masks; "
                f"this one has {', '.join(pretrained.parts)}."
            )
        if output_mode not in ("binary_mask", "coco_rle"):
            raise ValueError(f"Unknown output mode {output_mode!r}; binary_mask or coco_rle.")
        self._variables = pretrained.variables
        self._frame = Letterbox(pretrained.config.image_size)
        self._output_mode = output_mode
        self._propose = make_proposer(pretrained.model, config or ProposalConfig())

    def generate(self, image: UInt8[np.ndarray, "h w 3"]) -> list[dict[str, Any]]:
        """Returns one record per mask, best first, for an RGB image of any size.

        Keys: `segmentation` (the mask at the image's size), `area` (pixels), `bbox` (x, y, width,
        height), `predicted_iou` (0..1), `stability_score` (0..1: how little the area changes
        between the two `stable_logits`), `point_coords` (the prompt, x and y in pixels of the
        image) and `crop_box` (always the whole image). A mask that has no pixel at the image's size
        is left out.
        """
        source = self._frame(image)
        (found,) = self._propose(self._variables, source.pixels[None], [source.image_wh])
        full = source.full_size(found.mask_logits)
        records = []
        for index in range(len(full)):
            mask = full.mask(index) >= 0
            x0, y0, x1, y1 = box_from_mask(mask).astype(int).tolist()
            if x1 == x0:
                continue
            records.append(
                {
                    "segmentation": rle_encode(mask) if self._output_mode == "coco_rle" else mask,
                    "area": int(np.count_nonzero(mask)),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "predicted_iou": float(found.ious[index]),
                    "point_coords": [(found.points_xy[index] / source.point_scale).tolist()],
                    "stability_score": float(found.stability[index]),
                    "crop_box": [0, 0, *source.image_wh],
                }
            )
        return records
