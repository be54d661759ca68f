"""The multi-scale feature adapter: low-rank updates of a region's CLIP vector from many maps."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.models.layers import make_layer_norm
from uniovseg_jax.models.presets import AdapterConfig, UniOVSegConfig
from uniovseg_jax.ops.gelu import gelu
from uniovseg_jax.ops.pooling import PoolingMode, mask_weights, pool

CLIP_SOURCES = ("res2", "res3", "res4", "res5")
PIXEL_SOURCES = ("p32", "p16", "p8", "p4")


def source_names(config: AdapterConfig) -> tuple[str, ...]:
    """Returns the names of the maps that the adapter reads."""
    return {"clip": CLIP_SOURCES, "pixel": PIXEL_SOURCES, "both": PIXEL_SOURCES + CLIP_SOURCES}[
        config.source
    ]


def source_widths(config: UniOVSegConfig) -> dict[str, int]:
    """Returns the channels of every map that an adapter could read."""
    widths: dict[str, int] = dict.fromkeys(PIXEL_SOURCES, config.dim)
    return widths | dict(zip(CLIP_SOURCES, config.clip.widths, strict=True))


class SourceAdapter(nn.Module):
    """The two linear maps of one source; the second starts at zero, so the update does too.

    Attributes:
      config: Rank, scale and non-linearity.
      in_dim: Channels of the source.
      out_dim: Channels of the CLIP map.
    """

    config: AdapterConfig
    in_dim: int
    out_dim: int

    def setup(self) -> None:
        """Declares norm, `a` (down) and `b` (up)."""
        self.norm = make_layer_norm(1e-6, jnp.float32)
        # U(-1/sqrt(c), 1/sqrt(c)) for A, as LoRA draws it.
        kaiming = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        self.a = self.param("a", kaiming, (self.in_dim, self.config.rank))
        self.b = self.param("b", nn.initializers.zeros, (self.config.rank, self.out_dim))

    def down(self, x: Float[Array, "*n c"]) -> Float[Array, "*n r"]:
        """Norm, first linear map, non-linearity."""
        activation = gelu if self.config.activation == "gelu" else jax.nn.relu
        return activation(self.norm(x.astype(jnp.float32)) @ self.a)

    def up(self, u: Float[Array, "*n r"]) -> Float[Array, "*n d"]:
        """Second linear map and scale."""
        return self.config.scale * (u @ self.b)


class FeatureAdapter(nn.Module):
    """Sums the updates of all sources; the caller adds the sum to the pooled CLIP vector.

    The update goes in before CLIP's frozen head, so adapted vectors stay in the text space and
    training starts from CLIP's own answer.

    Source: arXiv 2402.08960, section 3.4, which leaves the wiring open.

    Attributes:
      config: The model; its `adapter` says which maps, which mode and which rank.
    """

    config: UniOVSegConfig

    def setup(self) -> None:
        """Declares one bottleneck per source, named after it."""
        if self.config.adapter is None:
            raise ValueError("This model's configuration has no adapter.")
        widths, out_dim = source_widths(self.config), self.config.clip.widths[-1]
        self.sources = {
            name: SourceAdapter(self.config.adapter, widths[name], out_dim, name=name)
            for name in source_names(self.config.adapter)
        }

    def from_maps(
        self,
        maps: dict[str, Float[Array, "b _ _ _"]],
        mask_logits: Float[Array, "b n h w"],
        pooling: PoolingMode,
    ) -> Float[Array, "b n d"]:
        """Mode `dense`: adapts every pixel, then pools.

        Pooling comes before the second linear map: that is exact and keeps the wide tensor off the
        high-resolution grids.
        """
        delta = jnp.zeros((), jnp.float32)
        for name, source in self.sources.items():
            u = source.down(maps[name])
            weights = mask_weights(mask_logits, (u.shape[1], u.shape[2]), pooling)
            delta = delta + source.up(pool(u, weights))
        return delta

    def from_pooled(self, pooled: dict[str, Float[Array, "*n _"]]) -> Float[Array, "*n d"]:
        """Mode `pooled`: adapts vectors that were pooled from the maps."""
        delta = jnp.zeros((), jnp.float32)
        for name, source in self.sources.items():
            delta = delta + source.up(source.down(pooled[name]))
        return delta
