import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.models.presets import CLIP_VARIANTS
from uniovseg_jax.models.text import TextTransformer

_TEST = CLIP_VARIANTS["test"]


@pytest.fixture(scope="module")
def text_model():
    model = TextTransformer(_TEST)
    tokens = np.zeros((2, _TEST.context_length), np.int32)
    tokens[0, :5] = [510, 4, 9, 3, 511]
    tokens[1, :4] = [510, 4, 9, 511]
    variables = jax.jit(model.init)(jax.random.key(0), jnp.asarray(tokens))
    return model, variables, tokens


def _encode(model, variables, tokens):
    return jax.jit(model.apply)(variables, jnp.asarray(tokens))


def test_attention_is_causal_so_nothing_behind_the_end_counts(text_model):
    model, variables, tokens = text_model
    changed = tokens.copy()
    changed[0, 5:], changed[1, 4:] = 77, 33
    np.testing.assert_allclose(
        _encode(model, variables, tokens),
        _encode(model, variables, changed),
        atol=1e-6,
    )


def test_what_comes_before_the_end_counts(text_model):
    model, variables, tokens = text_model
    changed = tokens.copy()
    changed[:, 1] = 5
    difference = _encode(model, variables, tokens) - _encode(model, variables, changed)
    assert np.abs(difference).max(-1).min() > 1e-4


def test_shorter_padding_gives_the_same_vectors(text_model):
    model, variables, tokens = text_model
    np.testing.assert_allclose(
        _encode(model, variables, tokens),
        _encode(model, variables, tokens[:, :8]),
        atol=1e-6,
    )


def test_norms_use_epsilon_1e_5_whatever_the_trunk_uses(text_model):
    model, variables, tokens = text_model
    # A zero table with positions of a tiny spread: the first norm's epsilon shows.
    params = jax.tree.map(lambda x: x, variables["params"])
    row = np.linspace(-3e-3, 3e-3, _TEST.text_width)
    params["token_embedding"] = jnp.zeros_like(params["token_embedding"])
    params["positional_embedding"] = jnp.broadcast_to(
        jnp.asarray(row, jnp.float32), params["positional_embedding"].shape
    )
    _, state = model.apply({"params": params}, jnp.asarray(tokens), capture_intermediates=True)
    got = state["intermediates"]["layer_0"]["ln_1"]["__call__"][0][0, 0]
    np.testing.assert_allclose(got, row / np.sqrt(row.var() + 1e-5), rtol=1e-4)


def test_initial_spread_of_the_weights(text_model):
    _, variables, _ = text_model
    params, width = variables["params"], _TEST.text_width
    layer = params["layer_0"]
    residual = width**-0.5 * (2 * _TEST.text_layers) ** -0.5
    for kernel, std in (
        (params["token_embedding"], 0.02),
        (params["positional_embedding"], 0.01),
        (params["text_projection"], width**-0.5),
        (layer["attn"]["query"]["kernel"], width**-0.5),
        (layer["attn"]["out"]["kernel"], residual),
        (layer["fc1"]["kernel"], (2 * width) ** -0.5),
        (layer["fc2"]["kernel"], residual),
    ):
        assert float(jnp.std(kernel)) == pytest.approx(std, rel=0.1)
    assert not layer["attn"]["query"]["bias"].any()
    assert 0 < float(jnp.abs(layer["fc1"]["bias"]).max()) <= width**-0.5
