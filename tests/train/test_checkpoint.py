"""Checkpoints give back the same bits, or say what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uniovseg_jax.train.checkpoint import Checkpointer
from uniovseg_jax.train.state import create_state


def make_state(seed=0, width=5, frozen=1.0):
    values = jax.random.normal(jax.random.key(seed), (3, width))
    params = {"a": {"kernel": values}, "b": {"kernel": jnp.full(2, frozen)}}
    return create_state(
        {"params": params, "fixed": {}}, ("b/.*",), optax.adamw(0.1), seed=seed, use_ema=True
    )


def save(tmp_path, state, step=7):
    checkpointer = Checkpointer(tmp_path, state.frozen)
    checkpointer.save(state.replace(step=jnp.array(step)), {"next_index": 3}, {"value": 0.5})
    checkpointer.close()


def restore(tmp_path, state):
    return Checkpointer(tmp_path, state.frozen).restore(state)


def test_restoring_gives_the_same_state_data_position_and_progress(tmp_path):
    state = make_state()
    save(tmp_path, state)
    other = make_state().replace(
        rng=jax.random.key(9), params=jax.tree.map(lambda x: x * 0, state.params)
    )
    restored, data_state, progress = Checkpointer(tmp_path, other.frozen).restore(other)
    assert int(restored.step) == 7
    assert data_state == {"next_index": 3} and progress == {"value": 0.5}
    jax.tree.map(np.testing.assert_array_equal, restored.params, state.params)
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, state.opt_state)
    assert jax.random.key_data(restored.rng).tolist() == jax.random.key_data(state.rng).tolist()


def test_without_a_checkpoint_nothing_is_restored(tmp_path):
    assert restore(tmp_path, make_state()) is None


def test_only_the_last_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, make_state(), step)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()} == {"2", "3"}


def test_another_shape_is_refused(tmp_path):
    save(tmp_path, make_state())
    with pytest.raises(
        ValueError,
        match=r"checkpoints/7 does not fit .*kernel is float32\[3, 5\], expected float32\[3, 6\]",
    ):
        restore(tmp_path, make_state(width=6))


def test_other_frozen_parameters_are_refused(tmp_path):
    save(tmp_path, make_state())
    with pytest.raises(ValueError, match="other frozen parameters"):
        restore(tmp_path, make_state(frozen=2.0))


def test_a_flipped_bit_is_noticed(tmp_path):
    save(tmp_path, make_state(width=4000))
    # The largest file holds the arrays.
    path = max((tmp_path / "checkpoints").rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        restore(tmp_path, make_state(width=4000))
