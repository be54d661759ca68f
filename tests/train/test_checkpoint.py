"""Checkpoints give back the same bits, or say what is wrong."""

import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uniovseg_jax.train import sharding
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


def change(state, **trees):
    return state.replace(**trees)


MISFITS = {
    "shape": (lambda s: make_state(width=6), r"is float32\[3, 5\], expected float32\[3, 6\]"),
    "rank": (
        lambda s: change(s, params={"a": {"kernel": jnp.zeros(15)}}),
        r"is float32\[3, 5\], expected float32\[15\]",
    ),
    "dtype": (
        lambda s: change(s, params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), s.params)),
        r"is float32\[3, 5\], expected bfloat16\[3, 5\]",
    ),
    "integer": (
        lambda s: change(s, skipped=jnp.zeros((), jnp.float32)),
        r"skipped is int32\[\], expected float32\[\]",
    ),
    "missing": (
        lambda s: change(s, params=s.params | {"c": jnp.zeros(2)}),
        r"params/c is missing, expected float32\[2\]",
    ),
    "extra": (
        lambda s: change(s, params={"d": jnp.zeros(2)}),
        r"params/a/kernel is float32\[3, 5\], expected missing",
    ),
    "renamed": (
        lambda s: change(s, params={"a": {"weight": s.params["a"]["kernel"]}}),
        r"params/a/kernel is .*, expected missing; params/a/weight is missing",
    ),
    "vocabulary": (
        lambda s: change(s, params={"a": {"kernel": jnp.zeros((4, 5))}}),
        r"params/a/kernel is float32\[3, 5\], expected float32\[4, 5\]",
    ),
    "moment": (
        lambda s: change(s, opt_state=optax.adamw(0.1, mu_dtype=jnp.bfloat16).init(s.params)),
        r"mu/a/kernel is float32\[3, 5\], expected bfloat16\[3, 5\]",
    ),
    "key": (
        lambda s: change(s, rng=jax.random.key(0, impl="rbg")),
        r"rng is .*, expected ",
    ),
    "average": (lambda s: change(s, ema=None), r"ema/a/kernel is .*, expected missing"),
    "optimizer": (
        lambda s: change(s, opt_state=optax.sgd(0.1, momentum=0.9).init(s.params)),
        r"opt_state/0/count is int32\[\], expected missing",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_another_state_is_refused_before_it_is_read(tmp_path, name):
    save(tmp_path, make_state())
    make, message = MISFITS[name]
    with pytest.raises(ValueError, match=f"checkpoints/7 does not fit.*{message}"):
        restore(tmp_path, make(make_state()))
    assert (tmp_path / "checkpoints" / "7").is_dir()


def test_other_frozen_parameters_are_refused(tmp_path):
    save(tmp_path, make_state())
    with pytest.raises(ValueError, match="other frozen parameters"):
        restore(tmp_path, make_state(frozen=2.0))


def damage(kind, path, rng):
    """Damages a file; returns False where that would change nothing."""
    data = bytearray(path.read_bytes())
    if kind == "delete":
        path.unlink()
        return True
    if not data:
        return False
    if kind == "truncate":
        path.write_bytes(data[: rng.integers(len(data))])
    else:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
    return True


# Orbax leaves coroutines behind when it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize(("kind", "count"), [("truncate", 60), ("delete", 40), ("flip", 100)])
def test_whatever_is_damaged_the_checkpoint_before_it_is_used(tmp_path, kind, count):
    rng = np.random.default_rng(0)
    states = {step: make_state(seed=step, width=400) for step in (3, 7)}
    for step, state in states.items():
        save(tmp_path / "good", state, step)
    files = [p for p in (tmp_path / "good/checkpoints/7").rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    num_fallen_back = 0
    for trial in range(count):
        workdir = tmp_path / f"trial{trial}"
        shutil.copytree(tmp_path / "good", workdir)
        # The largest, which holds the arrays, and the others in turn.
        path = largest if trial % 2 == 0 else files[trial % len(files)]
        if not damage(kind, workdir / path.relative_to(tmp_path / "good"), rng):
            continue
        restored = restore(workdir, make_state(seed=1, width=400))
        assert restored is not None
        step = int(restored[0].step)
        # A byte that nobody reads may be damaged without harm; nothing wrong is ever returned.
        for name in ("params", "opt_state", "ema"):
            jax.tree.map(
                np.testing.assert_array_equal,
                getattr(restored[0], name),
                getattr(states[step], name),
            )
        if step == 3:
            num_fallen_back += 1
            assert (workdir / "damaged_checkpoints" / "7").is_dir()
            assert not (workdir / "checkpoints" / "7").exists()
        shutil.rmtree(workdir)
    assert num_fallen_back >= count // 2


def test_after_falling_back_the_same_step_is_saved_anew(tmp_path):
    for step in (3, 7):
        save(tmp_path, make_state(seed=step), step)
    (tmp_path / "checkpoints/7/notes/metadata").unlink()
    checkpointer = Checkpointer(tmp_path, make_state().frozen)
    restored = checkpointer.restore(make_state())
    assert restored is not None and int(restored[0].step) == 3
    checkpointer.save(make_state(seed=9).replace(step=jnp.array(7)), {}, {})
    checkpointer.close()
    again = restore(tmp_path, make_state())
    assert again is not None and int(again[0].step) == 7


def test_when_all_are_damaged_it_says_so(tmp_path):
    for step in (3, 7):
        save(tmp_path, make_state(), step)
        (tmp_path / f"checkpoints/{step}/notes/metadata").write_text("{")
    with pytest.raises(ValueError, match="No checkpoint is left to go on from.*checkpoints/7"):
        restore(tmp_path, make_state())


def test_a_full_disk_is_named_and_earlier_checkpoints_stay(tmp_path):
    code = f"""
import resource, sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
from test_checkpoint import make_state, save
save(__import__("pathlib").Path({str(tmp_path)!r}), make_state(), 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
__import__("signal").signal(__import__("signal").SIGXFSZ, __import__("signal").SIG_IGN)
try:
    save(__import__("pathlib").Path({str(tmp_path)!r}), make_state(width=40000), 7)
except OSError as error:
    print("OSError:", error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OSError: The checkpoint of step 7 cannot be written to" in result.stdout, result.stderr
    restored = restore(tmp_path, make_state())
    assert restored is not None and int(restored[0].step) == 3


MESHES = ((8, 1), (8, 2), (8, 4), (4, 2), (2, 1), (1, 1))  # Devices, and those of `fsdp`.


@pytest.mark.parametrize("source", MESHES)
def test_a_state_goes_on_with_any_other_mesh(tmp_path, source):
    state = make_state(width=4000)
    x = jax.random.normal(jax.random.key(1), (8, 3))

    def placed(shape):
        mesh = sharding.make_mesh(*shape)
        where = sharding.state_shardings(state, mesh, ((".*", "split"),))
        return sharding.place_state(state, where), where, mesh

    def next_loss(state, where, mesh):
        def step(state, batch):
            return state, {"loss": jnp.tanh(batch @ state.params["a"]["kernel"]).mean()}

        batch = jax.device_put(x, sharding.split_by_example(mesh))
        # The step gives the memory of its state away.
        state = jax.tree.map(lambda leaf: leaf.copy(), state)
        return float(sharding.compile_step(step, mesh, where)(state, batch)[1]["loss"])

    before = placed(source)
    save(tmp_path, before[0])
    expected = next_loss(*before)
    for shape in MESHES:
        target, where, mesh = placed(shape)
        restored = restore(tmp_path, target)
        assert restored is not None
        jax.tree.map(np.testing.assert_array_equal, restored[0].params, state.params)
        jax.tree.map(np.testing.assert_array_equal, restored[0].opt_state, state.opt_state)
        assert restored[0].params["a"]["kernel"].sharding == where.params["a"]["kernel"]
        assert next_loss(restored[0], where, mesh) == pytest.approx(expected, rel=1e-6)
