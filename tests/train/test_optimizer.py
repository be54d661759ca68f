"""Schedules by their values at chosen steps, AdamW against a float64 calculation by hand."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from uniovseg_jax.train import optimizer


def make_config(**changes):
    config = ml_collections.ConfigDict(
        {
            "learning_rate": 0.1,
            "schedule": "constant",
            "warmup_steps": 0,
            "milestones": (0.5, 0.75),
            "gamma": 0.1,
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.5,
            "clip_norm": 1.0,
            "no_decay": (".*bias",),
        }
    )
    config.update(changes)
    return config


def test_cosine_rises_in_the_warmup_and_ends_at_zero():
    schedule = optimizer.make_schedule(make_config(schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose(
        [schedule(s) for s in (0, 5, 10, 60, 110)], [0, 0.05, 0.1, 0.05, 0], atol=1e-7
    )


def test_multistep_falls_at_fractions_of_the_run():
    config = make_config(schedule="multistep", warmup_steps=4)
    schedule = optimizer.make_schedule(config, 100)
    np.testing.assert_allclose(
        [schedule(s) for s in (2, 10, 49, 51, 74, 76)],
        [0.05, 0.1, 0.1, 0.01, 0.01, 1e-3],
        rtol=1e-5,
    )


def test_unknown_schedule_and_too_long_warmup_are_refused():
    with pytest.raises(ValueError, match="linear.*cosine, multistep or constant"):
        optimizer.make_schedule(make_config(schedule="linear"), 10)
    with pytest.raises(ValueError, match="warmup_steps is 10"):
        optimizer.make_schedule(make_config(warmup_steps=10), 10)


def test_first_update_clips_and_decays_only_what_the_rules_allow():
    params = {"dense": {"kernel": jnp.array([2.0, -4.0]), "bias": jnp.array([3.0])}}
    grads = {"dense": {"kernel": jnp.array([3e-8, 0.0]), "bias": jnp.array([4e-8])}}
    config = make_config(clip_norm=1e-8)
    tx = optimizer.make_optimizer(config, params, optimizer.make_schedule(config, 10))
    updates, _ = tx.update(grads, tx.init(params), params)
    # The norm is 5e-8, so gradients are divided by 5; then Adam's first step is g / (|g| + eps).
    kernel = -0.1 * (np.array([0.6e-8 / (0.6e-8 + 1e-8), 0.0]) + 0.5 * np.array([2.0, -4.0]))
    bias = -0.1 * 0.8e-8 / (0.8e-8 + 1e-8)
    np.testing.assert_allclose(updates["dense"]["kernel"], kernel, rtol=1e-4)
    np.testing.assert_allclose(updates["dense"]["bias"], [bias], rtol=1e-4)


def test_a_decay_rule_that_matches_nothing_is_an_error():
    config = make_config(no_decay=("nrom/.*",))
    params = {"norm": {"scale": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"optimizer.no_decay: 'nrom/\.\*' matches no parameter"):
        optimizer.make_optimizer(config, params, lambda step: 0.1)


def test_the_average_is_short_at_first_and_long_later():
    ema, params = {"w": jnp.zeros(1)}, {"w": jnp.ones(1)}
    early = optimizer.update_ema(ema, params, jnp.array(0), decay=0.99)["w"]
    late = optimizer.update_ema(ema, params, jnp.array(10**6), decay=0.99)["w"]
    np.testing.assert_allclose(jax.device_get((early, late)), [[0.9], [0.01]], rtol=1e-4)
