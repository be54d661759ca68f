"""Phases: what they train, and that they learn."""

import jax
import numpy as np
import pytest

from uniovseg_jax.alignment.store import StoreWriter, make_targets
from uniovseg_jax.models.presets import config_from_dict
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.train import loop
from uniovseg_jax.train.phases import make_phase
from uniovseg_jax.weights.store import load_pretrained, save_pretrained


def test_an_unknown_phase_is_named(make_config, tmp_path):
    config = make_config("clip", phase="stage3")
    with pytest.raises(ValueError, match="phase is 'stage3'; expected one of clip, stage1, stage2"):
        make_phase(config, tmp_path)


def test_the_tokenizer_of_a_new_clip_knows_its_captions(make_config, tmp_path):
    phase = make_phase(make_config("clip"), tmp_path)
    batch = next(iter(phase.batches))
    assert batch["image"].shape == (8, 128, 128, 3) and batch["tokens"].shape == (8, 32)
    assert phase.tokenizer.count("a purple mushroom over grass") <= 9


@pytest.fixture(scope="module")
def stage1_dir(get_config, tmp_path_factory):
    """A model directory with clip and masks at random."""
    directory = tmp_path_factory.mktemp("stage1") / "model"
    model = config_from_dict(get_config("stage2,preset=test").model.to_dict())
    variables = init_variables(model, jax.random.key(0), ("clip", "masks"))
    tokenizer = train_tokenizer(["a red ball"], model.clip.vocab_size, model.clip.context_length)
    save_pretrained(directory, model, variables, tokenizer, ("clip", "masks"))
    return directory


@pytest.fixture(scope="module")
def pairs_dir(get_config, tmp_path_factory):
    """Pairs of four names, whose vectors are four directions with some noise."""
    rng = np.random.default_rng(0)
    model = config_from_dict(get_config("stage2,preset=test").model.to_dict())
    widths = dict(zip(("res2", "res3", "res4", "res5"), model.clip.widths, strict=True))
    widths["clip"] = model.clip.widths[-1]
    centres = {name: rng.normal(size=(4, width)) for name, width in widths.items()}
    rows = []
    for i in range(200):
        noisy = {k: v[i % 4] + 0.1 * rng.normal(size=v.shape[1]) for k, v in centres.items()}
        rows.append(({k: v.astype(np.float32) for k, v in noisy.items()}, f"name {i % 4}"))
    text = rng.normal(size=(4, model.clip.embed_dim)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    directory = tmp_path_factory.mktemp("pairs") / "pairs"
    with StoreWriter(directory, {}) as writer:
        writer.finish(make_targets(rows, [f"name {i}" for i in range(4)], text))
    return directory


@pytest.mark.parametrize("loss", ["cosine", "contrastive"])
def test_stage2_trains_the_adapter_and_nothing_else(
    make_config, stage1_dir, pairs_dir, tmp_path, loss
):
    config = make_config(
        "stage2", init=str(stage1_dir), data__pairs=str(pairs_dir), loss__name=loss
    )
    config.update(batch_size=64, total_steps=60)
    config.evals.every = 60
    final = loop.train(config, tmp_path)
    # At random they lie around 0; contrastive only asks the right name to be ahead.
    assert final["metrics"]["val_cosine"] > {"cosine": 0.6, "contrastive": 0.3}[loss]
    trained = load_pretrained(tmp_path / "model")
    assert trained.parts == ("clip", "masks", "adapter")
    before = load_pretrained(stage1_dir).variables["params"]
    after = dict(trained.variables["params"])
    after.pop("adapter")
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_an_unknown_alignment_loss_is_named(make_config, stage1_dir, pairs_dir, tmp_path):
    config = make_config(
        "stage2", init=str(stage1_dir), data__pairs=str(pairs_dir), loss__name="l2"
    )
    with pytest.raises(ValueError, match="loss.name is 'l2'; expected cosine or contrastive"):
        make_phase(config, tmp_path)
