"""Losses of the phase clip against float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.losses import clip


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cross_entropy(logits, share):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -(share * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))).sum(axis=1)


def test_clip_loss():
    rng = np.random.default_rng(0)
    image, text = unit(rng, 6, 5), unit(rng, 6, 5)
    text[4] = text[1]
    args = jnp.asarray(image), jnp.asarray(text), jnp.float32(20)
    logits = 20 * image @ text.T
    plain = (cross_entropy(logits, np.eye(6)) + cross_entropy(logits.T, np.eye(6))).mean() / 2
    assert float(clip.clip_loss(*args)) == pytest.approx(plain, rel=1e-5)
    # Pairs 1 and 4 share a caption, so neither is a negative of the other.
    same = text @ text.T > 1 - 1e-9
    assert same.sum() == 8
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j == i or not same[i, j]]
        for row in (logits[i, others], logits[others, i]):
            total += np.log(np.exp(row).sum()) - logits[i, i]
    found = clip.clip_loss(*args, jnp.asarray(same))
    assert float(found) == pytest.approx(total / 12, rel=1e-5)
    assert total / 12 < plain - 1e-3


def test_word_loss_asks_for_the_rare_words_of_a_caption():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((3, 6))
    rarity = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 0.0])
    tokens = np.array([[5, 1, 3, 3], [4, 0, 0, 0], [5, 0, 0, 0]])  # The last has no word.
    target = np.zeros((3, 6))
    target[0, [1, 3]] = 0.2, 0.8
    target[1, 4] = 1.0
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(target * log_probs).sum() / 3
    found = clip.word_loss(jnp.asarray(logits), jnp.asarray(tokens), jnp.asarray(rarity))
    assert float(found) == pytest.approx(expected, rel=1e-5)
