"""Text embeddings on disk: the same vectors, never those of another model, never a damaged file."""

import dataclasses

import jax
import numpy as np
import pytest

from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.text_cache import TextCache
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained


def make_model(seed):
    config = get_preset("test")
    tokenizer = train_tokenizer(["a red ball on the grass"], config.clip.vocab_size, 32)
    variables = init_variables(config, jax.random.key(seed), ("clip",))
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, ("clip",), {})


@pytest.fixture(scope="module")
def model():
    return make_model(0)


def test_vectors_are_kept_and_the_text_tower_is_not_asked_again(model, tmp_path, monkeypatch):
    first = TextEncoder(model, "single", tmp_path).embed(["ball", "grass"])
    monkeypatch.setattr(TextEncoder, "_encode_padded", None)  # Would fail when called.
    again = TextEncoder(model, "single", tmp_path).embed(["grass", "ball"])
    np.testing.assert_array_equal(again[::-1], first)
    monkeypatch.undo()
    more = TextEncoder(model, "single", tmp_path).embed(["ball", "tree"])
    np.testing.assert_array_equal(more[0], first[0])
    np.testing.assert_allclose(
        more, TextEncoder(model, "single").embed(["ball", "tree"]), atol=1e-6
    )
    assert len(list(tmp_path.iterdir())) == 1


def test_models_prompts_and_tokenizers_do_not_share_vectors(model, tmp_path):
    TextEncoder(model, "single", tmp_path).embed(["ball"])
    TextEncoder(model, "vild14", tmp_path).embed(["ball"])
    TextEncoder(make_model(1), "single", tmp_path).embed(["ball"])
    other = train_tokenizer(["grass ball"], get_preset("test").clip.vocab_size, 32)
    TextEncoder(dataclasses.replace(model, tokenizer=other), "single", tmp_path).embed(["ball"])
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_damaged_file_is_made_again(model, tmp_path, content):
    expected = TextEncoder(model, "single", tmp_path).embed(["ball"])
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    found = TextEncoder(model, "single", tmp_path).embed(["ball"])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert TextCache(tmp_path, path.stem).read().keys() == {"ball"}


def test_a_flipped_bit_is_not_trusted(tmp_path):
    cache = TextCache(tmp_path, "x")
    cache.add({"a": np.float32([0.5, 1])})
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert cache.read() == {}


def test_vectors_that_are_not_finite_are_not_trusted(tmp_path):
    cache = TextCache(tmp_path, "x")
    cache.add({"a": np.float32([np.nan, 1])})
    assert cache.read() == {}
    cache.add({"b": np.float32([0, 1])})
    assert list(cache.read()) == ["b"]
