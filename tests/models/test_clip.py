"""Both CLIP towers against OpenCLIP: stored goldens everywhere, live random models with torch."""

import pathlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert.openclip_rules import OPENCLIP_RULES
from uniovseg_jax.models.clip import CLIP
from uniovseg_jax.models.presets import CLIP_VARIANTS, ClipConfig
from uniovseg_jax.ops.pooling import mask_pooling
from uniovseg_jax.weights.engine import convert

_GOLDENS = pathlib.Path(__file__).resolve().parent.parent / "goldens"
_TEST = CLIP_VARIANTS["test"]


def _golden_config(head):
    return ClipConfig(
        depths=(1, 1, 2, 1),
        widths=(6, 8, 12, 16),
        embed_dim=12,
        head=head,
        text_width=16,
        text_heads=4,
        text_layers=2,
        image_size=64,
        vocab_size=48,
        context_length=12,
    )


def _abstract(config):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, config.context_length), jnp.int32)
    return jax.eval_shape(CLIP(config).init, jax.random.key(0), image, tokens)


def _variables(config, state):
    """Fills a CLIP from an OpenCLIP state dict."""
    abstract = flax.traverse_util.flatten_dict(_abstract(config)["params"], sep="/")
    flat = convert(state, OPENCLIP_RULES, {f"params/clip/{k}": v for k, v in abstract.items()})
    flat = {k.removeprefix("params/clip/"): jnp.asarray(v) for k, v in flat.items()}
    return {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}


def _unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _assert_close(actual, expected, tolerance=1e-4):
    """Largest error relative to the largest value: float32 against float64."""
    expected = np.asarray(expected, np.float64)
    error = np.abs(np.asarray(actual, np.float64) - expected).max()
    assert error <= tolerance * max(1.0, np.abs(expected).max()), error


@pytest.fixture(scope="module")
def test_model():
    model = CLIP(_TEST)
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    tokens = jnp.zeros((3, 32), jnp.int32).at[:, :4].set(jnp.array([510, 5, 9, 511]))
    return model, jax.jit(model.init)(jax.random.key(0), image, tokens), image, tokens


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_both_towers_equal_the_openclip_golden(head):
    golden = np.load(_GOLDENS / f"clip_small_{head}.npz")
    state = {k.removeprefix("state/"): golden[k] for k in golden if k.startswith("state/")}
    config = _golden_config(head)
    model, variables = CLIP(config), _variables(config, state)
    image, tokens = jnp.asarray(golden["in/image"]), jnp.asarray(golden["in/tokens"])
    features = jax.jit(model.apply, static_argnames="method")(
        variables, image, method="trunk_features"
    )
    for name in ("res2", "res3", "res4", "res5"):
        _assert_close(features[name], golden[f"out/{name}"])
    pooled = features["res5"].mean((1, 2))
    _assert_close(model.apply(variables, pooled, method="project"), golden["out/image_embedding"])
    image_embedding, text_embedding, scale = jax.jit(model.apply)(variables, image, tokens)
    _assert_close(image_embedding, _unit(golden["out/image_embedding"]))
    _assert_close(text_embedding, _unit(golden["out/text_embedding"]))
    assert float(scale) == pytest.approx(np.exp(3.0), rel=1e-6)


@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_random_openclip_convnext_atto_is_reproduced(open_clip, head):
    import torch

    text = {"context_length": 77, "vocab_size": 128, "width": 64, "heads": 4, "layers": 2}
    vision = {
        "timm_model_name": "convnext_atto",
        "timm_pool": "",
        "timm_proj": head,
        "image_size": 64,
    }
    oracle = open_clip.CLIP(embed_dim=64, vision_cfg=vision, text_cfg=text).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in oracle.named_parameters():
        if parameter.ndim == 1:  # gammas of 1e-6 would hide the blocks
            centre = 1.0 if name.endswith(("weight", "gamma")) else 0.0
            parameter.data.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    config = ClipConfig(
        depths=(2, 2, 6, 2),
        widths=(40, 80, 160, 320),
        embed_dim=64,
        head=head,
        text_width=64,
        text_heads=4,
        text_layers=2,
        vocab_size=128,
    )
    variables = _variables(config, {k: v.numpy() for k, v in oracle.state_dict().items()})
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (1, 64, 96, 3)).astype(np.float32)
    tokens = rng.integers(0, 126, (3, 77)).astype(np.int32)
    tokens[:, 0], tokens[[0, 1, 2], [5, 40, 76]] = 126, 127
    normalised = (image - config.image_mean) / config.image_std
    with torch.no_grad():
        oracle = oracle.double()
        expected_image = oracle.encode_image(torch.tensor(normalised).permute(0, 3, 1, 2))
        expected_text = oracle.encode_text(torch.tensor(tokens, dtype=torch.long))
    model = CLIP(config)
    got_image, got_text, _ = jax.jit(model.apply)(
        variables, jnp.asarray(image), jnp.asarray(tokens)
    )
    _assert_close(got_image, _unit(expected_image.numpy()))
    _assert_close(got_text, _unit(expected_text.numpy()))


def test_pooling_with_a_mask_of_ones_is_the_image_embedding(test_model):
    model, variables, image, _ = test_model

    @jax.jit
    def embed(variables, image):
        res5 = model.apply(variables, image, method="trunk_features")["res5"]
        pooled = mask_pooling(res5, jnp.ones((2, 1, 16, 16)), "binary")
        region = model.apply(variables, pooled, method="project")[:, 0]
        return region, model.apply(variables, image, method="encode_image")

    region, whole = embed(variables, image)
    np.testing.assert_allclose(_unit(region), whole, atol=1e-6)


def test_images_are_normalised_on_the_0_to_255_scale(test_model):
    model, variables, image, _ = test_model
    got = model.apply(variables, image, method="normalize_image")
    # The constants as OpenCLIP publishes them, for images in 0..1.
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(got, (np.asarray(image) / 255 - mean) / std, atol=1e-5)


def test_logit_scale_is_capped_at_100(test_model):
    model, variables, _, _ = test_model
    assert float(model.apply(variables, method="logit_scale")) == pytest.approx(1 / 0.07, rel=1e-5)
    params = {**variables["params"], "logit_scale": jnp.array(9.0)}
    assert float(model.apply({"params": params}, method="logit_scale")) == 100.0


def test_parameter_counts_of_the_large_model():
    params = _abstract(CLIP_VARIANTS["convnext_large_d_320"])["params"]

    def count(tree):
        return sum(x.size for x in jax.tree.leaves(tree))

    assert count(params["visual"]) + count(params["head"]) == 199_770_816
    assert count(params["text"]) + count(params["logit_scale"]) == 152_001_793


def test_bfloat16_stays_close_and_embeddings_stay_float32(test_model):
    model, variables, image, tokens = test_model
    half = jax.jit(CLIP(_TEST, dtype=jnp.bfloat16).apply)(variables, image, tokens)
    for got, want in zip(half, jax.jit(model.apply)(variables, image, tokens), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, want, atol=0.1)
