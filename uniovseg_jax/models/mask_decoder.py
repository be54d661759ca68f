"""The mask decoder: prompt tokens attend to pixels where their own masks are, layer by layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float

from uniovseg_jax.models.layers import (
    FFN,
    MLP,
    MultiHeadAttention,
    make_layer_norm,
    torch_bias_init,
    torch_kernel_init,
)
from uniovseg_jax.models.pixel_decoder import PixelFeatures
from uniovseg_jax.models.position_encoding import PositionEncoding
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.models.prompt_encoder import PromptType
from uniovseg_jax.ops.resize import resize_bilinear

_NUM_LEVELS = 3
_NUM_LOCATION_TOKENS = 2


@struct.dataclass
class DecoderMemory:
    """What the decoder needs to know of the images, computed once for all prompts.

    Attributes:
      keys: Per layer, the projected keys (b, h * w, heads, d / heads) of the level that it reads.
      values: Per layer, the projected values, likewise.
      pixel_embeds: (b, S/4, S/4, d) float32; mask logits are products with it.
      level_pixel_embeds: `pixel_embeds` at the sizes of strides 32, 16, 8.
    """

    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    pixel_embeds: Any
    level_pixel_embeds: tuple[Any, ...]


@struct.dataclass
class DecoderOutput:
    """Predictions before the first layer and after each layer; the last entry is the result.

    Attributes:
      mask_embeds: Each (b, q, k, d); `compute_masks` turns an entry into mask logits.
      pred_ious: Each (b, q, k) in [0, 1], the predicted quality; empty without a quality head.
    """

    mask_embeds: tuple[Any, ...]
    pred_ious: tuple[Any, ...]


def compute_masks(
    mask_embeds: Float[Array, "b q k d"], pixel_embeds: Float[Array, "b h w d"]
) -> Float[Array, "b q k h w"]:
    """Returns float32 mask logits; a pixel belongs to a mask where the logit is >= 0.

    The product takes its operands in the dtype of `mask_embeds` and accumulates in float32.
    """
    return jnp.einsum(
        "bqkd,bhwd->bqkhw",
        mask_embeds,
        pixel_embeds.astype(mask_embeds.dtype),
        preferred_element_type=jnp.float32,
    )


def mean_foreground(logits: Float[Array, "*n h w"]) -> Float[Array, "*n"]:
    """Scores masks of a model without a quality head: mean probability inside; 0 if empty."""
    inside = logits >= 0
    total = jnp.sum(jnp.where(inside, jax.nn.sigmoid(logits), 0.0), axis=(-2, -1))
    return total / jnp.maximum(jnp.sum(inside, axis=(-2, -1)), 1)


def compute_attention_mask(
    mask_embeds: Float[Array, "b q k d"], level_pixel_embeds: Float[Array, "b h w d"]
) -> Bool[Array, "b q h*w"]:
    """Returns where each prompt may attend: the union of its masks, everywhere if that is empty.

    The logits come from pixel embeddings that were resized before the product. That equals resizing
    the logits, because resizing is linear over pixels and the product over channels, and it never
    builds a map at stride 4. In float32: bfloat16 would flip one bit in a thousand.
    """
    embeds = jax.lax.stop_gradient(mask_embeds).astype(jnp.float32)
    pixels = jax.lax.stop_gradient(level_pixel_embeds).astype(jnp.float32)
    # Flat pixels, and the masks of a prompt as an outer axis: nothing is rearranged afterwards.
    logits = jnp.einsum(
        "bqkd,bsd->bkqs",
        embeds,
        pixels.reshape(pixels.shape[0], -1, pixels.shape[-1]),
        precision=jax.lax.Precision.HIGHEST,
    )
    attend = (logits >= 0).any(1)
    return jnp.where(attend.any(-1, keepdims=True), attend, True)


class MaskDecoder(nn.Module):
    """Decodes each prompt's seven tokens into masks and their quality.

    Prompts never see each other, so they may be decoded in chunks of any size with one memory.

    Source: Mask2Former (arXiv 2112.01527) with attention masks per prompt; arXiv 2402.08960, 3.3.

    Attributes:
      config: Sizes and choices (`quality_head`).
      dtype: Computation type of attention and feed-forward networks.
      recompute: Whether layers are computed again for the gradient instead of being kept.
    """

    config: UniOVSegConfig
    dtype: Any = jnp.float32
    recompute: bool = False

    def setup(self) -> None:
        """Declares the submodules; their names are the parameters' names."""
        cfg = self.config
        layers = range(cfg.decoder_layers)
        masks = range(cfg.masks_per_point + 1)

        def attention() -> MultiHeadAttention:
            return MultiHeadAttention(cfg.dim, cfg.num_heads, dtype=self.dtype)

        def norm() -> nn.LayerNorm:
            return make_layer_norm(1e-5, self.dtype)

        self.position_encoding = PositionEncoding(cfg)
        self.level_embed = self.param(
            "level_embed", nn.initializers.normal(1.0), (_NUM_LEVELS, cfg.dim)
        )
        self.extra_self_attn = attention()
        self.extra_norm = norm()
        self.cross_attn = [attention() for _ in layers]
        self.cross_norm = [norm() for _ in layers]
        self.self_attn = [attention() for _ in layers]
        self.self_norm = [norm() for _ in layers]
        self.ffn = [FFN(cfg.dim, cfg.decoder_ffn_dim, dtype=self.dtype) for _ in layers]
        self.ffn_norm = [norm() for _ in layers]
        self.decoder_norm = norm()
        self.feat_embed = nn.Dense(
            cfg.dim, kernel_init=torch_kernel_init, bias_init=torch_bias_init(cfg.dim)
        )
        self.mask_embed = [MLP(cfg.dim, cfg.dim, 3, dtype=self.dtype) for _ in masks]
        if cfg.quality_head:
            self.iou_embed = [MLP(cfg.dim, 1, 3, dtype=self.dtype) for _ in masks]

    def prepare(self, pixel_features: PixelFeatures) -> DecoderMemory:
        """Computes everything that does not depend on prompts."""
        levels = pixel_features.multi_scale_features
        sources, keys = [], []
        for level, x in enumerate(levels):
            pos = self.position_encoding.encode_map((x.shape[1], x.shape[2]))
            source = x + self.level_embed[level]
            sources.append(source.reshape(x.shape[0], -1, x.shape[-1]))
            keys.append((source + pos).reshape(x.shape[0], -1, x.shape[-1]))
        projected = [
            layer.project_kv(keys[i % _NUM_LEVELS], sources[i % _NUM_LEVELS])
            for i, layer in enumerate(self.cross_attn)
        ]
        pixel_embeds = self.feat_embed(pixel_features.mask_features)
        return DecoderMemory(
            keys=tuple(k for k, _ in projected),
            values=tuple(v for _, v in projected),
            pixel_embeds=pixel_embeds,
            level_pixel_embeds=tuple(
                resize_bilinear(pixel_embeds, (x.shape[1], x.shape[2])) for x in levels
            ),
        )

    def decode(
        self, memory: DecoderMemory, tokens: Float[Array, "b q t d"], prompt_type: PromptType
    ) -> DecoderOutput:
        """Decodes prompts.

        Args:
          memory: From `prepare`.
          tokens: From the prompt encoder; added to queries and keys again at every layer.
          prompt_type: Points yield `masks_per_point` masks each, boxes one.

        Returns:
          `decoder_layers + 1` predictions.
        """
        query_pos = tokens.astype(self.dtype)
        x = self.extra_norm(query_pos + self._attend_within(self.extra_self_attn, query_pos, 0.0))
        predictions = [self._predict(x, prompt_type)]
        layer = type(self)._layer
        if self.recompute:
            layer = nn.remat(layer, static_argnums=(1,))
        for i in range(self.config.decoder_layers):
            x = layer(self, i, x, query_pos, predictions[-1][0], memory)
            predictions.append(self._predict(x, prompt_type))
        return DecoderOutput(
            mask_embeds=tuple(embeds for embeds, _ in predictions),
            pred_ious=tuple(ious for _, ious in predictions if ious is not None),
        )

    def _layer(
        self,
        i: int,
        x: Float[Array, "b q t d"],
        query_pos: Float[Array, "b q t d"],
        mask_embeds: Float[Array, "b q k d"],
        memory: DecoderMemory,
    ) -> Float[Array, "b q t d"]:
        """Cross-attention inside the masks of the last prediction, self-attention, FFN."""
        attend = compute_attention_mask(mask_embeds, memory.level_pixel_embeds[i % _NUM_LEVELS])
        x = self.cross_norm[i](x + self._attend_to_pixels(i, x + query_pos, memory, attend))
        x = self.self_norm[i](x + self._attend_within(self.self_attn[i], x, query_pos))
        return self.ffn_norm[i](x + self.ffn[i](x))

    def _attend_to_pixels(
        self,
        layer: int,
        queries: Float[Array, "b q t d"],
        memory: DecoderMemory,
        attend: Bool[Array, "b q s"],
    ) -> Float[Array, "b q t d"]:
        """Cross-attention; all tokens and heads of a prompt share its mask."""
        b, q, t, d = queries.shape
        update = self.cross_attn[layer].attend_in_groups(
            queries.reshape(b, q * t, d), memory.keys[layer], memory.values[layer], attend
        )
        return update.reshape(queries.shape)

    def _attend_within(
        self,
        layer: MultiHeadAttention,
        x: Float[Array, "b q t d"],
        pos: Float[Array, "b q t d"] | float,
    ) -> Float[Array, "b q t d"]:
        """Self-attention among the tokens of each prompt."""
        flat = (-1, *x.shape[2:])
        keys = (x + pos).reshape(flat)
        return layer(keys, keys, x.reshape(flat)).reshape(x.shape)

    def _predict(
        self, x: Float[Array, "b q t d"], prompt_type: PromptType
    ) -> tuple[Float[Array, "b q k d"], Float[Array, "b q k"] | None]:
        """Returns mask embeddings and qualities; every mask token has its own heads."""
        x = self.decoder_norm(x)[:, :, _NUM_LOCATION_TOKENS:]
        kinds = range(1, self.config.masks_per_point + 1) if prompt_type == "point" else (0,)
        embeds = jnp.stack([self.mask_embed[k](x[:, :, k]) for k in kinds], 2)
        if not self.config.quality_head:
            return embeds, None
        ious = jnp.concatenate([self.iou_embed[k](x[:, :, k]) for k in kinds], -1)
        return embeds, jax.nn.sigmoid(ious.astype(jnp.float32))
