"""The text side of the classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.prompt_templates import TEMPLATES
from uniovseg_jax.text_encoder import TextEncoder, class_cosines
from uniovseg_jax.vocabulary import parse_vocabulary
from uniovseg_jax.weights.store import Pretrained

CONFIG = get_preset("test")


@pytest.fixture(scope="module")
def pretrained():
    clip = CONFIG.clip
    return Pretrained(
        model=UniOVSeg(CONFIG),
        config=CONFIG,
        variables=init_variables(CONFIG, jax.random.key(0), ("clip",)),
        tokenizer=train_tokenizer(["a photo of a red ball"], clip.vocab_size, clip.context_length),
        parts=("clip",),
        metadata={},
    )


@pytest.fixture(scope="module")
def encoder(pretrained):
    return TextEncoder(pretrained, "single")


def test_a_name_is_the_normalised_mean_of_its_normalised_prompts(pretrained):
    found = TextEncoder(pretrained, "vild14").embed(["ball", "grass"])
    for name, vector in zip(["ball", "grass"], found, strict=True):
        prompts = [t.format(name) for t in TEMPLATES["vild14"]]
        tokens = jnp.asarray(pretrained.tokenizer(prompts))
        text = pretrained.model.apply(pretrained.variables, tokens, method=UniOVSeg.encode_text)
        text = np.asarray(text, np.float64)
        mean = (text / np.linalg.norm(text, axis=1, keepdims=True)).mean(0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_batching_does_not_change_a_vector(encoder, pretrained):
    names = [f"thing {i}" for i in range(40)]
    together = encoder.embed(names)
    alone = np.concatenate([TextEncoder(pretrained, "single").embed([n]) for n in names[::13]])
    np.testing.assert_allclose(together[::13], alone, atol=1e-6)


def test_one_by_one_not_a_bit_depends_on_the_other_names(pretrained):
    names, templates = [f"thing {i}" for i in range(40)], ("a {}", "the {}")
    together = TextEncoder(pretrained, templates, one_by_one=True).embed(names)
    encoder = TextEncoder(pretrained, templates, one_by_one=True)
    parts = [encoder.embed(names[start : start + 7][::-1])[::-1] for start in range(0, 40, 7)]
    np.testing.assert_array_equal(together, np.concatenate(parts))


def _compilations(action):
    """Counts what XLA compiles, or fetches from its cache, while `action` runs."""
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event) if "backend_compile" in event else None
    )
    before = len(events)
    action()
    return len(events) - before


def test_a_new_vocabulary_of_the_same_bucket_compiles_nothing_anew(pretrained):
    encoder = TextEncoder(pretrained, "single")
    assert _compilations(lambda: encoder.embed([f"first {i}" for i in range(20)])) > 0
    assert _compilations(lambda: encoder.embed([f"other {i}" for i in range(31)])) == 0


def test_known_names_are_not_encoded_again(pretrained, monkeypatch):
    encoder = TextEncoder(pretrained, "single")
    first = encoder.embed(["ball", "grass", "ball"])
    np.testing.assert_array_equal(first[0], first[2])
    monkeypatch.setattr(encoder, "_encode", None)
    np.testing.assert_array_equal(encoder.embed(["grass", "ball"]), first[[1, 0]])


def test_three_thousand_names_work(encoder):
    vectors = encoder.embed(parse_vocabulary([f"name {i}" for i in range(3000)]).names)
    assert vectors.shape == (3000, CONFIG.clip.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_name_that_is_too_long_is_refused_by_name_and_count(encoder):
    with pytest.raises(ValueError, match=r"'very very .*' is too long: \d+ tokens.* at most 32"):
        encoder.embed(["ball", "very " * 40 + "long"])


def test_missing_text_towers_unknown_templates_and_no_names_are_refused(pretrained, encoder):
    with pytest.raises(ValueError, match="Unknown templates 'vild'"):
        TextEncoder(pretrained, "vild")
    with pytest.raises(ValueError, match="at least one, each with {}"):
        TextEncoder(pretrained, ["a photo"])
    with pytest.raises(ValueError, match="no name"):
        encoder.embed([])
    masks = Pretrained(pretrained.model, CONFIG, {}, None, ("masks",), {})
    with pytest.raises(ValueError, match="part clip"):
        TextEncoder(masks)


def test_the_cosine_with_a_class_is_that_with_its_nearest_name():
    regions = np.eye(3, dtype=np.float32)[:2]
    names = np.array([[0.6, 0.8, 0], [0.0, 0.0, 1.0], [0.8, 0.6, 0]], np.float32)
    found = class_cosines(regions, names, np.array([0, 1, 1]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.8, 0.6]])
