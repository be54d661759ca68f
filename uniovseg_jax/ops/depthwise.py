"""Depthwise convolution, stride 1, zero padding, in the form that each platform runs fast."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from uniovseg_jax.ops.platform import by_platform


def depthwise_conv_grouped(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"]
) -> Float[Array, "b h w c"]:
    """One grouped convolution: fast on accelerators, 20 to 60 times too slow on CPU."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def depthwise_conv_shifted(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"]
) -> Float[Array, "b h w c"]:
    """Sum of k * k shifted products, which XLA fuses into one loop; not to be differentiated."""
    k = kernel.shape[0]
    h, w = x.shape[1:3]
    padded = _pad(x, k)
    # Two halves in a loop, the second moved up where h is odd. The loop is a wall: without it XLA
    # mixes the taps into the neighbouring norm and writes every shifted slice to memory, which
    # makes a ConvNeXt block four times slower.
    rows = math.ceil(h / 2)

    def convolve_half(half: Array, out: Array) -> Array:
        start = half * (h - rows)
        window = jax.lax.dynamic_slice_in_dim(padded, start, rows + k - 1, axis=1)
        total = jnp.zeros((x.shape[0], rows, w, x.shape[3]), x.dtype)
        for i in range(k):
            for j in range(k):
                total += window[:, i : i + rows, j : j + w] * kernel[i, j, 0]
        return jax.lax.dynamic_update_slice_in_dim(out, total, start, axis=1)

    return jax.lax.fori_loop(0, 2, convolve_half, jnp.zeros_like(x))


def _pad(x: Float[Array, "b h w c"], k: int) -> Float[Array, "b _h _w c"]:
    """Pads with zeros so that a k x k window fits around every cell."""
    low, high = (k - 1) // 2, k // 2
    return jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))


def _kernel_gradient(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w c"], k: int
) -> Float[Array, "k k 1 c"]:
    """Correlates input and output gradient: the sum over positions of k x k windows times grad.

    Written as the forward pass is, shifted multiply-adds, with the roles of window and position
    exchanged: the (b, k, k, c) sums stay in cache while a scan walks over the rows. Five to nine
    times faster than one reduction per tap.
    """
    b, h, w, c = x.shape
    # XLA makes fast loops of a scan with two steps or more and some 16 products in each.
    rows = min(math.ceil(16 / w), math.ceil(h / 2))
    steps = math.ceil(h / rows)
    extra = ((0, 0), (0, steps * rows - h), (0, 0), (0, 0))
    padded = jnp.pad(_pad(x, k), extra)
    grad = jnp.pad(grad, extra)

    def add_rows(total: Array, step: Array) -> tuple[Array, None]:
        start = step * rows
        window = jax.lax.dynamic_slice_in_dim(padded, start, rows + k - 1, axis=1)
        scale = jax.lax.dynamic_slice_in_dim(grad, start, rows, axis=1)
        for i in range(rows):
            for j in range(w):
                total += window[:, i : i + k, j : j + k] * scale[:, i : i + 1, j : j + 1]
        return total, None

    total, _ = jax.lax.scan(add_rows, jnp.zeros((b, k, k, c), x.dtype), jnp.arange(steps))
    return total.sum(0)[:, :, None]


def _shifted_backward(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients of input and kernel on CPU."""
    grad_x = depthwise_conv_shifted(grad, kernel[::-1, ::-1])
    return grad_x, _kernel_gradient(x, grad, kernel.shape[0])


def _grouped_backward(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients of input and kernel on accelerators."""
    return jax.vjp(depthwise_conv_grouped, x, kernel)[1](grad)


def depthwise_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"]
) -> Float[Array, "b h w c"]:
    """Convolves every channel with its own kernel of odd side; the size stays."""
    return _convolve(x, kernel)


def _choose(x: Array, kernel: Array) -> Array:
    return by_platform(x, kernel, cpu=depthwise_conv_shifted, accelerator=depthwise_conv_grouped)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _choose(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    return by_platform(*residuals, grad, cpu=_shifted_backward, accelerator=_grouped_backward)


_convolve = jax.custom_vjp(_choose)
_convolve.defvjp(_forward, _backward)
