"""What an ablation takes from an earlier call, and what it does anew."""

import json
import pathlib

import ml_collections
import numpy as np
import pytest

from uniovseg_jax.ablation import run as run_lib
from uniovseg_jax.ablation.run import Ablation, run_ablation
from uniovseg_jax.alignment.store_writer import write_targets
from uniovseg_jax.train.default_config import default_config, stage2_data
from uniovseg_jax.weights.store import load_pretrained

STAGE1 = pathlib.Path(__file__).parents[2] / "uniovseg_jax" / "assets" / "tinyscenes_stage1"


def get_config(options, **changes):
    """Stands for that of configs/tinyscenes.py."""
    config = default_config("stage2", "test", seed=0)
    config.total_steps, config.batch_size = 10, 4
    config.data = stage2_data(directory="", seed=0)
    config.loss = ml_collections.ConfigDict({"name": "cosine"})
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def make_ablation(output, model="model", data="data", **changes):
    return Ablation(
        config=ml_collections.ConfigDict({"tiny": True, "rows": {"raw": {"loss": "cosine"}}}),
        seed=0,
        model=model,
        output=output,
        data_dir=pathlib.Path(data),
        get_config=lambda options: get_config(options, **changes),
    )


def write_pairs(directory, names):
    rows = [({"clip": np.ones(2, np.float32)}, name) for name in names]
    return write_targets(directory, {"names": names}, rows, lambda names: np.eye(len(names)))


@pytest.fixture
def trained(monkeypatch):
    """The configurations that were trained with."""
    calls = []

    def train(config, workdir):
        calls.append(config)
        (workdir / "final.json").write_text("{}")

    monkeypatch.setattr(run_lib, "train", train)
    model = load_pretrained(STAGE1)
    monkeypatch.setattr(run_lib, "load_pretrained", lambda path: model)
    return calls


def train_row(ablation, store, loss="cosine"):
    run_lib._train(ablation, "row", store, run_lib._stage2_config(ablation, loss))


def test_a_row_is_trained_again_only_if_something_that_matters_is_different(tmp_path, trained):
    store = write_pairs(tmp_path / "pairs", ["grass"])
    output = tmp_path / "out"
    train_row(make_ablation(output), store)
    train_row(make_ablation(output), store)
    train_row(make_ablation(output, "elsewhere", "moved"), store)
    assert len(trained) == 1
    train_row(make_ablation(output), store, "contrastive")
    train_row(make_ablation(output, optimizer__learning_rate=0.5), store, "contrastive")
    train_row(make_ablation(output, total_steps=20), store, "contrastive")
    train_row(make_ablation(output, data__max_entities=4), store, "contrastive")
    train_row(make_ablation(output), write_pairs(tmp_path / "pairs", ["sky"]), "contrastive")
    assert len(trained) == 6
    assert [config.loss.name for config in trained] == ["cosine"] + ["contrastive"] * 5


def test_results_of_another_stage_2_are_refused(tmp_path, monkeypatch):
    class Base:
        variables = {"params": {"scale": np.ones(1)}}

    monkeypatch.setattr(run_lib, "_load_base", lambda ablation: Base)
    monkeypatch.setattr(run_lib, "_run", lambda ablation, base: {"rows": {}})
    document = run_ablation(make_ablation(tmp_path))
    assert json.loads((tmp_path / "seed0.json").read_text()) == document
    assert run_ablation(make_ablation(tmp_path, "elsewhere")) == document
    with pytest.raises(ValueError, match="seed0.json is of another configuration or model"):
        run_ablation(make_ablation(tmp_path, optimizer__learning_rate=0.5))
