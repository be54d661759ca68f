"""ADE20K's full set: decoded labels, and smaller images as is customary."""

import io

import numpy as np
import pytest
from original_files import read, read_json, run, write_jpeg, write_png
from PIL import Image

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.preparation.ade20k_full import reduced_size
from uniovseg_jax.benchmarks.preparation.opencv_resize import resize_linear, resize_nearest

_NAME = "ADE_val_00000003"


def _encode(ids, rng=None):
    """`_seg.png` of class numbers: tens of R and all of G; ones of R and B say nothing."""
    ids = np.asarray(ids)
    noise = rng.integers(0, 6, ids.shape) if rng else 5
    red = ids // 256 * 10 + noise
    return np.stack([red, ids % 256, np.full_like(ids, 9)], axis=-1).astype(np.uint8)


def _write(root, name, ids, scene="urban/street"):
    split = "validation" if "_val_" in name else "training"
    folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / split / scene
    write_jpeg(folder / f"{name}.jpg", np.shape(ids))
    write_png(folder / f"{name}_seg.png", _encode(ids))
    # What else lies there.
    write_png(folder / f"{name}_parts_1.png", _encode(ids))
    (folder / f"{name}.json").write_text("{}")
    write_png(folder / name / "instance_000_ADE_val_00000003.png", _encode(ids))
    return folder


def _read_made(root, name=_NAME, long="validation"):
    folder = root / "ADE20K_2021_17_01"
    mode, labels = read(folder / "annotations_detectron2" / long / f"{name}.tif")
    assert mode == "I;16" and labels.dtype == np.uint16
    return (folder / "images_detectron2" / long / f"{name}.jpg").read_bytes(), labels


def test_classes_are_decoded_and_the_rest_is_void(tmp_path):
    # Wall is 2978, tree the fourth; 0 is unlabelled, 1 and 3157 are of no class.
    tree = load_class_list("ade20k_847").classes[3].id
    last = load_class_list("ade20k_847").classes[846].id
    folder = _write(tmp_path, _NAME, [[2978, tree, 0, 1], [last, 2978, 3157, 6400]])
    done = run("ade20k_full", tmp_path, 1)
    assert done.settings == {"short_side": 512}
    encoded, labels = _read_made(tmp_path)
    np.testing.assert_array_equal(labels, [[0, 3, 65535, 65535], [846, 0, 65535, 65535]])
    # Written again at quality 75, though it is small.
    with Image.open(folder / f"{_NAME}.jpg") as image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=75)
    assert encoded == buffer.getvalue()


def test_every_class_comes_back(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.array([info.id for info in load_class_list("ade20k_847").classes])
    folder = _write(tmp_path, _NAME, ids.reshape(7, 121))
    write_png(folder / f"{_NAME}_seg.png", _encode(ids.reshape(7, 121), rng))
    run("ade20k_full", tmp_path, 1)
    np.testing.assert_array_equal(_read_made(tmp_path)[1].ravel(), np.arange(847))


@pytest.mark.parametrize(("hw", "expected"), [((8, 10), (4, 5)), ((13, 8), (6, 4))])
def test_larger_images_shrink_with_their_labels(tmp_path, hw, expected):
    rng = np.random.default_rng(1)
    ids = rng.choice([info.id for info in load_class_list("ade20k_847").classes], hw)
    folder = _write(tmp_path, _NAME, ids)
    run("ade20k_full", tmp_path, 1, short_side=4)
    encoded, labels = _read_made(tmp_path)
    index_of = load_class_list("ade20k_847").index_of
    indices = np.vectorize(index_of.get)(ids).astype(np.uint16)
    np.testing.assert_array_equal(labels, resize_nearest(indices, expected))
    buffer = io.BytesIO()
    pixels = resize_linear(read(folder / f"{_NAME}.jpg")[1], expected)
    Image.fromarray(pixels).save(buffer, "JPEG")
    assert encoded == buffer.getvalue() and labels.shape == expected


def test_original_keeps_bytes_and_another_choice_makes_files_again(tmp_path):
    folder = _write(tmp_path, _NAME, np.full((8, 10), 2978))
    run("ade20k_full", tmp_path, 1, short_side=4)
    record = tmp_path / "ADE20K_2021_17_01" / "prepared_val.json"
    assert read_json(record) == {"images": 1, "short_side": 4}
    done = run("ade20k_full", tmp_path, 1, short_side=None)
    assert (done.written, done.kept) == (3, 0)
    encoded, labels = _read_made(tmp_path)
    assert encoded == (folder / f"{_NAME}.jpg").read_bytes() and labels.shape == (8, 10)
    assert read_json(record) == {"images": 1, "short_side": "original"}


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        ((512, 2000), (512, 2000)),
        ((513, 512), (513, 512)),
        ((513, 513), (512, 512)),
        ((600, 800), (512, 683)),
        ((800, 600), (683, 512)),
        ((1024, 1025), (512, 512)),  # Half to even.
        ((1024, 1027), (512, 514)),
        ((2048, 1024), (1024, 512)),
    ],
)
def test_the_short_side_becomes_512_if_it_is_longer(hw, expected):
    assert reduced_size(hw, 512) == expected


def test_grey_images_stay_grey(tmp_path):
    folder = _write(tmp_path, _NAME, np.full((8, 10), 2978))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 10), np.uint8)
    Image.fromarray(pixels).save(folder / f"{_NAME}.jpg")
    run("ade20k_full", tmp_path, 1, short_side=4)
    made = tmp_path / "ADE20K_2021_17_01" / "images_detectron2" / "validation" / f"{_NAME}.jpg"
    mode, small = read(made)
    assert mode == "L" and small.shape == (4, 5)


def test_scenes_are_collected_and_splits_kept_apart(tmp_path):
    ids = np.full((4, 4), 2978)
    for name, scene in ((_NAME, "urban/street"), ("ADE_val_00000001", "home/attic")):
        _write(tmp_path, name, ids, scene)
    _write(tmp_path, "ADE_train_00000001", ids)
    assert run("ade20k_full", tmp_path, 2).written == 5
    assert run("ade20k_full", tmp_path, 1, split="train").written == 3
    assert _read_made(tmp_path, "ADE_train_00000001", "training")[1].shape == (4, 4)


@pytest.mark.parametrize("suffix", [".jpg", "_seg.png"])
def test_an_image_that_lacks_a_file_is_named(tmp_path, suffix):
    _write(tmp_path, "ADE_val_00000001", np.full((4, 4), 2978))
    folder = _write(tmp_path, _NAME, np.full((4, 4), 2978))
    (folder / f"{_NAME}{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no file .*{_NAME}{suffix}"):
        run("ade20k_full", tmp_path, 1)


def test_wrong_files_are_named(tmp_path):
    folder = _write(tmp_path, _NAME, np.full((4, 4), 2978))
    write_png(folder / f"{_NAME}_seg.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="_seg.png is PNG of mode L, expected a PNG file of 8-bit"):
        run("ade20k_full", tmp_path, 1)
    write_png(folder / f"{_NAME}_seg.png", _encode(np.zeros((4, 5), int)))
    with pytest.raises(ValueError, match=f"{_NAME}.jpg has 4 x 4 pixels, its labels have 4 x 5"):
        run("ade20k_full", tmp_path, 1)
    _write(tmp_path, _NAME, np.full((4, 4), 2978), "home/attic")
    with pytest.raises(ValueError, match=f"{_NAME} is in two folders: .*attic and .*street"):
        run("ade20k_full", tmp_path, 1)
