import json

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.benchmarks.check import check_benchmark
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.weak_words.cut import CutOptions, cut_drives, split_blocks, words_of

NAMES = ("sky", "road", "car")
OPTIONS = CutOptions(NAMES, block=5, gap=2)


def test_no_two_kinds_are_neighbours():
    stems = [f"{drive}_f{number:05d}" for drive in "ab" for number in range(0, 3000, 30)]
    found = split_blocks(stems, OPTIONS)
    assert set(found) == {"words", "masks", "held_back"}
    kind_of = {stem: kind for kind, frames in found.items() for stem in frames}
    assert len(kind_of) == sum(map(len, found.values())) == 2 * 60
    for one, other in zip(stems, stems[1:], strict=False):
        if one[0] == other[0] and one in kind_of and other in kind_of:
            assert kind_of[one] == kind_of[other]
    assert len(found["words"]) == len(found["masks"]) == 2 * len(found["held_back"])


def test_words_are_those_of_classes_that_cover_enough():
    labels = np.full((10, 20), 11)
    labels[0, :3] = 2
    labels[5:] = 1
    assert words_of(labels, OPTIONS) == ["road", "car"]
    labels[0, 1:3] = 11  # One of 200 pixels is left.
    assert words_of(labels, OPTIONS) == ["road"]


@pytest.fixture
def drives(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in range(25):
        image = rng.integers(0, 256, (12, 16, 3), np.uint8)
        labels = rng.integers(0, 2, (12, 16)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"a_{number:03d}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"a_{number:03d}.png")
    return tmp_path


def test_quarters_make_up_the_photographs(drives):
    output = drives / "out"
    counts = cut_drives(drives / "images", drives / "labels", output, OPTIONS)
    assert counts == {"words": 24, "masks": 24, "held_back": 12}
    assert not (output / "masks" / "captions.jsonl").exists()
    rows = [json.loads(line) for line in (output / "words" / "captions.jsonl").open()]
    assert rows[0] == {"id": "a_002_0", "image": "a_002_0.png", "caption": "sky, road"}
    for folder in ("images", "labels"):
        parts = [
            np.asarray(Image.open(output / "words" / folder / f"a_002_{i}.png")) for i in range(4)
        ]
        whole = np.block(
            [[p if p.ndim == 2 else p[..., 0] for p in parts[i : i + 2]] for i in (0, 2)]
        )
        expected = np.asarray(Image.open(drives / folder / "a_002.png"))
        np.testing.assert_array_equal(whole, expected if expected.ndim == 2 else expected[..., 0])


def test_every_kind_is_a_benchmark_of_its_own(drives):
    labels = np.full((12, 16), 11, np.uint8)
    Image.fromarray(labels).save(drives / "labels" / "a_024.png")
    options = CutOptions(NAMES, all_as="val")
    output = drives / "out"
    assert cut_drives(drives / "images", drives / "labels", output, options) == {"val": 100}
    assert sorted(path.name for path in (output / "val").iterdir()) == [
        "images",
        "labels",
        "names.txt",
    ]
    (benchmark,) = open_benchmarks("folder", output / "val")
    check_benchmark(benchmark)
    assert benchmark.classes is not None and len(benchmark.images) == 100
    assert [info.name for info in benchmark.classes.classes] == list(NAMES)
    assert (benchmark.read_semantic("a_024_3") == -1).all()
    whole = np.asarray(Image.open(drives / "labels" / "a_003.png"))
    np.testing.assert_array_equal(benchmark.read_semantic("a_003_1"), whole[:6, 8:])


def test_bad_folders_are_refused_and_nothing_is_written(drives):
    output = drives / "out"
    with pytest.raises(FileNotFoundError, match="expected photographs"):
        cut_drives(drives, drives / "labels", output, OPTIONS)
    (drives / "labels" / "a_003.png").unlink()
    with pytest.raises(ValueError, match="a_003.png has no label map"):
        cut_drives(drives / "images", drives / "labels", output, OPTIONS)
    assert not output.exists()
    output.mkdir()
    with pytest.raises(ValueError, match="expected a new folder"):
        cut_drives(drives / "images", drives / "labels", output, OPTIONS)
