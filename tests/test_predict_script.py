"""scripts/predict.py as users call it: flags and files in, files out."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image
from programs import call, run_program

from uniovseg_jax.masks import rle_decode
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import init_variables
from uniovseg_jax.weights.store import PARTS, save_pretrained

_ROOT = pathlib.Path(__file__).resolve().parent.parent
# Random weights have no idea of quality, so nothing may be filtered by it.
_OPEN = ("--points_per_side=3", "--score_threshold=0", "--object_threshold=0")
_WORDS = ("--vocabulary=grass,red ball|red sphere,house", "--stuff=grass", "--templates=single")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    config = get_preset("test")
    directory = tmp_path_factory.mktemp("model") / "model"
    variables = init_variables(config, jax.random.key(0), PARTS)
    tokenizer = train_tokenizer(["a"], config.clip.vocab_size, config.clip.context_length)
    save_pretrained(directory, config, variables, tokenizer, PARTS)
    return directory


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with two pictures of different size and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, hw in {"wide.png": (40, 90), "tall.jpg": (120, 50)}.items():
        blocks = rng.integers(0, 255, (5, 5, 3), np.uint8)
        Image.fromarray(blocks).resize(hw[::-1], Image.Resampling.NEAREST).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    return folder


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("predict")


def test_a_folder_with_words_gives_all_files_and_names_the_broken_image(
    model_dir, images, tmp_path
):
    out = tmp_path / "out"
    arguments = (f"--model={model_dir}", f"--image={images}", f"--output={out}", *_OPEN, *_WORDS)
    done = run_program("scripts/predict.py", *arguments)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "broken.jpg cannot be read as an image" in done.stderr
    assert done.stderr.strip().endswith("Failed: broken.jpg.")
    assert done.stdout.strip() == f"2 of 3 images written to {out}."
    assert sorted(path.name for path in out.iterdir()) == [
        "contact_sheet.png",
        "tall.json",
        "tall_labels.png",
        "tall_overlay.png",
        "wide.json",
        "wide_labels.png",
        "wide_overlay.png",
    ]
    for name, size in {"wide": (90, 40), "tall": (50, 120)}.items():
        labels = np.asarray(Image.open(out / f"{name}_labels.png"))
        document = json.loads((out / f"{name}.json").read_text())
        assert labels.dtype == np.uint8 and labels.shape == size[::-1]
        assert (document["width"], document["height"]) == size
        assert document["task"] == "panoptic" and document["segments"]
        assert document["categories"] == ["grass", "red ball", "house"]
        for segment in document["segments"]:
            np.testing.assert_array_equal(rle_decode(segment["rle"]), labels == segment["id"])
            assert segment["name"] in document["categories"]
            assert segment["runner_up"] in document["categories"]


def test_one_image_without_words_gives_masks_without_names(script, model_dir, images, tmp_path):
    image = f"--image={images / 'wide.png'}"
    assert call(script, f"--model={model_dir}", image, f"--output={tmp_path}", *_OPEN) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "wide.json",
        "wide_labels.png",
        "wide_overlay.png",
    ]
    segments = json.loads((tmp_path / "wide.json").read_text())["segments"]
    assert segments and all("name" not in segment for segment in segments)
    areas = [segment["area"] for segment in segments]
    assert areas == sorted(areas, reverse=True)
    assert all(rle_decode(s["segmentation"]).sum() == s["area"] for s in segments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "nowhere.png"}, "nowhere.png does not exist"),
        ({"image": "{empty}"}, "holds no image: expected files ending in .bmp"),
        ({"image": "{images}/broken.jpg"}, "broken.jpg cannot be read as an image"),
        ({"model": "{empty}"}, "config.json is missing"),
        ({"vocabulary": ""}, "The vocabulary is empty"),
        ({"vocabulary": "grass", "stuff": "sand"}, "'sand' is not in the vocabulary"),
        ({"output": "{images}"}, "cannot go to the folder that the images come from"),
        ({"task": "detection"}, "should be one of <semantic|panoptic|instance>"),
        ({"points_per_side": "0"}, "points_per_side"),
        ({"wheels": "4"}, "Unknown command line flag 'wheels'"),
        ({"model": None}, "--model"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    script, model_dir, images, tmp_path, capsys, changes, message
):
    (tmp_path / "empty").mkdir()
    values = {"model": str(model_dir), "image": str(images), "output": str(tmp_path / "out")}
    places = {"empty": tmp_path / "empty", "images": images}
    for key, value in changes.items():
        values[key] = value if value is None else value.format(**places)
    before = sorted(images.iterdir())
    arguments = [f"--{key}={value}" for key, value in values.items() if value is not None]
    assert call(script, *arguments) == 2
    written = capsys.readouterr().err
    assert message in written and len(written.strip().splitlines()) == 1
    assert sorted(images.iterdir()) == before
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
