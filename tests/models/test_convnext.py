import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

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


def test_a_block_equals_the_definition_where_the_norms_epsilon_shows():
    # Spread over the channels of about 1e-3: variance and epsilon are of one size.
    block = Block(_TEST)
    x = 1e-4 * jax.random.normal(jax.random.key(0), (1, 4, 4, 16))
    params = jax.tree.map(lambda p: p + 0.1, block.init(jax.random.key(1), x)["params"])
    conv = {"kernel": params["conv_dw"]["kernel"], "bias": 1e-3 * jnp.arange(16.0) / 16}
    params = {**params, "conv_dw": conv}
    p = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (3, 3), (3, 3), (0, 0)))
    y = p["conv_dw"]["bias"] + sum(
        padded[:, i : i + 4, j : j + 4] * p["conv_dw"]["kernel"][i, j, 0]
        for i in range(7)
        for j in range(7)
    )
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * p["norm"]["scale"] + p["norm"]["bias"]
    y = y @ p["fc1"]["kernel"] + p["fc1"]["bias"]
    y = y * scipy.special.ndtr(y) @ p["fc2"]["kernel"] + p["fc2"]["bias"]
    expected = np.asarray(x, np.float64) + p["gamma"] * y
    got = block.apply({"params": params}, x)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_the_gradient_of_the_trunk_is_finite_and_reaches_every_parameter():
    model = ConvNeXt(_TEST)
    x = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(1), x)

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


def test_eight_devices_give_the_gradient_of_one():
    block = Block(_TEST)
    x = jax.random.normal(jax.random.key(0), (8, 4, 4, 8))
    variables = jax.jit(block.init)(jax.random.key(1), x)
    step = jax.jit(jax.value_and_grad(lambda v, x: jnp.mean(jnp.sin(block.apply(v, x)))))
    want = step(variables, x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.device_put(variables, jax.NamedSharding(mesh, jax.P()))
    got = step(whole, jax.device_put(x, jax.NamedSharding(mesh, jax.P("data"))))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
