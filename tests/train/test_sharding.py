"""Several devices compute what one does."""

import re

import jax
import numpy as np
import optax
import pytest

from uniovseg_jax.train import optimizer, sharding, steps
from uniovseg_jax.train.compile_report import count_collectives
from uniovseg_jax.train.objectives import Objective
from uniovseg_jax.train.phases import make_phase
from uniovseg_jax.train.state import create_state, split_variables


def losses_of(config, phase, num_devices, fsdp=1, accumulate=1, num_steps=10):
    """Returns the losses of some steps, and the shardings of the state."""
    mesh = sharding.make_mesh(num_devices, fsdp)
    schedule = optimizer.make_schedule(config.optimizer, num_steps)
    params, _ = split_variables(phase.variables, config.freeze)
    tx = optimizer.make_optimizer(config.optimizer, params, schedule)
    # The step gives its input's memory away, but the phase's variables are used twice.
    variables = jax.tree.map(np.array, phase.variables)
    state = create_state(variables, config.freeze, tx, seed=0, use_ema=False)
    shardings = sharding.state_shardings(state, mesh, config.sharding_rules)
    state = sharding.place_state(state, shardings)
    objective = sharding.gather_first(phase.objective, mesh)
    step = steps.make_train_step(objective, tx, schedule, accumulate=accumulate)
    step = sharding.compile_step(step, mesh, shardings)
    batches, losses = iter(phase.batches), []
    for _ in range(num_steps):
        batch = sharding.shard_batch(next(batches), mesh)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, shardings


def check_eight_devices(config, workdir):
    phase = make_phase(config, workdir, sharding.make_mesh(1))
    (one, _), (eight, _) = (losses_of(config, phase, n) for n in (1, 8))
    assert one[0] != one[-1]
    np.testing.assert_allclose(eight, one, rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_train_clip_as_one_does(make_config, tmp_path):
    check_eight_devices(make_config("clip"), tmp_path)


@pytest.mark.parametrize("loss", ["cosine", "contrastive"])
def test_eight_devices_align_as_one_does(make_config, stage1_dir, pairs_dir, tmp_path, loss):
    config = make_config(
        "stage2", init=str(stage1_dir), data__pairs=str(pairs_dir), loss__name=loss
    )
    check_eight_devices(config, tmp_path)


@pytest.fixture(scope="module")
def stage1(make_config, tmp_path_factory):
    """Configuration and phase, and the losses of 20 steps on one device."""
    # One decoder layer: compiling a step takes most of the time here.
    config = make_config("stage1", batch_size=16, model__decoder_layers=1)
    phase = make_phase(config, tmp_path_factory.mktemp("stage1_phase"), sharding.make_mesh(1))
    losses, _ = losses_of(config, phase, 1, num_steps=20)
    assert losses[0] != losses[-1]
    return config, phase, losses


@pytest.mark.parametrize(
    ("num_devices", "fsdp", "accumulate"),
    [
        (8, 2, 2),
        pytest.param(8, 1, 1, marks=pytest.mark.slow),
        pytest.param(1, 1, 4, marks=pytest.mark.slow),
        pytest.param(8, 8, 1, marks=pytest.mark.slow),
    ],
)
def test_however_stage1_is_spread_its_losses_are_the_same(stage1, num_devices, fsdp, accumulate):
    config, phase, expected = stage1
    found, shardings = losses_of(config, phase, num_devices, fsdp, accumulate, num_steps=20)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    split = [s for s in jax.tree.leaves(shardings.params) if "fsdp" in str(s.spec)]
    assert bool(split) == (fsdp > 1)


def make_state(shapes):
    params = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    variables = {"params": {"a": params}, "fixed": {}}
    return create_state(variables, (), optax.adam(0.1), seed=0, use_ema=True)


def test_rules_split_parameters_and_their_moments_along_the_longest_axis():
    shapes = {"kernel": (64, 128), "odd": (63, 129), "bias": (8192,), "small": (8, 8)}
    rules = ((r"a/bias", "replicate"), (".*", "split"))
    found = sharding.state_shardings(make_state(shapes), sharding.make_mesh(8, 4), rules)
    moments = found.opt_state[0]
    for tree in (found.params, moments.mu, moments.nu, found.ema):
        specs = {name: tuple(leaf.spec) for name, leaf in tree["a"].items()}
        assert specs == {"kernel": (None, "fsdp"), "odd": (), "bias": (), "small": ()}
    assert found.step.spec == moments.count.spec == found.rng.spec == jax.P()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("b/.*", "split"),), "sharding_rules: 'b/.*' matches no parameter"),
        (((".*", "slice"),), "sharding_rules: '.*' has 'slice'; expected split or replicate"),
    ],
)
def test_wrong_rules_are_named(rules, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sharding.state_shardings(make_state({"k": (64, 64)}), sharding.make_mesh(2, 2), rules)


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


def test_a_split_of_parameters_must_divide_the_devices():
    with pytest.raises(ValueError, match="fsdp is 3; expected a divisor of the 8 devices"):
        sharding.make_mesh(8, 3)
    assert dict(sharding.make_mesh(8, 0).shape) == {"data": 1, "fsdp": 8}


def test_an_uneven_batch_is_an_error():
    mesh = sharding.make_mesh(8)
    sharding.check_batch_size(16, mesh)
    for size in (0, 12):
        with pytest.raises(ValueError, match=f"batch_size is {size}.*multiple of the 8 devices"):
            sharding.check_batch_size(size, mesh)
    with pytest.raises(ValueError, match="batch_size is 24.*8 devices times the 2 parts"):
        sharding.check_batch_size(24, mesh, accumulate=2)
    with pytest.raises(ValueError, match="accumulate is 0"):
        sharding.check_batch_size(24, mesh, accumulate=0)


def collected_bytes(mesh, gather):
    """Bytes that a device collects from others in a step of two convolutions."""

    def compute_loss(variables, batch, keys):
        x = batch["x"]
        for name in ("first", "second"):
            kernel = variables["params"]["a"][name]
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return x.sum(), {}

    objective = Objective(compute_loss)
    objective = sharding.gather_first(objective, mesh) if gather else objective
    state = make_state({"first": (3, 3, 32, 64), "second": (3, 3, 64, 32)})
    shardings = sharding.state_shardings(state, mesh, ((".*", "split"),))
    step = steps.make_train_step(objective, optax.adam(0.1), optax.constant_schedule(0.1))
    batch = {"x": jax.ShapeDtypeStruct((8, 32, 32, 32), np.float32)}
    compiled = sharding.compile_step(step, mesh, shardings).lower(state, batch).compile()
    traffic = count_collectives(compiled.as_text())
    return sum(traffic[k].num_bytes for k in traffic if k not in ("all-reduce", "reduce-scatter"))


def test_devices_exchange_parameters_and_not_maps_of_the_batch():
    mesh = sharding.make_mesh(8, 8)
    parameters = 2 * 4 * 9 * 32 * 64
    assert collected_bytes(mesh, gather=True) == parameters
    assert collected_bytes(mesh, gather=False) > 5 * parameters
