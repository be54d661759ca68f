"""CLIP: the ConvNeXt image tower with its head, the text tower and the logit scale."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from uniovseg_jax.models.convnext import ConvNeXt
from uniovseg_jax.models.layers import (
    l2_normalize,
    make_layer_norm,
    torch_bias_init,
    torch_kernel_init,
)
from uniovseg_jax.models.presets import ClipConfig
from uniovseg_jax.models.text import TextTransformer
from uniovseg_jax.ops.gelu import gelu

_MAX_LOGIT_SCALE = 100.0


class Head(nn.Module):
    """LayerNorm and projection of pooled trunk features into the joint space.

    The norm comes after pooling, so a region's vector is normed as an image's is.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, pooled: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
        """Projects pooled features; not normalised."""
        embed_dim = self.config.embed_dim

        def dense(features: int, name: str, use_bias: bool, fan_in: int) -> nn.Dense:
            return nn.Dense(
                features,
                use_bias=use_bias,
                dtype=self.dtype,
                kernel_init=torch_kernel_init,
                bias_init=torch_bias_init(fan_in),
                name=name,
            )

        width = pooled.shape[-1]
        x = make_layer_norm(self.config.norm_eps, self.dtype, name="norm")(pooled)
        if self.config.head == "linear":
            return dense(embed_dim, "proj", False, width)(x)
        x = gelu(dense(2 * embed_dim, "fc1", True, width)(x))
        return dense(embed_dim, "fc2", False, 2 * embed_dim)(x)


class CLIP(nn.Module):
    """Both towers.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype of the towers; embeddings come out in float32.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates `visual`, `head`, `text` and `logit_scale`."""
        self.visual = ConvNeXt(self.config, self.dtype)
        self.head = Head(self.config, self.dtype)
        self.text = TextTransformer(self.config, self.dtype)
        self.log_scale = self.param("logit_scale", nn.initializers.constant(math.log(1 / 0.07)), ())

    def normalize_image(self, image: Num[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Subtracts mean and divides by standard deviation, both on the 0..255 scale."""
        mean = jnp.array(self.config.image_mean, jnp.float32)
        std = jnp.array(self.config.image_std, jnp.float32)
        return (image.astype(jnp.float32) - mean) / std

    def trunk_features(self, image: Num[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Returns res2..res5 of RGB images with values 0..255 and sides divisible by 32."""
        return self.visual(self.normalize_image(image))

    def project(self, pooled: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
        """Maps averages of res5 into the joint space; float32, not normalised."""
        return self.head(pooled).astype(jnp.float32)

    def encode_image(self, image: Num[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Returns L2-normalised image embeddings of RGB images with values 0..255."""
        res5 = self.trunk_features(image)["res5"]
        return l2_normalize(self.project(res5.astype(jnp.float32).mean((1, 2))))

    def encode_mosaics(self, images: Num[Array, "b s s 3"]) -> Float[Array, "b d"]:
        """Returns embeddings of pictures that pass the trunk as quarters of larger ones.

        Each picture is embedded from its own quarter of the map, which costs no more than one by
        one. A trunk that has only seen small pictures alone knows no map without a border nearby,
        and has no reason to keep neighbours apart; to name a region of a scene it needs both.
        A choice of this project for training from nothing.

        Args:
          images: A multiple of four, values 0..255; sides are multiples of 32.
        """
        b, side = images.shape[:2]
        grid = images.reshape(b // 4, 2, 2, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
        res5 = self.trunk_features(grid.reshape(b // 4, 2 * side, 2 * side, 3))["res5"]
        cells, c = side // 32, res5.shape[-1]
        quarters = res5.astype(jnp.float32).reshape(b // 4, 2, cells, 2, cells, c)
        return l2_normalize(self.project(quarters.mean((2, 4)).reshape(b, c)))

    def encode_text(self, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Returns L2-normalised text embeddings of padded token ids."""
        return l2_normalize(self.text(tokens))

    def logit_scale(self) -> Float[Array, ""]:
        """Returns the factor on cosines, at most 100."""
        return jnp.minimum(jnp.exp(self.log_scale), _MAX_LOGIT_SCALE)

    def __call__(
        self, image: Num[Array, "b h w 3"], tokens: Int[Array, "n t"]
    ) -> tuple[Float[Array, "b d"], Float[Array, "n d"], Float[Array, ""]]:
        """Returns image embeddings, text embeddings and the logit scale."""
        return self.encode_image(image), self.encode_text(tokens), self.logit_scale()
