"""scripts/evaluate_masks.py on a small folder of records: what it writes, and what it refuses."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
from PIL import Image
from programs import call

from uniovseg_jax.data.manifest import Manifest, write_manifest
from uniovseg_jax.data.records import check_masks, encode_record
from uniovseg_jax.data.shard_writer import ShardWriter
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.masks import box_from_mask, rle_decode, rle_encode
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.weights.store import PARTS, load_pretrained, params_sha256, save_pretrained


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    config = dataclasses.replace(get_preset("test"), masks_per_point=3)
    directory = tmp_path_factory.mktemp("model") / "model"
    variables = init_variables(config, jax.random.key(0), PARTS)
    tokenizer = train_tokenizer(["a"], config.clip.vocab_size, config.clip.context_length)
    save_pretrained(directory, config, variables, tokenizer, PARTS)
    return directory


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("evaluate_masks")


def _make_record(name, hw, boxes):
    rng = np.random.default_rng(len(name))
    image = np.kron(rng.integers(0, 255, (4, 4, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    image = image[: hw[0], : hw[1]]
    masks = []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros(hw, bool)
        mask[y0:y1, x0:x1] = True
        masks.append(rle_encode(mask))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    masks = check_masks(masks, *hw)[0]
    return {"id": name, "image": file.getvalue(), "height": hw[0], "width": hw[1], "masks": masks}


def _write(directory, records):
    with ShardWriter(directory, 2) as writer:
        for record in records:
            writer.write(encode_record(record))
    num_masks = sum(len(record["masks"]) for record in records)
    shards = tuple(writer.shards)
    write_manifest(directory, Manifest({}, {}, len(records), num_masks, {}, {}, shards))
    return directory


# Three images, of two sizes; the second has no mask that is large enough.
RECORDS = [
    _make_record("a", (60, 70), [(0, 0, 30, 60), (40, 20, 60, 40)]),
    _make_record("bb", (80, 50), [(0, 0, 2, 1)]),
    _make_record("ccc", (80, 50), [(0, 0, 50, 80)]),
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return _write(tmp_path_factory.mktemp("records") / "shards", RECORDS)


def test_model_and_superpixels_are_scored_side_by_side(
    script, model_dir, records, tmp_path, capsys
):
    pytest.importorskip("skimage")
    out = tmp_path / "new" / "out"
    modes = "--modes=grid_any,grid_inside,center,random,box"
    arguments = (f"--model={model_dir}", f"--data={records}", f"--output={out}", modes)
    assert call(script, *arguments, "--points_per_side=3", "--baseline=superpixels") == 0
    assert sorted(p.name for p in out.iterdir()) == ["examples.png", "scores.json", "scores.md"]
    document = json.loads((out / "scores.json").read_text())
    pretrained = load_pretrained(model_dir)
    model, superpixels = document["results"]["model"], document["results"]["superpixels"]
    assert model["sha256"] == params_sha256(pretrained.variables)
    assert set(model["scores"]) == {
        *("grid_any", "grid_inside", "center", "center_ranked", "random", "random_ranked", "box")
    }
    assert superpixels["segments_wanted"] == 27 and superpixels["segments_per_image"] >= 27
    assert set(superpixels["scores"]) == {"grid_any"}
    assert document["settings"]["points_per_side"] == 3 and "jax" in document["versions"]
    for score in (*model["scores"].values(), superpixels["scores"]["grid_any"]):
        assert (score["masks"], score["images"]) == (3, 2)
        assert 0 <= score["iou"] <= 1

    # One mode by way of the public predictor.
    predictor, ious = Predictor(pretrained), []
    for record in (RECORDS[0], RECORDS[2]):
        predictor.set_image(np.asarray(Image.open(io.BytesIO(record["image"]))))
        for rle in record["masks"]:
            mask = rle_decode(rle)
            predicted = predictor.predict(box=box_from_mask(mask))[0][0, 0]
            ious.append((predicted & mask).sum() / (predicted | mask).sum())
    box = model["scores"]["box"]
    assert box["iou"] == pytest.approx(np.mean(ious), abs=1e-3)
    assert box["iou_of_images"] == pytest.approx((np.mean(ious[:2]) + ious[2]) / 2, abs=1e-3)
    table = (out / "scores.md").read_text()
    assert f"| model | box | {100 * box['iou']:.2f} |" in table
    assert table in capsys.readouterr().out
    # Two images of three have masks: rows of image, truth, model and superpixels.
    assert Image.open(out / "examples.png").width > 4 * 384


def test_the_baseline_alone_needs_no_model(script, records, tmp_path):
    pytest.importorskip("skimage")
    arguments = (f"--data={records}", f"--output={tmp_path}", "--baseline=superpixels")
    assert call(script, *arguments, "--points_per_side=2", "--limit=1") == 0
    document = json.loads((tmp_path / "scores.json").read_text())
    assert set(document["results"]) == {"superpixels"}
    assert document["results"]["superpixels"]["scores"]["grid_any"]["masks"] == 2
    assert document["results"]["superpixels"]["segments_wanted"] == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "Give --model, --baseline or both"),
        ({"model": "nowhere"}, "nowhere is no model directory"),
        ({"modes": "center,middle"}, "--modes: unknown middle; expected grid_any"),
        ({"modes": ""}, "--modes is empty"),
        ({"min_area": "1.0", "limit": "2"}, "no record has a true mask of at least 1 of its image"),
        ({"min_area": "2"}, "min_area"),
        ({"limit": "0"}, "limit"),
        ({"data": None}, "--data"),
        ({"baseline": "watershed"}, "superpixels"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    script, model_dir, records, tmp_path, capsys, changes, message
):
    out = tmp_path / "out"
    values = {"model": str(model_dir), "data": str(records), "output": str(out)} | changes
    arguments = [f"--{key}={value}" for key, value in values.items() if value is not None]
    assert call(script, *arguments) == 2
    written = capsys.readouterr().err.splitlines()
    assert message in written[-1] and not any("Traceback" in line for line in written)
    assert not out.exists()


def test_no_records_and_broken_ones_are_named(script, model_dir, tmp_path, capsys):
    arguments = (f"--model={model_dir}", f"--output={tmp_path / 'out'}", "--modes=box")
    broken = _write(tmp_path / "broken", [*RECORDS[:2], {**RECORDS[2], "image": b"no picture"}])
    assert call(script, *arguments, f"--data={broken}") == 2
    assert "The image of record ccc cannot be read" in capsys.readouterr().err
    empty = _write(tmp_path / "empty", [])
    assert call(script, *arguments, f"--data={empty}") == 2
    assert f"{empty} holds no mask record" in capsys.readouterr().err
    assert call(script, *arguments, f"--data={tmp_path / 'none'}") == 2
    assert "There is no data folder" in capsys.readouterr().err
