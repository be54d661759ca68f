"""The loop as a whole: what a run leaves behind, and that stopping it changes nothing."""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.data import pipeline
from uniovseg_jax.locks import held_alone
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.train import loop
from uniovseg_jax.train.objectives import Objective
from uniovseg_jax.train.phase import Phase
from uniovseg_jax.weights.store import load_pretrained, params_sha256


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def clip_run(tmp_path_factory):
    """Lets the tests of this module share one run."""
    return tmp_path_factory.mktemp("clip_run")


def clip_config(make_config):
    return make_config("clip", total_steps=6, checkpoint__every=3, evals__every=6)


def test_a_run_leaves_a_model_metrics_and_a_final_line(make_config, clip_run):
    final = loop.train(clip_config(make_config), clip_run)
    assert final == json.loads((clip_run / "final.json").read_text())
    assert final["step"] == final["selected_step"] == 6
    assert 0 <= final["metrics"]["retrieval"] <= 100
    pretrained = load_pretrained(clip_run / "model")
    assert pretrained.parts == ("clip",)
    assert set(pretrained.variables["params"]) == {"clip"}  # Without the head of the loss.
    assert params_sha256(pretrained.variables) == final["params_sha256"]
    assert pretrained.metadata["metrics"] == final["metrics"]
    steps = [line["step"] for line in read(clip_run / "metrics.jsonl") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert all(line["step_seconds"] > 0 for line in read(clip_run / "timings.jsonl"))


def test_a_run_that_was_stopped_ends_with_the_same_bytes(make_config, clip_run, tmp_path):
    if not (clip_run / "final.json").exists():
        pytest.skip("the uninterrupted run is missing")
    shutil.copytree(clip_run, tmp_path / "run")
    # As if it had been killed after the checkpoint of step 3.
    for name in ("model", "checkpoints/6"):
        shutil.rmtree(tmp_path / "run" / name)
    (tmp_path / "run" / "final.json").unlink()
    loop.train(clip_config(make_config), tmp_path / "run")
    for name in ("final.json", "metrics.jsonl", "model/params.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (clip_run / name).read_bytes(), name


def test_a_run_that_is_done_is_left_as_it_is(make_config, clip_run):
    if not (clip_run / "final.json").exists():
        pytest.skip("the uninterrupted run is missing")
    before = (clip_run / "final.json").read_bytes()
    loop.train(clip_config(make_config), clip_run)
    assert (clip_run / "final.json").read_bytes() == before


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_written(make_config, tmp_path):
    config = make_config("clip", batch_size=7, num_devices=2)
    with pytest.raises(ValueError, match="batch_size is 7.*2 devices"):
        loop.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def make_fake_phase(scores, bad_step=None):
    """A phase of one parameter whose retrieval follows a script."""
    scores = iter(scores)

    def transform(position, record):
        bad = bad_step is not None and position // 8 == bad_step - 1
        return {"x": np.float32(np.nan if bad else 1.0)}

    return Phase(
        model_config=get_preset("test"),
        tokenizer=None,
        parts=("clip",),
        variables={"params": {"w": jnp.ones(2)}, "fixed": {}},
        batches=pipeline.make_batches([0], transform, batch_size=8, seed=0),
        objective=Objective(
            lambda v, batch, keys: (jnp.sum(v["params"]["w"]) * jnp.mean(batch["x"]), {})
        ),
        evaluate=lambda variables: {"retrieval": next(scores)},
    )


@pytest.fixture
def fake_run(make_config, monkeypatch, tmp_path):
    def run(phase, **changes):
        saved = []
        monkeypatch.setattr(loop, "make_phase", lambda *_: phase)
        monkeypatch.setattr(loop, "save_pretrained", lambda *a, **k: saved.append(k["metadata"]))
        changes = {"evals__patience": 0, "evals__every": 1, **changes}
        config = make_config("clip", total_steps=6, **changes)
        config.optimizer.no_decay = ()
        return loop.train(config, tmp_path), saved

    return run


def test_the_best_parameters_by_the_chosen_metric_are_kept(fake_run):
    final, saved = fake_run(make_fake_phase([10.0, 30.0, 20.0, 30.0, 25.0, 5.0]))
    assert [entry["step"] for entry in saved] == [1, 2]
    assert (final["step"], final["selected_step"]) == (6, 2)
    assert final["metrics"] == {"retrieval": 30.0}


def test_training_stops_when_patience_is_at_its_end(fake_run):
    final, _ = fake_run(make_fake_phase([10.0, 30.0, 20.0, 20.0]), evals__patience=2)
    assert (final["step"], final["selected_step"]) == (4, 2)


def test_without_a_chosen_metric_the_last_parameters_are_kept(fake_run):
    final, _ = fake_run(make_fake_phase([3.0, 2.0, 1.0, 0.0, 0.0, 0.0]), evals__select="")
    assert final["selected_step"] == 6


def test_a_second_trainer_is_refused_and_hears_who_is_first(make_config, tmp_path):
    with held_alone(tmp_path, "trainer"):
        with pytest.raises(ValueError, match=f"in use by another trainer .process {os.getpid()} "):
            loop.train(make_config("clip"), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_happens_every_0_steps_happens_at_the_end_alone(fake_run, tmp_path):
    final, saved = fake_run(
        make_fake_phase([1.0]), evals__every=0, log__every=0, checkpoint__every=0
    )
    assert final["metrics"] == {"retrieval": 1.0} and [entry["step"] for entry in saved] == [6]
    lines = [json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["step"] for line in lines} == {6}


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_step(fake_run, tmp_path):
    with pytest.raises(FloatingPointError, match="loss is nan at step 3"):
        fake_run(make_fake_phase([1.0] * 6, bad_step=3), checkpoint__every=1, max_skipped_in_row=0)
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()}
    assert kept == {"1", "2"}
