"""Phases: what they train, and that they learn."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.captions.from_config import Tools
from uniovseg_jax.captions.preparation import prepare_captions
from uniovseg_jax.train import loop, phase_clip, sharding
from uniovseg_jax.train.phases import make_phase
from uniovseg_jax.weights.store import load_pretrained


def test_an_unknown_phase_is_named(make_config, tmp_path):
    config = make_config("clip", phase="stage3")
    with pytest.raises(ValueError, match="phase is 'stage3'; expected one of clip, stage1, stage2"):
        make_phase(config, tmp_path, sharding.make_mesh(1))


def test_the_tokenizer_of_a_new_clip_knows_its_captions(make_config, tmp_path):
    phase = make_phase(make_config("clip"), tmp_path, sharding.make_mesh(1))
    batch = next(iter(phase.batches))
    assert batch["image"].shape == (8, 128, 128, 3) and batch["tokens"].shape == (8, 32)
    assert phase.tokenizer.count("a purple mushroom over grass") <= 9


def test_rare_tokens_count_more_and_frames_not_at_all():
    tokens = np.array(
        [[6, 1, 2, 2, 7, 0], [6, 1, 3, 7, 0, 0], [6, 1, 7, 0, 0, 0], [6, 1, 2, 7, 0, 0]]
    )
    rarity = phase_clip._token_rarity(tokens, 8)
    expected = [0, 0, np.log(4 / 3), np.log(4 / 2), np.log(4), np.log(4), 0, 0]
    np.testing.assert_allclose(rarity, expected, rtol=1e-6)


@pytest.mark.slow
def test_the_word_head_trains(make_config, tmp_path):
    config = make_config("clip", total_steps=2)
    phase = make_phase(config, tmp_path / "phase", sharding.make_mesh(1))
    assert phase.loss_heads == ("word_head",)
    batch = jax.tree.map(jnp.asarray, next(iter(phase.batches)))
    key = jax.random.key(0)
    grads = jax.grad(lambda params: phase.objective({"params": params}, batch, key)[0])(
        phase.variables["params"]
    )
    assert np.abs(grads["word_head"]["kernel"]).max() > 0

    without = make_phase(
        make_config("clip", loss__word_weight=0.0), tmp_path / "phase", sharding.make_mesh(1)
    )
    assert without.loss_heads == () and set(without.variables["params"]) == {"clip"}
    metrics = without.objective(without.variables, batch, key)[1]
    assert "words" not in metrics


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
        make_phase(config, tmp_path, sharding.make_mesh(1))


@pytest.mark.parametrize(("mode", "source"), [("pooled", "clip"), ("dense", "both")])
def test_stage2_online_learns_and_goes_on_where_it_was(
    make_config, stage1_dir, tmp_path, mode, source
):
    config = make_config("stage2", init=str(stage1_dir), data__online=True, total_steps=4)
    config.model.adapter.update(mode=mode, source=source)
    config.update(batch_size=2)
    config.checkpoint.every = 2
    config.evals.update(every=4, num_examples=2)
    whole = loop.train(config, tmp_path / "whole")
    assert whole["metrics"]["val_pairs"] > 0

    phase = make_phase(config, tmp_path / "again", sharding.make_mesh(1))
    first, second = (collect_two(phase.batches) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert ("masks" in first[0]) == (mode == "dense")

    class Stop(Exception):
        pass

    def stop_at_three(run):
        if run.step == 3:
            raise Stop
        return train_step(run)

    train_step = loop._Run.train_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(loop._Run, "train_step", stop_at_three)
        loop.train(config, tmp_path / "torn")
    assert loop.train(config, tmp_path / "torn") == whole


def collect_two(batches):
    iterator = iter(batches)
    return [next(iterator), next(iterator)]


def test_a_dense_adapter_needs_maps(make_config, stage1_dir, tmp_path):
    config = make_config("stage2", init=str(stage1_dir))
    config.model.adapter.mode = "dense"
    with pytest.raises(ValueError, match="expected config.data.online = True"):
        make_phase(config, tmp_path, sharding.make_mesh(1))


@pytest.fixture(scope="module")
def captions_dir(load_config, tmp_path_factory):
    """Four captioned pictures, prepared as the script does."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("captions")
    (folder / "images").mkdir()
    lines = []
    for i, caption in enumerate(["A red ball.", "Two red balls, a red ball", "", "What is this?"]):
        pixels = rng.integers(0, 256, (40, 56, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        lines.append(json.dumps({"image": f"{i}.png", "caption": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    config = load_config("captions")("jsonl,output=array_record")
    config.source.update(path=str(folder / "captions.jsonl"), images=str(folder / "images"))
    with Tools(config, None) as tools:
        prepare_captions(tools.plan, folder / "prepared")
    return folder / "prepared"


def test_clip_learns_from_prepared_captions(captions_dir, load_config, tmp_path):
    config = load_config("camvid")("clip,preset=test")
    config.update(batch_size=4, total_steps=2, num_devices=1)
    config.optimizer.warmup_steps = 0
    config.data.update(train=str(captions_dir), val=str(captions_dir), side=64)
    config.evals.update(every=2, num_examples=4, group_size=4)
    phase = make_phase(config, tmp_path, sharding.make_mesh(1))
    batch = next(iter(phase.batches))
    assert batch["image"].shape == (4, 64, 64, 3)
    final = loop.train(config, tmp_path / "run")
    assert 0 <= final["metrics"]["retrieval"] <= 100

    config.data.val = ""
    with pytest.raises(ValueError, match="data.val is empty; expected a folder made by"):
        make_phase(config, tmp_path / "other", sharding.make_mesh(1))


def test_stage2_learns_from_prepared_captions(captions_dir, stage1_dir, load_config, tmp_path):
    config = load_config("full")("stage2,preset=test")
    config.update(init=str(stage1_dir), batch_size=2, total_steps=2, num_devices=1)
    config.data.update(train=str(captions_dir), score_threshold=0.0)
    config.evals.update(every=2, num_examples=1)
    final = loop.train(config, tmp_path / "run")
    assert np.isfinite(final["metrics"]["val_cosine"])
    store = PairStore(tmp_path / "run" / "pairs")
    assert [len(image.pairs) for image in store.images()] == [1, 2, 0, 0]
    pair = next(store.pairs())
    assert pair.caption.caption_raw == ("A red ball.",) and pair.entity == "red ball"

    config.data.train = ""
    with pytest.raises(ValueError, match="expected a folder made by scripts/prepare_captions.py"):
        make_phase(config, tmp_path / "other", sharding.make_mesh(1))
