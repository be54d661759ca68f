"""Position encodings with the choice that the configuration makes, and their fixed matrices."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from uniovseg_jax.models.presets import UniOVSegConfig
from uniovseg_jax.ops import position


class PositionEncoding(nn.Module):
    """Encodes maps and points in `config.dim` numbers.

    With `fourier` every instance owns a matrix of random frequencies, drawn once from N(0, 1) and
    never trained; it lives in the collection `fixed` and must be kept with the parameters.

    Attributes:
      config: Decides between `fourier` and `sine`.
    """

    config: UniOVSegConfig

    def setup(self) -> None:
        """Draws the matrix."""
        if self.config.position_encoding == "fourier":
            shape = (2, self.config.dim // 2)
            self.matrix = self.variable(
                "fixed",
                "fourier_matrix",
                lambda: nn.initializers.normal(1.0)(self.make_rng("params"), shape),
            )

    def encode_map(self, hw: tuple[int, int]) -> Float[Array, "h w d"]:
        """Encodes the cells of a map; only its size matters."""
        if self.config.position_encoding == "fourier":
            return position.fourier_encoding_map(hw, self.matrix.value)
        return position.sine_encoding_map(hw, self.config.dim)

    def encode_points(
        self, points_xy_px: Float[Array, "*n 2"], image_hw: tuple[int, int]
    ) -> Float[Array, "*n d"]:
        """Encodes points in pixels of an image; points outside are encoded as they are."""
        if self.config.position_encoding == "fourier":
            wh = jnp.asarray(image_hw[::-1], jnp.float32)
            return position.fourier_encoding(points_xy_px / wh, self.matrix.value)
        return position.sine_encoding_points(points_xy_px, image_hw, self.config.dim)
