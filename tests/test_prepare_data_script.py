"""scripts/prepare_data.py as users call it, for each source and for benchmarks."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.masks import rle_decode, rle_encode

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_LABELS = np.zeros((20, 30), np.uint8)
_LABELS[4:12, 5:25], _LABELS[15:, 20:] = 1, 7


# Flags of two scripts cannot live in one process; this one serves all calls of this file.
_SERVER = """
import contextlib, io, json, sys
from absl import flags
from absl.testing import flagsaver
sys.path.insert(0, sys.argv[1])
import prepare_data
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), flagsaver.flagsaver():
        try:
            code = prepare_data.main(prepare_data.parse_flags_and_words(json.loads(line)))
        except SystemExit as stop:
            code = stop.code
        flags.FLAGS.unparse_flags()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def call():
    """A function that calls the script: arguments in; exit code, output and errors out."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(_ROOT / "scripts")],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None

    def run(*names, **values):
        arguments = [*names]
        arguments += [f"--{key}={value}" for key, value in values.items() if value is not None]
        process.stdin.write(json.dumps(["prepare_data.py", *arguments]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield run
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def _photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def inputs(tmp_path):
    """The same image with the same masks in every layout; flags by source."""
    root = tmp_path / "in"
    masks = [_LABELS == label for label in (1, 7)]
    rles = [rle_encode(mask) for mask in masks]

    _photo(root / "folder" / "images" / "5.jpg")
    (root / "folder" / "masks").mkdir()
    Image.fromarray(_LABELS).save(root / "folder" / "masks" / "5.png")

    annotations = root / "coco" / "annotations"
    _photo(root / "coco" / "images" / "5.jpg")
    (annotations / "panoptic").mkdir(parents=True)
    images = [{"id": 5, "file_name": "5.jpg", "height": 20, "width": 30}]
    entries = [{"image_id": 5, "iscrowd": 0, "segmentation": rle} for rle in rles]
    document = {"images": images, "annotations": entries}
    (annotations / "instances.json").write_text(json.dumps(document))
    rgb = np.stack([_LABELS, _LABELS * 2, _LABELS * 3], axis=-1)
    Image.fromarray(rgb).save(annotations / "panoptic" / "5.png")
    infos = [{"id": label * (1 + 2 * 256 + 3 * 65536), "iscrowd": 0} for label in (1, 7)]
    entries = [{"image_id": 5, "file_name": "5.png", "segments_info": infos}]
    document = {"images": images, "annotations": entries}
    (annotations / "panoptic.json").write_text(json.dumps(document))

    image = {"image_id": 5, "height": 20, "width": 30, "file_name": "sa_5.jpg"}
    _photo(root / "sa1b" / "sa_5.jpg")
    entries = [{"segmentation": rle, "predicted_iou": 0.9, "stability_score": 1} for rle in rles]
    document = {"image": image, "annotations": entries}
    (root / "sa1b" / "sa_5.json").write_text(json.dumps(document))
    command = ["tar", "-cf", root / "sa_0.tar", "-C", root / "sa1b", "./sa_5.jpg", "./sa_5.json"]
    subprocess.run(command, check=True)

    coco = {"input": root / "coco" / "images"}
    return {
        "sa1b": {"input": root / "sa_0.tar"},
        "coco_instances": {**coco, "annotations": annotations / "instances.json"},
        "coco_panoptic": {**coco, "annotations": annotations / "panoptic.json"},
        "folder": {"input": root / "folder", "void_labels": 0},
    }


@pytest.mark.parametrize("source", ["sa1b", "coco_instances", "coco_panoptic", "folder"])
def test_every_layout_becomes_the_same_masks(call, inputs, tmp_path, source):
    output = tmp_path / "out"
    code, out, _ = call(source=source, output=output, **inputs[source])
    assert code == 0
    assert out == f"1 records with 2 masks in 1 shards, 0 skipped: {output}\n"
    records = open_mask_records(output)
    records.verify()
    assert records[0]["id"] == "5" and records[0]["image"].startswith(b"\xff\xd8")
    found = [rle_decode(mask) for mask in records[0]["masks"]]
    np.testing.assert_array_equal(found, [_LABELS == 1, _LABELS == 7])


def test_photographs_in_several_processes_from_the_shell(shared_dir, tmp_path):
    camvid = shared_dir / "data" / "camvid"
    arguments = {
        "source": "folder",
        "input": camvid / "images" / "val",
        "annotations": camvid / "masks" / "val",
        "output": tmp_path / "out",
        "void_labels": "11",
        "share": "0.1",
        "seed": "1",
        "num_workers": "2",
    }
    done = subprocess.run(
        [sys.executable, _ROOT / "scripts" / "prepare_data.py"]
        + [f"--{key}={value}" for key, value in arguments.items()],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    records = open_mask_records(tmp_path / "out")
    assert 0 < len(records) < 20
    assert done.stdout.startswith(f"{len(records)} records with ")
    assert "converting" in done.stderr and "Traceback" not in done.stderr
    assert records.manifest.sample == {"by": "image", "share": 0.1, "seed": 1}


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ("sa1b", {"input": "nowhere"}, "There is no nowhere: expected a tar"),
        ("sa1b", {"annotations": "x.json"}, "--annotations means nothing for --source=sa1b"),
        ("sa1b", {"share": 0.5, "tar_share": 0.5}, "give one of them"),
        ("sa1b", {"share": 0}, "share of a sample must lie from 0.0001 to 1, got 0.0"),
        ("sa1b", {"records_per_shard": 0}, "records_per_shard must be at least 1"),
        ("folder", {"tar_share": 0.5}, "--tar_share means nothing for --source=folder"),
        ("folder", {"void_labels": "sky"}, "--void_labels must be whole numbers"),
        ("folder", {"annotations": "x"}, "name one of its folders, such as images"),
        ("folder", {"wheels": 4}, "Unknown command line flag 'wheels'"),
        ("folder", {"void_labels": "0,1,7"}, "1 of 1 records were skipped (1 no masks)"),
        ("coco_panoptic", {"annotations": None}, "needs --annotations, COCO's JSON file"),
        ("coco_instances", {"annotations": "nowhere"}, "There is no annotation file nowhere"),
        ("imagenet", {"input": "x"}, "value should be one of <sa1b|"),
        (None, {"input": "x"}, "--source is missing; expected --source, --input and --output, or"),
        ("sa1b", {"input": None}, "--input is missing"),
        ("sa1b", {"data_dir": "x"}, "--data_dir means nothing for a conversion of masks"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    call, inputs, tmp_path, source, changes, message
):
    values = {"output": tmp_path / "out", **inputs.get(source, {}), **changes}
    code, out, err = call(source=source, **values)
    assert code == 2 and message in err and not out
    # Apart from the progress bar there is one line.
    assert len([line for line in err.splitlines() if line and "converting" not in line]) == 1
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.fixture
def cityscapes(tmp_path):
    """Half of one frame of Cityscapes: its instance map is missing; the path of that."""
    folder = tmp_path / "cityscapes"
    frame = "lindau_000000_000019"
    rgb = folder / "leftImg8bit" / "val" / "lindau" / f"{frame}_leftImg8bit.png"
    labels = folder / "gtFine" / "val" / "lindau" / f"{frame}_gtFine_labelIds.png"
    for path, pixels in ((rgb, np.zeros((4, 5, 3))), (labels, np.full((4, 5), 7))):
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return labels.with_name(f"{frame}_gtFine_instanceIds.png")


def test_what_is_missing_of_a_benchmark_is_named_with_what_to_download(call, cityscapes, tmp_path):
    code, out, err = call("cityscapes", data_dir=tmp_path)
    assert code == 2 and err == f"There is no file {cityscapes}.\n"
    assert "gtFine_trainvaltest.zip from www.cityscapes-dataset.com" in out
    assert "cityscapes_panoptic_{train,val}/ and .json" in out


def test_a_benchmark_without_its_folder_says_what_it_needs(call):
    code, out, err = call("ade20k")
    assert code == 2 and err.count("\n") == 1 and "ade20k needs --data_dir" in err
    assert "ADEChallengeData2016.zip from sceneparsing.csail.mit.edu" in out


def test_a_benchmark_is_made_ready_once_it_is_complete(call, cityscapes, tmp_path):
    Image.fromarray(np.full((4, 5), 7, np.uint16)).save(cityscapes)
    code, out, err = call("cityscapes", data_dir=tmp_path)
    assert code == 2 and not out and err.count("\n") == 1
    assert f"cityscapes val has 1 images in {tmp_path}, expected 500" in err
    for path in list((tmp_path / "cityscapes").rglob("*.png")):
        for number in range(1, 500):
            copy = path.name.replace("_000019_", f"_{number + 19:06d}_")
            path.with_name(copy).write_bytes(path.read_bytes())
    code, out, err = call("cityscapes", data_dir=tmp_path)
    assert (code, out) == (
        0,
        "cityscapes val: 500 images are ready, 1002 files written, 0 were right already.\n",
    )
    assert "cityscapes val: 100%" in err
    assert "0 files written, 1002 were right already" in call("cityscapes", data_dir=tmp_path)[1]
    assert (tmp_path / "cityscapes" / "gtFine" / "cityscapes_panoptic_val.json").is_file()


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        (["camvid"], {}, "Unknown dataset 'camvid'; expected one of coco, ade20k, ade20k_full,"),
        (["voc", "coco"], {}, "One dataset at a time, got voc coco"),
        (["voc"], {"data_dir": "nowhere"}, "There is no folder nowhere"),
        (["voc"], {"split": "test"}, "value should be one of <train|val>"),
        (["voc"], {"short_side": 512}, "--short_side means nothing for voc"),
        (["voc"], {"output": "x"}, "--output means nothing for the preparation of voc"),
        (["voc"], {"tfds": "x"}, "--tfds means nothing for voc; only for coco and cityscapes"),
        (["coco"], {"tfds": "nowhere", "data_dir": "."}, "nowhere/dataset_info.json"),
        (["ade20k_full"], {"short_side": "half"}, "must be a whole number or original, got 'half'"),
        (["ade20k_full"], {"short_side": 0}, "short_side must be at least 1"),
    ],
)
def test_mistakes_about_benchmarks_are_one_sentence_and_exit_code_2(call, names, flags, message):
    code, out, err = call(*names, **flags)
    assert code == 2 and message in err and not out
    assert err.count("\n") == 1
