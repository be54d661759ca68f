"""LayerNorm and two dense layers on every cell of a map, in the form that each platform runs fast.

This is the part of a ConvNeXt block that follows its depthwise convolution and costs most of it.
On CPU the four times wider hidden layer of a whole batch does not fit any cache, so it is made for
some cells at a time and made again in the backward pass.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.ops.chunks import chunk_size
from uniovseg_jax.ops.gelu import gelu
from uniovseg_jax.ops.platform import by_platform

# Rows of the two products per step on CPU: the hidden layer of narrow stages then stays in cache.
_CHUNK_ROWS = 4096


class NormMlpParams(NamedTuple):
    """Parameters of `norm_mlp`.

    Attributes:
      norm_scale: Scale of the LayerNorm.
      norm_bias: Bias of the LayerNorm.
      kernel_1: First dense kernel.
      bias_1: Its bias.
      kernel_2: Second dense kernel.
      bias_2: Its bias.
    """

    norm_scale: Float[Array, " c"]
    norm_bias: Float[Array, " c"]
    kernel_1: Float[Array, "c d"]
    bias_1: Float[Array, " d"]
    kernel_2: Float[Array, "d c"]
    bias_2: Float[Array, " c"]


def norm_mlp_whole(
    x: Float[Array, "*n c"], params: NormMlpParams, eps: float
) -> Float[Array, "*n c"]:
    """`norm_mlp` of all cells at once: for accelerators."""
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    inverse_std = jax.lax.rsqrt(jnp.mean(centred * centred, -1, keepdims=True) + eps)
    y = centred * (inverse_std * params.norm_scale) + params.norm_bias
    # The norm is float32 work; the products run in the dtype of the map.
    kernel_1, bias_1, kernel_2, bias_2 = (p.astype(x.dtype) for p in params[2:])
    hidden = gelu(y.astype(x.dtype) @ kernel_1 + bias_1)
    return hidden @ kernel_2 + bias_2


def _slice(x: Array, step: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, step * size, size)


def _update(x: Array, chunk: Array, step: Array, size: int) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, chunk, step * size, axis=0)


def norm_mlp_chunked(
    x: Float[Array, "*n c"], params: NormMlpParams, eps: float
) -> Float[Array, "*n c"]:
    """`norm_mlp` of some cells at a time: for one CPU; a map split among devices is gathered."""
    cells = x.reshape(-1, x.shape[-1])
    size = chunk_size(len(cells), _CHUNK_ROWS)

    def apply_chunk(step: Array, out: Array) -> Array:
        return _update(out, norm_mlp_whole(_slice(cells, step, size), params, eps), step, size)

    out = jax.lax.fori_loop(0, len(cells) // size, apply_chunk, jnp.zeros_like(cells))
    return out.reshape(x.shape)


def _whole_backward(
    x: Array, params: NormMlpParams, grad: Array, *, eps: float
) -> tuple[Array, NormMlpParams]:
    """Gradients of `norm_mlp_whole`."""
    return jax.vjp(lambda x, params: norm_mlp_whole(x, params, eps), x, params)[1](grad)


def _chunked_backward(
    x: Array, params: NormMlpParams, grad: Array, *, eps: float
) -> tuple[Array, NormMlpParams]:
    """Gradients of `norm_mlp_chunked`, making every chunk's hidden layer again."""
    cells, grad_cells = x.reshape(-1, x.shape[-1]), grad.reshape(-1, x.shape[-1])
    size = chunk_size(len(cells), _CHUNK_ROWS)

    def add_chunk(step: Array, total: tuple[Array, NormMlpParams]) -> tuple[Array, NormMlpParams]:
        grad_x, grad_params = total
        more_x, more_params = _whole_backward(
            _slice(cells, step, size), params, _slice(grad_cells, step, size), eps=eps
        )
        return _update(grad_x, more_x, step, size), jax.tree.map(jnp.add, grad_params, more_params)

    start = (jnp.zeros_like(cells), jax.tree.map(jnp.zeros_like, params))
    grad_x, grad_params = jax.lax.fori_loop(0, len(cells) // size, add_chunk, start)
    return grad_x.reshape(x.shape), grad_params


def norm_mlp(x: Float[Array, "*n c"], params: NormMlpParams, eps: float) -> Float[Array, "*n c"]:
    """Normalises every cell over its channels and applies dense, exact GELU, dense.

    The norm runs in float32, the products in the dtype of `x`.

    Args:
      x: Cells of maps.
      params: Parameters, float32.
      eps: Epsilon of the norm.
    """
    return _norm_mlp(x, params, eps)


def _choose(x: Array, params: NormMlpParams, eps: float) -> Array:
    return by_platform(
        x,
        params,
        cpu=lambda x, params: norm_mlp_chunked(x, params, eps),
        accelerator=lambda x, params: norm_mlp_whole(x, params, eps),
    )


def _forward(x: Array, params: NormMlpParams, eps: float) -> tuple[Array, tuple]:
    return _choose(x, params, eps), (x, params)


def _backward(eps: float, residuals: tuple, grad: Array) -> tuple[Array, NormMlpParams]:
    return by_platform(
        *residuals,
        grad,
        cpu=functools.partial(_chunked_backward, eps=eps),
        accelerator=functools.partial(_whole_backward, eps=eps),
    )


_norm_mlp = jax.custom_vjp(_choose, nondiff_argnums=(2,))
_norm_mlp.defvjp(_forward, _backward)
