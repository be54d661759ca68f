"""Depthwise convolution, stride 1, zero padding, in the form that each platform runs fast."""

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
    """K * k shifted multiply-adds, which XLA fuses into one loop; do not differentiate it."""
    k, _, _, _ = kernel.shape
    h, w = x.shape[1:3]
    padded = _pad(x, k)
    out = jnp.zeros_like(x)
    for i in range(k):
        for j in range(k):
            out += padded[:, i : i + h, j : j + w] * kernel[i, j, 0]
    return out


def _pad(x: Float[Array, "b h w c"], k: int) -> Float[Array, "b _h _w c"]:
    """Pads with zeros so that a k x k window fits around every cell."""
    low, high = (k - 1) // 2, k // 2
    return jnp.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))


def _kernel_gradient(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w c"], k: int
) -> Float[Array, "k k 1 c"]:
    """Correlates input and output gradient, one output row after the other."""
    padded = _pad(x, k)

    def add_row(total: Array, y: Array) -> tuple[Array, None]:
        rows = jax.lax.dynamic_slice_in_dim(padded, y, k, axis=1)
        grad_row = jax.lax.dynamic_index_in_dim(grad, y, axis=1, keepdims=False)
        w = grad.shape[2]
        products = [
            jnp.sum(rows[:, i, j : j + w] * grad_row, axis=(0, 1))
            for i in range(k)
            for j in range(k)
        ]
        return total + jnp.stack(products), None

    total = jnp.zeros((k * k, x.shape[-1]), grad.dtype)
    total, _ = jax.lax.scan(add_row, total, jnp.arange(grad.shape[1]))
    return total.reshape(k, k, 1, -1)


def _shifted_backward(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients of input and kernel on CPU."""
    grad_x = depthwise_conv_shifted(grad, kernel[::-1, ::-1])
    return grad_x, _kernel_gradient(x, grad, kernel.shape[0])


def _grouped_backward(x: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
    """Gradients of input and kernel on accelerators."""
    return jax.vjp(depthwise_conv_grouped, x, kernel)[1](grad)


@jax.custom_vjp
def depthwise_conv(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"]
) -> Float[Array, "b h w c"]:
    """Convolves every channel with its own kernel of odd side; the size stays."""
    return by_platform(x, kernel, cpu=depthwise_conv_shifted, accelerator=depthwise_conv_grouped)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    return by_platform(*residuals, grad, cpu=_shifted_backward, accelerator=_grouped_backward)


depthwise_conv.defvjp(_forward, _backward)
