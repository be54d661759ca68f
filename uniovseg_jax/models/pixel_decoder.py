"""The pixel decoder: a deformable encoder over strides 32, 16, 8 and a pyramid down to stride 4."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from uniovseg_jax.models.deformable_attention import DeformableAttention
from uniovseg_jax.models.layers import FFN, make_layer_norm, xavier_uniform
from uniovseg_jax.models.position_encoding import PositionEncoding
from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.ops.resize import resize_bilinear

# The encoder's levels, coarse to fine: strides 32, 16, 8.
_LEVELS = ("res5", "res4", "res3")
_NUM_POINTS = 4


@struct.dataclass
class PixelFeatures:
    """What the pixel decoder makes of one batch of images.

    Attributes:
      mask_features: (b, S/4, S/4, d); prompts sample their content here, masks are products with
        a projection of it.
      multi_scale_features: Encoder outputs at strides 32, 16, 8, each (b, h, w, d).
      fpn_features: (b, S/4, S/4, d), the pyramid's last map, before `mask_features`.
    """

    # No shape types here and in other trees: JAX also builds them with shapes or shardings inside.
    mask_features: Any
    multi_scale_features: tuple[Any, ...]
    fpn_features: Any


class EncoderLayer(nn.Module):
    """One post-norm layer: deformable self-attention, then a feed-forward network.

    Attributes:
      config: Sizes.
    """

    config: UniOVSegConfig

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        pos: Float[Array, "l d"],
        reference_points: Float[Array, "l 2"],
        spatial_shapes: tuple[tuple[int, int], ...],
    ) -> Float[Array, "b l d"]:
        """Lets every cell read its surroundings in all levels."""
        cfg = self.config
        attention = DeformableAttention(
            cfg.dim, cfg.num_heads, len(spatial_shapes), _NUM_POINTS, name="self_attn"
        )
        x = x + attention(x + pos, x, reference_points, spatial_shapes)
        x = make_layer_norm(1e-5, jnp.float32, "norm1")(x)
        x = x + FFN(cfg.dim, cfg.encoder_ffn_dim, name="ffn")(x)
        return make_layer_norm(1e-5, jnp.float32, "norm2")(x)


class PixelDecoder(nn.Module):
    """Turns the trunk's four maps into mask features and three encoded levels.

    Always computes in float32, as the released model does under mixed precision: offsets of the
    deformable attention are fractions of a cell.

    Source: Mask2Former's pixel decoder (arXiv 2112.01527) with random Fourier positions and channel
    LayerNorm (released Uni-OVSeg), or as arXiv 2402.08960, appendix A words it.

    Attributes:
      config: Sizes and choices (`position_encoding`, `input_norm`, `fpn`).
      recompute: Whether encoder layers and steps of the pyramid are computed again for the gradient
        instead of being kept.
    """

    config: UniOVSegConfig
    recompute: bool = False

    @nn.compact
    def __call__(self, features: dict[str, Float[Array, "b _ _ _"]]) -> PixelFeatures:
        """Decodes `{"res2": ..., ..., "res5": ...}`."""
        cfg = self.config
        features = {name: x.astype(jnp.float32) for name, x in features.items()}
        maps = [self._project(features[name], level) for level, name in enumerate(_LEVELS)]
        maps = self._encode(maps)

        # A 1x1 and a 3x3 convolution per step; the released model takes the last step only.
        steps = ("res2",) if cfg.fpn == "last" else ("res4", "res3", "res2")
        y = maps[-1] if cfg.fpn == "last" else maps[0]
        fpn_step = type(self)._fpn_step
        if self.recompute:
            fpn_step = nn.remat(fpn_step, static_argnums=(3,))
        for name in steps:
            y = fpn_step(self, features[name], y, name)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
        mask_features = nn.Dense(cfg.dim, kernel_init=init, name="mask_features")(y)
        return PixelFeatures(mask_features, tuple(maps), y)

    def _project(self, x: Float[Array, "b h w c"], level: int) -> Float[Array, "b h w d"]:
        cfg = self.config
        x = nn.Dense(cfg.dim, kernel_init=xavier_uniform, name=f"input_proj_{level}")(x)
        if cfg.input_norm == "gn":
            return self._group_norm(x, f"input_norm_{level}")
        return make_layer_norm(1e-6, jnp.float32, f"input_norm_{level}")(x)

    def _encode(self, maps: list[Float[Array, "b _ _ d"]]) -> list[Float[Array, "b _ _ d"]]:
        cfg = self.config
        shapes = tuple((x.shape[1], x.shape[2]) for x in maps)
        level_embed = self.param("level_embed", nn.initializers.normal(1.0), (len(maps), cfg.dim))
        encoding = PositionEncoding(cfg, name="position_encoding")
        pos = jnp.concatenate(
            [
                encoding.encode_map(hw).reshape(-1, cfg.dim) + level_embed[i]
                for i, hw in enumerate(shapes)
            ]
        )
        reference_points = jnp.asarray(np.concatenate([_cell_centres(hw) for hw in shapes]))

        x = jnp.concatenate([m.reshape(m.shape[0], -1, cfg.dim) for m in maps], 1)
        layer = nn.remat(EncoderLayer, static_argnums=(4,)) if self.recompute else EncoderLayer
        for i in range(cfg.encoder_layers):
            x = layer(cfg, name=f"encoder_{i}")(x, pos, reference_points, shapes)
        splits = np.cumsum([h * w for h, w in shapes])[:-1]
        return [
            part.reshape(-1, h, w, cfg.dim)
            for part, (h, w) in zip(jnp.split(x, splits, 1), shapes, strict=True)
        ]

    def _fpn_step(
        self, lateral: Float[Array, "b h w c"], coarse: Float[Array, "b _ _ d"], name: str
    ) -> Float[Array, "b h w d"]:
        cfg = self.config
        init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
        y = nn.Dense(cfg.dim, use_bias=False, kernel_init=init, name=f"lateral_{name}")(lateral)
        y = self._group_norm(y, f"lateral_norm_{name}")
        y = y + resize_bilinear(coarse, (y.shape[1], y.shape[2]))
        y = nn.Conv(cfg.dim, (3, 3), use_bias=False, kernel_init=init, name=f"output_{name}")(y)
        return nn.relu(self._group_norm(y, f"output_norm_{name}"))

    def _group_norm(self, x: Float[Array, "b h w d"], name: str) -> Float[Array, "b h w d"]:
        return nn.GroupNorm(
            self.config.num_groups, epsilon=1e-5, use_fast_variance=False, name=name
        )(x)


def _cell_centres(hw: tuple[int, int]) -> Float[np.ndarray, "l 2"]:
    h, w = hw
    y, x = np.meshgrid((np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], -1).astype(np.float32)
