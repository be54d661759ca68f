"""What is refused before a run."""

import dataclasses

import layouts
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.benchmarks.check import check_benchmark, check_labels, check_pairs
from uniovseg_jax.benchmarks.registry import open_benchmarks


@pytest.fixture
def benchmark(tmp_path):
    layouts.make_voc(tmp_path)
    return open_benchmarks("pascal_voc20b", tmp_path)[0]


def test_a_whole_copy_passes_without_being_decoded(benchmark):
    for path in benchmark.images.values():
        # The header is there, and nothing else.
        path.write_bytes(path.read_bytes()[:-20])
    check_benchmark(benchmark)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": {}}, "pascal_voc20b has no image"),
        ({"read_semantic": None}, "nothing that it can be scored on"),
        ({"classes": None}, "has no list of classes"),
        ({"words": None}, "go together"),
        ({"folded": np.zeros(58, np.int32)}, "folds 58 words, but its list has 59"),
        ({"folded": np.full(59, 21, np.int32)}, "word 0 to class 21; expected 0 to 20"),
        ({"folded": np.full(59, -1, np.int32)}, "word 0 to class -1"),
    ],
)
def test_what_cannot_be_scored_is_refused(benchmark, change, message):
    with pytest.raises(ValueError, match=message):
        check_benchmark(dataclasses.replace(benchmark, **change))


def test_images_of_another_size_than_their_labels_are_refused(benchmark):
    (path, *_) = benchmark.images.values()
    layouts.write_image(path, np.random.default_rng(0), (10, 8))
    with pytest.raises(ValueError, match=r"2007_000033\.jpg has 10 x 8 pixels, its labels 8 x 10"):
        check_benchmark(benchmark)
    # On its side, as the labels are drawn on the picture that people see.
    exif = Image.Exif()
    exif[0x0112] = 6
    layouts.write_image(path, np.random.default_rng(0), (10, 8), exif=exif)
    check_benchmark(benchmark)
    path.write_text("no image")
    with pytest.raises(ValueError, match=r"2007_000033\.jpg cannot be read as an image"):
        check_benchmark(benchmark)
    with pytest.raises(ValueError, match=r"2007_000033\.jpg cannot be read as an image"):
        check_benchmark(dataclasses.replace(benchmark, read_sizes=None))


def test_reading_all_labels_finds_ids_of_no_class(benchmark, capsys):
    ids = list(benchmark.images)
    check_labels(benchmark, ["semantic"], ids)
    assert "labels of pascal_voc20b: 100%" in capsys.readouterr().err
    path = benchmark.images[ids[1]].parent.parent / "SegmentationClass" / f"{ids[1]}.png"
    layouts.write_labels(path, np.full((8, 10), 21))
    check_benchmark(benchmark, progress=False)
    with pytest.raises(ValueError, match=r"2011_003256\.png holds the value 21"):
        check_labels(benchmark, ["semantic"], ids, progress=False)
    check_labels(benchmark, ["semantic"], ids[:1], progress=False)
    assert not capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-30])
    check_benchmark(benchmark)
    with pytest.raises(ValueError, match=r"2011_003256\.png cannot be read"):
        check_labels(benchmark, ["semantic"], ids, progress=False)


def test_maps_of_two_kinds_and_sizes_are_refused(tmp_path):
    layouts.make_ade(tmp_path)
    folder = tmp_path / "ADEChallengeData2016"
    check_benchmark(open_benchmarks("ade20k_150", tmp_path)[0])
    path = folder / "ade20k_panoptic_val" / "ADE_val_00000002.png"
    layouts.write_ids(path, np.zeros((10, 8), int))
    with pytest.raises(ValueError, match="'ADE_val_00000002' have 10 x 8 pixels, other .* 8 x 10"):
        check_benchmark(open_benchmarks("ade20k_150", tmp_path)[0])


def test_halves_without_their_other_half_are_named(tmp_path):
    files = {name: tmp_path / name for name in "abc"}
    check_pairs(files, dict.fromkeys("cab"), tmp_path)
    with pytest.raises(ValueError, match="are no labels for 'b' and 1 other, of 3 images; exp"):
        check_pairs(files, {"a": 1}, tmp_path)
    with pytest.raises(ValueError, match="is no image for 'd', of 4 labels; exp"):
        check_pairs(files, dict.fromkeys("abcd"), tmp_path)
