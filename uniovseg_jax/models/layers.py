"""Building blocks shared by the CLIP towers and the decoders, and their initialisers."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from uniovseg_jax.ops.attention import masked_attention

Initializer = Callable[..., Array]

xavier_uniform: Initializer = nn.initializers.xavier_uniform()
# The kernel half of torch.nn.Linear's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_kernel_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias_init(fan_in: int) -> Initializer:
    """The bias half of torch.nn.Linear's default: U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bound = 1 / math.sqrt(fan_in)
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def fused_qkv_init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Xavier-uniform for one of query, key and value as parts of one fused (D, 3D) matrix.

    The bound sqrt(6 / 4D) is smaller than that of a lone (D, D) matrix; torch's attention draws
    the three at once.
    """
    bound = math.sqrt(6 / (shape[0] + 3 * math.prod(shape[1:])))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def l2_normalize(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Scales vectors to length 1 in float32; a zero vector stays zero, with a finite gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))


def make_layer_norm(eps: float, dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """A LayerNorm whose statistics and affine map run in float32 whatever `dtype` it returns."""
    return nn.LayerNorm(eps, dtype=dtype, use_fast_variance=False, name=name)


class MLP(nn.Module):
    """Dense layers with ReLU between them, initialised as torch.nn.Linear.

    Attributes:
      hidden_dim: Width of every layer but the last.
      output_dim: Width of the last.
      num_layers: Number of dense layers, `layers_0`, `layers_1`, ...
      dtype: Computation dtype.
    """

    hidden_dim: int
    output_dim: int
    num_layers: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n c"]) -> Float[Array, "*n d"]:
        """Applies the layers."""
        for i in range(self.num_layers):
            last = i == self.num_layers - 1
            x = nn.Dense(
                self.output_dim if last else self.hidden_dim,
                dtype=self.dtype,
                kernel_init=torch_kernel_init,
                bias_init=torch_bias_init(x.shape[-1]),
                name=f"layers_{i}",
            )(x)
            x = x if last else nn.relu(x)
        return x


class FFN(nn.Module):
    """Transformer feed-forward: `fc1`, an activation, `fc2`, without residual or norm.

    Kernels start Xavier-uniform, biases as torch.nn.Linear's.

    Attributes:
      dim: Width of input and output.
      hidden_dim: Width between.
      activation: Non-linearity.
      dtype: Computation dtype.
    """

    dim: int
    hidden_dim: int
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Applies both layers."""
        x = nn.Dense(
            self.hidden_dim,
            dtype=self.dtype,
            kernel_init=xavier_uniform,
            bias_init=torch_bias_init(self.dim),
            name="fc1",
        )(x)
        return nn.Dense(
            self.dim,
            dtype=self.dtype,
            kernel_init=xavier_uniform,
            bias_init=torch_bias_init(self.hidden_dim),
            name="fc2",
        )(self.activation(x))


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention with separate query, key, value and output projections.

    Keys and values can be projected once (`project_kv`) and attended to many times (`attend`).

    Attributes:
      dim: Width of input and output, a multiple of `num_heads`.
      num_heads: Heads.
      qkv_init: Initialiser of the query, key and value kernels.
      out_init: Initialiser of the output kernel.
      dtype: Computation dtype; the softmax always runs in float32.
    """

    dim: int
    num_heads: int
    qkv_init: Initializer = fused_qkv_init
    out_init: Initializer = xavier_uniform
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Creates the four projections, kernels (d, heads, head) and (heads, head, d)."""
        heads = (self.num_heads, self.dim // self.num_heads)
        self.query = nn.DenseGeneral(heads, dtype=self.dtype, kernel_init=self.qkv_init)
        self.key = nn.DenseGeneral(heads, dtype=self.dtype, kernel_init=self.qkv_init)
        self.value = nn.DenseGeneral(heads, dtype=self.dtype, kernel_init=self.qkv_init)
        self.out = nn.DenseGeneral(
            self.dim, axis=(-2, -1), dtype=self.dtype, kernel_init=self.out_init
        )

    def project_kv(
        self, keys: Float[Array, "*n s d"], values: Float[Array, "*n s d"]
    ) -> tuple[Float[Array, "*n s heads head"], Float[Array, "*n s heads head"]]:
        """Projects keys and values for `attend`."""
        return self.key(keys), self.value(values)

    def attend(
        self,
        queries: Float[Array, "*n t d"],
        key: Float[Array, "*n s heads head"],
        value: Float[Array, "*n s heads head"],
        mask: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "*n t d"]:
        """Attends from queries to projected keys and values.

        Args:
          queries: Queries, not yet projected.
          key: Projected keys.
          value: Projected values.
          mask: True where a query may attend; broadcasts to (*n, heads, t, s). A row that is
            False everywhere attends evenly, so the caller decides what such a row should do.
        """
        query = self._scaled_query(queries)
        logits = jnp.einsum("...thd,...shd->...hts", query, key, preferred_element_type=jnp.float32)
        if mask is not None:
            logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
        probs = jax.nn.softmax(logits, axis=-1).astype(self.dtype)
        return self.out(jnp.einsum("...hts,...shd->...thd", probs, value))

    def attend_in_groups(
        self,
        queries: Float[Array, "b t d"],
        key: Float[Array, "b s heads head"],
        value: Float[Array, "b s heads head"],
        mask: Bool[Array, "b q s"],
    ) -> Float[Array, "b t d"]:
        """`attend` where groups of neighbouring queries share a mask; scores are not kept."""
        # The custom derivative hides the result's type from the type checker.
        out: Any = masked_attention(self._scaled_query(queries), key, value, mask)
        return self.out(out)

    def _scaled_query(self, queries: Float[Array, "*n t d"]) -> Float[Array, "*n t heads head"]:
        return self.query(queries) * (self.dim // self.num_heads) ** -0.5

    def __call__(
        self,
        queries: Float[Array, "*n t d"],
        keys: Float[Array, "*n s d"],
        values: Float[Array, "*n s d"],
        mask: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "*n t d"]:
        """Projects keys and values, then attends."""
        return self.attend(queries, *self.project_kv(keys, values), mask)
