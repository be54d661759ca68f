"""CLIP's ConvNeXt image trunk.

Source: Liu et al., A ConvNet for the 2020s (arXiv 2201.03545), as timm and OpenCLIP build it;
checked against random OpenCLIP models.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.models.layers import Initializer, make_layer_norm
from uniovseg_jax.models.presets import ClipConfig
from uniovseg_jax.ops.depthwise import depthwise_conv
from uniovseg_jax.ops.norm_mlp import NormMlpParams, norm_mlp


def kernel_init(config: ClipConfig) -> Initializer:
    """Initialiser of the trunk's convolutions and dense layers."""
    if config.fan_in_init:
        return nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
    return nn.initializers.truncated_normal(0.02)


class PatchConv(nn.Module):
    """Convolution whose stride equals its kernel side: one matrix product over patches.

    Attributes:
      features: Output channels.
      patch: Side of kernel and stride.
      kernel_init: Initialiser of the (patch, patch, c, features) kernel.
      dtype: Computation dtype.
    """

    features: int
    patch: int
    kernel_init: Initializer
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Applies the convolution; height and width must be multiples of `patch`."""
        b, h, w, c = x.shape
        p = self.patch
        kernel = self.param("kernel", self.kernel_init, (p, p, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = x.astype(self.dtype).reshape(b, h // p, p, w // p, p, c)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // p, w // p, p * p * c)
        return x @ kernel.reshape(-1, self.features).astype(self.dtype) + bias.astype(self.dtype)


class DepthwiseConv(nn.Module):
    """Convolution of every channel by its own square kernel, stride 1, same size.

    Attributes:
      size: Side of the kernel.
      kernel_init: Initialiser of the (size, size, 1, c) kernel.
      dtype: Computation dtype.
    """

    size: int
    kernel_init: Initializer
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the convolution with zero padding."""
        c = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (self.size, self.size, 1, c))
        bias = self.param("bias", nn.initializers.zeros, (c,))
        x = depthwise_conv(x.astype(self.dtype), kernel.astype(self.dtype))
        return x + bias.astype(self.dtype)


class NormParams(nn.Module):
    """Holds the parameters of a LayerNorm that an operator applies.

    Attributes:
      features: Channels.
    """

    features: int

    @nn.compact
    def __call__(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Returns scale and bias."""
        scale = self.param("scale", nn.initializers.ones, (self.features,))
        return scale, self.param("bias", nn.initializers.zeros, (self.features,))


class DenseParams(nn.Module):
    """Holds the parameters of a dense layer that an operator applies.

    Attributes:
      shape: Input and output channels.
      kernel_init: Initialiser of the kernel.
    """

    shape: tuple[int, int]
    kernel_init: Initializer

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "c d"], Float[Array, " d"]]:
        """Returns kernel and bias."""
        kernel = self.param("kernel", self.kernel_init, self.shape)
        return kernel, self.param("bias", nn.initializers.zeros, self.shape[1:])


class Block(nn.Module):
    """One ConvNeXt block: depthwise 7x7, LayerNorm, MLP, layer scale, residual.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype; norms run in float32.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Applies the block."""
        c = x.shape[-1]
        init = kernel_init(self.config)
        gamma = self.param("gamma", nn.initializers.constant(self.config.layer_scale), (c,))
        params = NormMlpParams(
            *NormParams(c, name="norm")(),
            *DenseParams((c, 4 * c), init, name="fc1")(),
            *DenseParams((4 * c, c), init, name="fc2")(),
        )
        y = DepthwiseConv(7, init, self.dtype, name="conv_dw")(x)
        return x + gamma.astype(self.dtype) * norm_mlp(y, params, self.config.norm_eps)


class Stem(nn.Module):
    """Patches of 4 x 4 pixels, then LayerNorm.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b h4 w4 c"]:
        """Applies the stem."""
        init = kernel_init(self.config)
        x = PatchConv(self.config.widths[0], 4, init, self.dtype, name="conv")(x)
        return make_layer_norm(self.config.norm_eps, self.dtype, name="norm")(x)


class Downsample(nn.Module):
    """LayerNorm, then patches of 2 x 2 cells.

    Attributes:
      features: Output channels.
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    features: int
    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Halves the map."""
        x = make_layer_norm(self.config.norm_eps, self.dtype, name="norm")(x)
        return PatchConv(self.features, 2, kernel_init(self.config), self.dtype, name="conv")(x)


class Stage(nn.Module):
    """Blocks at one resolution, after a downsampler in all stages but the first.

    Attributes:
      index: 0 to 3.
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    index: int
    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Applies the stage."""
        if self.index:
            width = self.config.widths[self.index]
            x = Downsample(width, self.config, self.dtype, name="downsample")(x)
        for j in range(self.config.depths[self.index]):
            x = Block(self.config, self.dtype, name=f"block_{j}")(x)
        return x


class ConvNeXt(nn.Module):
    """The trunk; its taps carry no final norm, that one belongs to the head after pooling.

    Attributes:
      config: Sizes of the CLIP.
      dtype: Computation dtype.
    """

    config: ClipConfig
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> dict[str, Float[Array, "b _h _w _c"]]:
        """Returns the maps of strides 4, 8, 16 and 32.

        Args:
          images: Normalised images whose sides are multiples of 32.

        Raises:
          ValueError: If a side is not a multiple of 32.
        """
        h, w = images.shape[1:3]
        if h % 32 or w % 32:
            raise ValueError(f"Image sides must be multiples of 32; got {h} x {w}.")
        x = Stem(self.config, self.dtype, name="stem")(images)
        features = {}
        for i in range(4):
            x = Stage(i, self.config, self.dtype, name=f"stage_{i}")(x)
            features[f"res{i + 2}"] = x
        return features
