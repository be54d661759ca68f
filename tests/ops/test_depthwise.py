import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.ops import depthwise


def _case(shape, k=7):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(np.float32)
    kernel = rng.normal(size=(k, k, 1, shape[-1])).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(kernel), rng.normal(size=shape).astype(np.float32)


def _convolve_float64(x, kernel):
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    k, (h, w) = kernel.shape[0], x.shape[1:3]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    out = np.zeros_like(x)
    for y in range(h):
        for z in range(w):
            out[:, y, z] = np.einsum(
                "bijc,ijc->bc", padded[:, y : y + k, z : z + k], kernel[:, :, 0]
            )
    return out


# Odd and even heights, maps smaller than the kernel, a single cell.
_SHAPES = [(2, 8, 6, 3), (1, 7, 9, 4), (2, 3, 2, 5), (1, 1, 1, 2), (1, 5, 20, 2)]


@pytest.mark.parametrize("shape", _SHAPES)
def test_both_forms_equal_the_definition(shape):
    x, kernel, _ = _case(shape)
    expected = _convolve_float64(x, kernel)
    for form in (
        depthwise.depthwise_conv,
        depthwise.depthwise_conv_shifted,
        depthwise.depthwise_conv_grouped,
    ):
        np.testing.assert_allclose(jax.jit(form)(x, kernel), expected, atol=1e-4)


@pytest.mark.parametrize("shape", _SHAPES)
def test_gradients_equal_those_of_the_grouped_convolution(shape):
    x, kernel, grad = _case(shape)

    def gradients(form):
        return jax.jit(jax.grad(lambda x, k: jnp.sum(form(x, k) * grad), argnums=(0, 1)))(x, kernel)

    expected = gradients(depthwise.depthwise_conv_grouped)
    for a, b in zip(gradients(depthwise.depthwise_conv), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_smaller_kernels_work_too():
    x, kernel, _ = _case((1, 5, 6, 2), k=3)
    np.testing.assert_allclose(
        depthwise.depthwise_conv(x, kernel), _convolve_float64(x, kernel), atol=1e-5
    )


def test_cpu_program_holds_no_convolution():
    x, kernel, _ = _case((1, 8, 8, 4))
    step = jax.jit(jax.grad(lambda x, k: depthwise.depthwise_conv(x, k).sum(), argnums=(0, 1)))
    assert " convolution(" not in step.lower(x, kernel).compile().as_text()
