"""The update: parts of a batch add up to it, and what is not finite changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uniovseg_jax.train import sharding, steps
from uniovseg_jax.train.objectives import Objective
from uniovseg_jax.train.state import create_state


@jax.custom_vjp
def zero_with_slope(c, slope):
    """Zeros, whose derivative by `c` is `slope`."""
    return jnp.zeros_like(slope) * c


zero_with_slope.defvjp(
    lambda c, slope: (jnp.zeros_like(slope), slope),
    lambda slope, g: (jnp.sum(slope * g), jnp.zeros_like(slope)),
)


def compute_loss(variables, batch, keys):
    """A weighted mean with noise of each example's own; `bad` and `bad_gradient` spoil it."""
    params = variables["params"]
    noise = jax.vmap(jax.random.normal)(keys)
    errors = (batch["x"] @ params["w"] + params["b"] + 0.1 * noise - batch["y"]) ** 2
    spoiled = zero_with_slope(params["c"], batch["bad_gradient"])
    loss = jnp.sum((errors + spoiled) * batch["weight"])
    return loss, {"errors": jnp.sum(errors), "noise": jnp.sum(noise)}


def weigh(batch):
    count = jnp.sum(batch["valid"])
    return batch | {"weight": batch["valid"] / count}


OBJECTIVE = Objective(compute_loss, weigh)
OPTIMIZER = optax.adam(0.1)


def make_batch(seed=0, count=16):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((count, 3)).astype(np.float32),
        "y": rng.standard_normal(count).astype(np.float32),
        "valid": (rng.random(count) < 0.6).astype(np.float32),
        "bad_gradient": np.zeros(count, np.float32),
    }


def run(batches, accumulate=1, num_devices=1):
    mesh = sharding.make_mesh(num_devices)
    params = {"w": jnp.ones(3), "b": jnp.zeros(()), "c": jnp.zeros(())}
    variables = {"params": params, "fixed": {}}
    state = create_state(variables, (), OPTIMIZER, seed=3, use_ema=True)
    shardings = sharding.state_shardings(state, mesh)
    state = sharding.place_state(state, shardings)
    schedule = optax.constant_schedule(0.1)
    step = steps.make_train_step(OBJECTIVE, OPTIMIZER, schedule, 0.9, accumulate)
    step = sharding.compile_step(step, mesh, shardings)
    rows = []
    for batch in batches:
        state, metrics = step(state, sharding.shard_batch(batch, mesh))
        rows.append(jax.device_get(metrics))
    return jax.device_get((state.params, state.opt_state, state.ema)), rows


@pytest.mark.parametrize("num_devices", [1, 2])
@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_the_parts_of_a_batch_give_what_the_whole_gives(accumulate, num_devices):
    batches = [make_batch(seed) for seed in range(5)]
    expected, expected_rows = run(batches)
    found, rows = run(batches, accumulate, num_devices)
    for one, many in zip(expected_rows, rows, strict=True):
        assert set(one) == set(many)
        for name, value in one.items():
            np.testing.assert_allclose(many[name], value, rtol=1e-5, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, expected
    )


@pytest.mark.parametrize("num_devices", [1, 8])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "bad_gradient"])
def test_a_step_that_is_not_finite_changes_nothing(where, value, num_devices):
    good, bad = make_batch(0), make_batch(1)
    if where == "x":  # One example, on one of the devices: loss and all gradients.
        bad["x"][11, 1] = value
        bad["valid"][11] = 1
    else:  # The loss stays finite.
        bad["bad_gradient"][5] = value
        bad["valid"][5] = 1
    before, _ = run([good], num_devices=num_devices)
    after, rows = run([good, bad, bad], num_devices=num_devices)
    assert [int(row["skipped"]) for row in rows] == [0, 1, 2]
    assert [int(row["skipped_in_row"]) for row in rows] == [0, 1, 2]
    if where == "bad_gradient":
        assert np.isfinite(rows[1]["loss"]) and not np.isfinite(rows[1]["grad_norm"])
    jax.tree.map(np.testing.assert_array_equal, after, before)
    _, rows = run([good, bad, make_batch(2)], num_devices=num_devices)
    assert int(rows[2]["skipped"]) == 1 and int(rows[2]["skipped_in_row"]) == 0


def test_a_loss_over_the_whole_batch_cannot_be_split():
    with pytest.raises(ValueError, match="accumulate is 2, but the loss .* compares all examples"):
        steps.make_train_step(
            Objective(compute_loss), OPTIMIZER, optax.constant_schedule(0.1), accumulate=2
        )
