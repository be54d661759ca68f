"""Losses of the phases as functions of variables and batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.models.clip import CLIP
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.train import objectives

CONFIG = get_preset("test")
MODEL = UniOVSeg(CONFIG)


@pytest.fixture(scope="module")
def variables():
    return init_variables(CONFIG, jax.random.key(0), ("clip",))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 500, (8, 32)).astype(np.int32)
    images = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    arrays = {"image": images, "tokens": tokens, "caption": tokens}
    return jax.tree.map(jnp.asarray, arrays)


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_a_mosaic_embeds_each_picture_from_its_own_quarter(variables, batch):
    images = batch["image"]
    found = MODEL.apply(variables, images, method=lambda m, images: m.clip.encode_mosaics(images))
    for first in (0, 4):
        a, b, c, d = images[first : first + 4]
        large = jnp.concatenate([jnp.concatenate([a, b], 1), jnp.concatenate([c, d], 1)])
        res5 = MODEL.apply(variables, large[None], method=UniOVSeg.encode_trunk)["res5"]
        quarters = [res5[0, i : i + 2, j : j + 2].mean((0, 1)) for i in (0, 2) for j in (0, 2)]
        expected = MODEL.apply(
            variables, jnp.stack(quarters), method=lambda m, x: m.clip.project(x)
        )
        np.testing.assert_allclose(found[first : first + 4], _unit(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("share", "count", "tiled"),
    [(0.0, 8, 0), (0.5, 8, 4), (0.75, 8, 4), (1.0, 8, 8), (0.75, 3, 0), (1.0, 7, 4)],
)
def test_the_share_of_mosaics_is_rounded_down_to_fours(
    variables, batch, share, count, tiled, monkeypatch
):
    seen = []
    original = CLIP.encode_mosaics

    def spy(clip, images):
        seen.append(len(images))
        return original(clip, images)

    monkeypatch.setattr(CLIP, "encode_mosaics", spy)
    part = {name: rows[:count] for name, rows in batch.items()}
    value, metrics = objectives.make_clip_loss(MODEL, share)(variables, part, jax.random.key(0))
    assert sum(seen) == tiled and np.isfinite(value) and metrics["contrastive"] == value


def test_what_is_no_share_is_refused():
    with pytest.raises(ValueError, match="loss.mosaic_share is 1.5; expected 0 to 1"):
        objectives.make_clip_loss(MODEL, 1.5)


def test_without_mosaics_and_words_it_is_the_plain_contrastive_loss(variables, batch):
    value, _ = objectives.make_clip_loss(MODEL)(variables, batch, jax.random.key(0))
    image, text, scale = MODEL.apply(
        variables, batch["image"], batch["tokens"], method=lambda m, *x: m.clip(*x)
    )
    logits = np.asarray(scale * image @ text.T, np.float64)
    total = np.log(np.exp(logits).sum(0)) / 2 + np.log(np.exp(logits).sum(1)) / 2
    assert float(value) == pytest.approx(np.mean(total - np.diag(logits)), rel=1e-4)
