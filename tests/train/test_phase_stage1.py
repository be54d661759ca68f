"""Stage 1: records of any data set, both match rules, pictures, a trunk that stays frozen."""

import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from PIL import Image

from uniovseg_jax.data.manifest import Manifest, write_manifest
from uniovseg_jax.data.records import encode_record
from uniovseg_jax.data.shard_writer import ShardWriter
from uniovseg_jax.losses import stage1 as losses
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.train import loop, replay, sharding
from uniovseg_jax.train.abstract_step import make_abstract_step
from uniovseg_jax.train.phase import make_model
from uniovseg_jax.train.phase_stage1 import make_released_matcher, make_stage1
from uniovseg_jax.weights.store import load_pretrained

COUNT = 24


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory):
    """Pictures of two boxes, as scripts/prepare_data.py stores pictures."""
    directory = tmp_path_factory.mktemp("records") / "data"
    rng = np.random.default_rng(0)
    with ShardWriter(directory, 10) as writer:
        for number in range(COUNT):
            pixels = rng.integers(0, 80, (48, 72, 3), dtype=np.uint8)
            masks = np.zeros((2, 48, 72), bool)
            y, x = rng.integers(0, 20, 2)
            masks[0, y : y + 20, x : x + 12] = True
            masks[1, y + 5 : y + 25, x + 30 : x + 50] = True
            pixels[masks[0]], pixels[masks[1]] = (220, 40, 40), (40, 220, 40)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            rles = [rle_encode(mask) for mask in masks]
            for rle in rles:
                rle["counts"] = rle["counts"].encode()
            record = {"id": str(number), "image": buffer.getvalue(), "masks": rles}
            writer.write(encode_record(record | {"height": 48, "width": 72}))
    manifest = Manifest({}, {}, COUNT, 2 * COUNT, {}, {}, tuple(writer.shards))
    write_manifest(directory, manifest)
    return directory


ONE = sharding.make_mesh(1)


@pytest.fixture
def make_records_config(make_config, records_dir):
    def make(**changes):
        config = make_config("stage1", model__decoder_layers=1, batch_size=4, **changes)
        with config.unlocked():
            config.data.update(
                name="records", train=str(records_dir), val="", verify=True, colour_jitter=True
            )
        config.evals.num_examples = 4
        return config

    return make


def test_a_run_on_records_leaves_masks_and_a_picture(make_records_config, tmp_path):
    config = make_records_config(
        total_steps=4, evals__every=4, log__pictures_every=2, dtype="bfloat16", recompute=True
    )
    final = loop.train(config, tmp_path)
    assert np.isfinite(final["metrics"]["val_loss"])
    assert load_pretrained(tmp_path / "model").parts == ("clip", "masks")
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["step_000002.png", "step_000004.png"]
    # Four examples under each other: points, targets, and four masks of every point.
    width, height = Image.open(tmp_path / "pictures" / pictures[0]).size
    assert width > 6 * 256 and height > 2 * 170


def test_validation_records_are_not_trained_on(make_records_config, tmp_path):
    phase = make_stage1(make_records_config(), tmp_path, ONE)
    batches = iter(phase.batches)
    epoch = sum(len(next(batches)["image"]) for _ in range(5))
    assert epoch == COUNT - 24 // 10 - 2  # 22 stay to train on, 20 of them in whole batches.


def test_a_compile_check_has_the_batches_of_training(make_records_config, tmp_path):
    config = make_records_config()
    batch = next(iter(make_stage1(config, tmp_path, ONE).batches))
    _, _, expected = make_abstract_step(config, ONE)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in expected.items()
    }


def test_wrong_data_are_named(make_records_config, tmp_path, records_dir):
    config = make_records_config()
    config.data.train = ""
    with pytest.raises(ValueError, match="data.train is empty; expected a folder made by"):
        make_stage1(config, tmp_path, ONE)
    config.data.name = "sa1b"
    with pytest.raises(ValueError, match="data.name is 'sa1b'; expected tinyscenes or records"):
        make_stage1(config, tmp_path, ONE)
    config = make_records_config(loss__match_rule="hungarian")
    message = "loss.match_rule is 'hungarian'; expected clean or released"
    with pytest.raises(ValueError, match=message):
        make_stage1(config, tmp_path, ONE)


@pytest.mark.slow
def test_the_released_rule_matches_on_the_host_and_trains(make_records_config, tmp_path):
    config = make_records_config(loss__match_rule="released", total_steps=2, evals__every=2)
    phase = make_stage1(config, tmp_path / "phase", ONE)
    assert phase.match is not None
    batch = jax.tree.map(jnp.asarray, next(iter(phase.batches)))
    targets = np.asarray(phase.match(phase.variables, batch)["targets"])
    member = np.asarray(
        jax.vmap(losses.membership)(batch["mask_bits"], batch["mask_valid"], batch["points"])
    )
    for b, q in np.ndindex(targets.shape[:2]):
        matched = targets[b, q][targets[b, q] >= 0]
        assert len(matched) == len(set(matched)) == min(4, member[b, q].sum())
        assert member[b, q][matched].all()
    assert (targets >= 0).any()
    final = loop.train(config, tmp_path / "run")
    assert np.isfinite(final["metrics"]["val_loss"])


def test_a_frozen_trunk_has_no_gradient_of_a_convolution(make_records_config, tmp_path):
    config = make_records_config()
    phase = make_stage1(config, tmp_path, ONE)
    batch = jax.tree.map(jnp.asarray, next(iter(phase.batches)))

    def text_of(freeze):
        from uniovseg_jax.train.state import merge_variables, split_variables

        trained, frozen = split_variables(phase.variables, freeze)

        def loss_of(params):
            merged = merge_variables(params, frozen)
            return phase.objective(merged, batch, jax.random.key(0))[0]

        return jax.jit(jax.grad(loss_of)).lower(trained).as_text(debug_info=True)

    # What is differentiated backwards carries "transpose" in its name.
    backward = re.compile(r"transpose\(jvp[^\"]*(visual|encode_trunk)")
    assert not backward.search(text_of(("clip/.*",)))
    assert backward.search(text_of(("clip/(text|head)/.*", "clip/logit_scale")))


def test_a_run_that_gives_up_leaves_a_step_to_look_into(make_records_config, tmp_path):
    config = make_records_config(
        total_steps=5, max_skipped_in_row=1, optimizer__learning_rate=1e30, evals__every=5
    )
    config.optimizer.warmup_steps = 0
    with pytest.raises(FloatingPointError, match="in 2 steps in a row.*replay.py --bundle="):
        loop.train(config, tmp_path)
    [bundle] = (tmp_path / "replay").iterdir()
    found = replay.replay(bundle, tmp_path / "again")
    assert found["batch"] == [] and found["gradients"]
    for content in (b"nothing", bundle.read_bytes()[:5000]):
        (tmp_path / "no.npz").write_bytes(content)
        with pytest.raises(ValueError, match="no.npz is no replay bundle"):
            replay.replay(tmp_path / "no.npz", tmp_path)


def test_released_targets_are_those_of_the_literal_rule(make_records_config, tmp_path):
    config = make_records_config(loss__match_rule="released")
    phase = make_stage1(config, tmp_path, ONE)
    batch = jax.tree.map(jnp.asarray, next(iter(phase.batches)))
    loss_config = losses.Stage1LossConfig(**config.loss)
    found = make_released_matcher(make_model(config), loss_config, ONE)(phase.variables, batch)
    # However variables and batch are spread, and whatever the compiler would like to split.
    mesh = sharding.make_mesh(4, 4)
    match = make_released_matcher(make_model(config), loss_config, mesh)
    spread = sharding.shard_batch(next(iter(phase.batches)), mesh)

    def place(x):
        spec = jax.P("fsdp") if x.ndim and x.shape[0] % 4 == 0 else jax.P()
        return jax.device_put(x, jax.NamedSharding(mesh, spec))

    split = jax.tree.map(place, phase.variables)
    np.testing.assert_array_equal(match(split, spread)["targets"], found["targets"])

    def decode(model):
        from uniovseg_jax.models.prompt_encoder import points_to_boxes

        features = model.encode_image(batch["image"])
        memory = model.prepare_masks(features)
        boxes = points_to_boxes(batch["points"], model.config.point_box_size)
        output = model.decode_masks(features, memory, boxes, "point")
        return output.mask_embeds[-1], memory.pixel_embeds

    embeds, f = make_model(config).apply(phase.variables, method=decode)
    maps = np.einsum("bqkd,bhwd->bqkhw", np.float64(embeds), np.float64(f))
    masks = np.unpackbits(np.asarray(batch["mask_bits"]), axis=-1).astype(bool)
    for b, q in np.ndindex(maps.shape[:2]):
        k, h, w = maps[b, q].shape
        coarse = maps[b, q].reshape(k, h // 2, 2, w // 2, 2).mean((2, 4))
        truth = masks[b, :, ::8, ::8].astype(float)
        p = 1 / (1 + np.exp(-coarse))
        cost = np.zeros((k, len(truth)))
        x, y = np.floor(np.asarray(batch["points"])[b, q]).astype(int)
        for i, j in np.ndindex(*cost.shape):
            bce = (np.logaddexp(0, coarse[i]) - coarse[i] * truth[j]).mean()
            dice = 1 - (2 * (p[i] * truth[j]).sum() + 1) / (p[i].sum() + truth[j].sum() + 1)
            member = masks[b, j, y, x] and batch["mask_valid"][b, j]
            cost[i, j] = 2 * bce + dice + (0 if member else 1e6)
        expected = np.full(k, -1)
        for i, j in zip(*scipy.optimize.linear_sum_assignment(cost), strict=True):
            expected[i] = j if cost[i, j] < 1e6 else -1
        assert np.asarray(found["targets"])[b, q].tolist() == expected.tolist()
