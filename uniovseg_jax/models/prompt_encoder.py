"""The visual prompt encoder: every point or box becomes seven tokens."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from uniovseg_jax.models.position_encoding import PositionEncoding
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.ops.grid_sample import grid_sample

PromptType = Literal["point", "box"]


def points_to_boxes(points_xy: Float[Array, "*n 2"], size: float = 4.0) -> Float[Array, "*n 4"]:
    """Returns boxes of `size` pixels around points; parts outside the image are kept."""
    return jnp.concatenate([points_xy - size / 2, points_xy + size / 2], -1)


class PromptEncoder(nn.Module):
    """Encodes prompts as [top left, bottom right, whole, part 1, ..., part 4] tokens.

    The mask tokens do not depend on the prompt unless `embed_all_tokens` is set. Computes in
    float32.

    Source: arXiv 2402.08960, Eq. 2; Semantic-SAM (arXiv 2307.04767) for the tokens.

    Attributes:
      config: Sizes and choices (`position_encoding`, `embed_all_tokens`).
    """

    config: UniOVSegConfig

    @nn.compact
    def __call__(
        self,
        mask_features: Float[Array, "b h w d"],
        boxes_xyxy: Float[Array, "b q 4"],
        image_hw: tuple[int, int],
        prompt_type: PromptType,
    ) -> Float[Array, "b q t d"]:
        """Encodes boxes, or points given as the boxes that stand for them.

        Args:
          mask_features: The pixel decoder's, sampled at the box centres.
          boxes_xyxy: Corners in pixels of the network input; they may leave the image.
          image_hw: Size of the network input.
          prompt_type: What the boxes are.

        Returns:
          Two location tokens, the token of a whole object, then the tokens of granularity.

        Raises:
          ValueError: If the prompt type is unknown.
        """
        if prompt_type not in ("point", "box"):
            raise ValueError(f"Unknown prompt type {prompt_type!r}; expected 'point' or 'box'.")
        cfg = self.config
        normal = nn.initializers.normal(1.0)
        corner_embed = self.param("corner_embed", normal, (2, cfg.dim))
        point_embed = self.param("point_embed", normal, (cfg.dim,))
        box_embed = self.param("box_embed", normal, (cfg.dim,))
        # 0: negative click, 1: positive click. Only positive ones are used; the released
        # checkpoint holds both.
        click_embed = self.param("click_embed", normal, (2, cfg.dim))
        mask_embed = self.param("mask_embed", normal, (cfg.masks_per_point + 1, cfg.dim))

        b, q, _ = boxes_xyxy.shape
        boxes_xyxy = boxes_xyxy.astype(jnp.float32)
        corners = boxes_xyxy.reshape(b, q, 2, 2)
        wh = jnp.asarray(image_hw[::-1], jnp.float32)
        encoding = PositionEncoding(cfg, name="position_encoding")
        location = encoding.encode_points(corners, image_hw) + corner_embed
        content = grid_sample(mask_features.astype(jnp.float32), corners.mean(2) / wh)
        kind = content + (point_embed if prompt_type == "point" else box_embed)

        location = location + kind[:, :, None]
        if prompt_type == "point":
            location = location + click_embed[1]
        masks = jnp.broadcast_to(mask_embed, (b, q, *mask_embed.shape))
        if cfg.embed_all_tokens:
            masks = masks + kind[:, :, None]
        return jnp.concatenate([location, masks], 2)
