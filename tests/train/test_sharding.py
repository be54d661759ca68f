"""Several devices compute what one does."""

import jax
import numpy as np
import pytest

from uniovseg_jax.train import optimizer, sharding, steps
from uniovseg_jax.train.phases import make_phase
from uniovseg_jax.train.state import create_state, split_variables


def losses_of(config, phase, num_devices):
    """Returns the losses of ten steps."""
    mesh = sharding.make_mesh(num_devices)
    schedule = optimizer.make_schedule(config.optimizer, 10)
    params, _ = split_variables(phase.variables, config.freeze)
    tx = optimizer.make_optimizer(config.optimizer, params, schedule)
    # The step gives its input's memory away, but the phase's variables are used twice.
    variables = jax.tree.map(np.array, phase.variables)
    state = create_state(variables, config.freeze, tx, seed=0, use_ema=False)
    shardings = sharding.state_shardings(state, mesh)
    state = sharding.place_state(state, shardings)
    step = steps.make_train_step(phase.objective, tx, schedule)
    step = sharding.compile_step(step, mesh, shardings)
    batches, losses = iter(phase.batches), []
    for _ in range(10):
        batch = sharding.shard_batch(next(batches), mesh)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses


def check_eight_devices(config, workdir):
    phase = make_phase(config, workdir)
    one, eight = (losses_of(config, phase, n) for n in (1, 8))
    assert one[0] != one[-1]
    np.testing.assert_allclose(eight, one, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "stage1"])
def test_eight_devices_give_the_losses_of_one(make_config, tmp_path, name):
    check_eight_devices(make_config(name), tmp_path)


@pytest.mark.parametrize("loss", ["cosine", "contrastive"])
def test_eight_devices_align_as_one_does(make_config, stage1_dir, pairs_dir, tmp_path, loss):
    config = make_config(
        "stage2", init=str(stage1_dir), data__pairs=str(pairs_dir), loss__name=loss
    )
    check_eight_devices(config, tmp_path)


def test_a_batch_is_split_and_a_state_is_copied():
    mesh = sharding.make_mesh(4)
    batch = sharding.shard_batch({"x": np.arange(8.0)}, mesh)["x"]
    assert [shard.data.tolist() for shard in batch.addressable_shards] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    copied = jax.device_put(np.arange(3.0), sharding.replicated(mesh))
    assert all(shard.data.shape == (3,) for shard in copied.addressable_shards)


def test_more_devices_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="num_devices is 99, but there are 8 devices"):
        sharding.make_mesh(99)


def test_an_uneven_batch_is_an_error():
    mesh = sharding.make_mesh(8)
    sharding.check_batch_size(16, mesh)
    for size in (0, 12):
        with pytest.raises(ValueError, match=f"batch_size is {size}.*multiple of the 8 devices"):
            sharding.check_batch_size(size, mesh)
