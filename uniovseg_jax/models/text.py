"""CLIP's text transformer: causal, pre-norm, exact GELU.

Source: Radford et al. (arXiv 2103.00020) as OpenCLIP builds it for its ConvNeXt models.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from uniovseg_jax.models.layers import (
    MultiHeadAttention,
    make_layer_norm,
    torch_bias_init,
)
from uniovseg_jax.models.presets import ClipConfig
from uniovseg_jax.ops.gelu import gelu

# The text tower keeps torch's LayerNorm default whatever the trunk uses.
_NORM_EPS = 1e-5


class TextLayer(nn.Module):
    """One pre-norm layer of causal self-attention and feed-forward.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"]) -> Float[Array, "b t c"]:
        """Applies the layer."""
        width = self.config.text_width
        # Residual branches start smaller the deeper the tower is.
        residual_std = width**-0.5 * (2 * self.config.text_layers) ** -0.5
        normal = nn.initializers.normal
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        y = make_layer_norm(_NORM_EPS, self.dtype, name="ln_1")(x)
        x = x + MultiHeadAttention(
            width,
            self.config.text_heads,
            qkv_init=normal(width**-0.5),
            out_init=normal(residual_std),
            dtype=self.dtype,
            name="attn",
        )(y, y, y, causal)
        y = make_layer_norm(_NORM_EPS, self.dtype, name="ln_2")(x)
        y = nn.Dense(
            4 * width,
            dtype=self.dtype,
            kernel_init=normal((2 * width) ** -0.5),
            bias_init=torch_bias_init(width),
            name="fc1",
        )(y)
        y = nn.Dense(
            width,
            dtype=self.dtype,
            kernel_init=normal(residual_std),
            bias_init=torch_bias_init(4 * width),
            name="fc2",
        )(gelu(y))
        return x + y


class TextTransformer(nn.Module):
    """Token ids to one vector per text.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b t"]) -> Float[Array, "b d"]:
        """Returns text vectors, not normalised.

        Args:
          tokens: Ids padded with 0; the vector is read at the largest id, the end token.
        """
        config, normal = self.config, nn.initializers.normal
        width = config.text_width
        embedding = self.param("token_embedding", normal(0.02), (config.vocab_size, width))
        positions = self.param("positional_embedding", normal(0.01), (config.context_length, width))
        projection = self.param("text_projection", normal(width**-0.5), (width, config.embed_dim))
        x = jnp.take(embedding, tokens, axis=0) + positions[: tokens.shape[1]]
        x = x.astype(self.dtype)
        for i in range(config.text_layers):
            x = TextLayer(config, self.dtype, name=f"layer_{i}")(x)
        end = jnp.argmax(tokens, axis=-1)
        # The norm acts per position, so taking the end position first changes nothing.
        x = jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]
        x = make_layer_norm(_NORM_EPS, self.dtype, name="ln_final")(x)
        return x @ projection.astype(self.dtype)
