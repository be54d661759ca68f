"""Losses of the phase stage2 against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.losses import stage2


def unit(rng, *shape):
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cross_entropy(logits, share):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -(share * (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))).sum(axis=1)


def test_alignment_losses():
    rng = np.random.default_rng(1)
    regions, names = unit(rng, 7, 5), unit(rng, 3, 5)
    ids = np.array([2, 0, 2, 1, 0, 1, 1])
    valid = np.array([True, True, True, False, True, False, False])  # entity 1 never counts
    args = jnp.asarray(regions), jnp.asarray(names[ids])
    cosine = stage2.alignment_cosine_loss(*args, jnp.asarray(valid))
    expected = (1 - (regions * names[ids]).sum(axis=1))[valid].mean()
    assert float(cosine) == pytest.approx(expected, rel=1e-5)

    share = np.eye(2)[np.where(ids == 2, 1, 0)]
    expected = cross_entropy(10 * regions @ names[[0, 2]].T, share)[valid].mean()
    contrastive = stage2.alignment_contrastive_loss(
        *args, jnp.asarray(ids), jnp.float32(10), jnp.asarray(valid)
    )
    assert float(contrastive) == pytest.approx(expected, rel=1e-5)

    nothing = jnp.zeros(7, bool)
    assert stage2.alignment_cosine_loss(*args, nothing) == 0
    value, gradient = jax.value_and_grad(stage2.alignment_contrastive_loss)(
        *args, jnp.asarray(ids), jnp.float32(10), nothing
    )
    assert value == 0 and (gradient == 0).all()
