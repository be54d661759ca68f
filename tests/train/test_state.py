"""Which parameters train."""

import jax.numpy as jnp
import optax
import pytest

from uniovseg_jax.train import state as state_lib

VARIABLES = {
    "params": {"clip": {"kernel": jnp.ones(2)}, "decoder": {"kernel": jnp.zeros(3)}},
    "fixed": {"decoder": {"matrix": jnp.ones((2, 4))}},
}


def test_frozen_parameters_have_no_optimizer_state_and_come_back_when_merged():
    state = state_lib.create_state(VARIABLES, ("clip/.*",), optax.adam(0.1), seed=0, use_ema=True)
    assert list(state.params) == ["decoder"]
    assert state.opt_state[0].mu["decoder"]["kernel"].shape == (3,)
    assert "clip" not in state.opt_state[0].mu
    merged = state_lib.merge_variables(state.saved_params, state.frozen)
    assert merged["params"].keys() == VARIABLES["params"].keys()
    assert merged["params"]["clip"]["kernel"] is VARIABLES["params"]["clip"]["kernel"]
    assert merged["fixed"] is VARIABLES["fixed"]


def test_saved_parameters_are_the_average_where_there_is_one():
    state = state_lib.create_state(VARIABLES, (), optax.sgd(0.1), seed=0, use_ema=True)
    assert state.saved_params is state.ema
    assert state.replace(ema=None).saved_params is state.params


def test_a_freeze_rule_that_matches_nothing_is_an_error():
    with pytest.raises(ValueError, match="freeze: 'clp/.*' matches no parameter"):
        state_lib.split_variables(VARIABLES, ("clp/.*",))


def test_freezing_everything_is_an_error():
    with pytest.raises(ValueError, match="nothing is left to train"):
        state_lib.split_variables(VARIABLES, (".*",))
