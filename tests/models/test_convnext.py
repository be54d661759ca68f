import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.models.convnext import Block, ConvNeXt, PatchConv
from uniovseg_jax.models.presets import CLIP_VARIANTS

_TEST = CLIP_VARIANTS["test"]


def test_patch_conv_is_a_strided_convolution():
    layer = PatchConv(5, 2, jax.nn.initializers.normal(1.0))
    x = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    variables = layer.init(jax.random.key(1), x)
    expected = jax.lax.conv_general_dilated(
        x,
        variables["params"]["kernel"],
        (2, 2),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_taps_have_strides_4_to_32_on_non_square_images():
    x = jnp.zeros((1, 64, 96, 3))
    model = ConvNeXt(_TEST)
    features = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), x)[0])
    assert {k: v.shape for k, v in features.items()} == {
        "res2": (1, 16, 24, 16),
        "res3": (1, 8, 12, 32),
        "res4": (1, 4, 6, 64),
        "res5": (1, 2, 3, 128),
    }


def test_a_side_that_32_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiples of 32; got 64 x 80"):
        ConvNeXt(_TEST).init(jax.random.key(0), jnp.zeros((1, 64, 80, 3)))


def test_blocks_norm_with_the_configured_epsilon():
    # One channel value differs by 2e-3, so the variance is about 1e-6: epsilon shows.
    block = Block(_TEST)
    x = jnp.zeros((1, 4, 4, 16))
    variables = block.init(jax.random.key(0), x)
    bias = jnp.zeros(16).at[0].set(4e-3)
    params = {**variables["params"]}
    params["conv_dw"] = {**params["conv_dw"], "bias": bias}
    _, state = block.apply({"params": params}, x, capture_intermediates=True)
    got = state["intermediates"]["norm"]["__call__"][0][0, 0, 0]
    values = np.asarray(bias, np.float64)
    expected = (values - values.mean()) / np.sqrt(values.var() + 1e-6)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_the_gradient_of_the_trunk_is_finite_and_reaches_every_parameter():
    model = ConvNeXt(_TEST)
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = model.init(jax.random.key(1), x)

    def total(variables):
        return sum(jnp.sum(jnp.sin(3 * v)) for v in model.apply(variables, x).values())

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(total))(variables)):
        assert np.isfinite(grad).all(), path
        assert np.abs(grad).max() > 0, path


def test_fan_in_init_keeps_the_signal_where_the_fixed_one_loses_it():
    std = {}
    for name in ("nano", "convnext_tiny"):
        config = CLIP_VARIANTS[name]
        block = Block(config)
        params = block.init(jax.random.key(0), jnp.zeros((1, 2, 2, 64)))["params"]
        std[name] = float(jnp.std(params["conv_dw"]["kernel"]))
        assert float(params["gamma"][0]) == pytest.approx(config.layer_scale)
    assert std["nano"] == pytest.approx(1 / 7, rel=0.1)
    assert std["convnext_tiny"] == pytest.approx(0.02, rel=0.15)
