import json

import numpy as np
import pytest
from made_regions import keep_regions, make_regions, write_store

from uniovseg_jax.alignment import store_writer as writer_lib
from uniovseg_jax.alignment.pairs import match_costs
from uniovseg_jax.alignment.store import PairStore, StoredImage, open_store
from uniovseg_jax.alignment.store_writer import StoreWriter, write_targets

NAMES = ("blue tree", "grass", "red ball")


def _embed(names):
    return np.eye(3, 6, dtype=np.float32)[[NAMES.index(name) for name in names]]


def _images(count):
    rng = np.random.default_rng(0)
    for i in range(count):
        n, e = int(rng.integers(0, 5)), int(rng.integers(0, 4))
        pooled = {
            "clip": rng.random((n, 5)).astype(np.float32),
            "res2": rng.random((n, 3)).astype(np.float32),
        }
        costs = rng.random((2, n, e)).astype(np.float32)
        masks = [{"size": [4, 4], "counts": f"{k}0{i}"} for k in range(n)]
        image = make_regions(f"image{i}", NAMES[:e], costs, pooled, masks)
        yield image, match_costs(costs)


def _write(directory, images, settings):
    write_store(StoreWriter(directory, settings), list(images), _embed)
    return PairStore(directory)


def test_what_was_written_comes_back(tmp_path):
    images = list(_images(8))
    store = _write(tmp_path / "pairs", images, {"seed": 1})
    assert store.manifest["shards"] == 1
    for read, (image, pairs) in zip(store.images(), images, strict=True):
        assert read.preview == b"jpeg"
        assert (read.regions.caption, read.regions.masks) == (image.caption, image.masks)
        np.testing.assert_array_equal(read.regions.costs, image.costs)
        np.testing.assert_array_equal(read.regions.scores, image.scores)
        np.testing.assert_array_equal(read.regions.pooled["res2"], image.pooled["res2"])
        np.testing.assert_array_equal(read.regions.kept, image.kept)
        np.testing.assert_array_equal(read.pairs, pairs)


def test_a_store_may_keep_the_regions_of_its_pairs_alone(tmp_path):
    images = [(keep_regions(image, pairs[:, 0]), pairs) for image, pairs in _images(8)]
    store = _write(tmp_path / "pairs", images, {})
    for read, (image, pairs) in zip(store.images(), images, strict=True):
        np.testing.assert_array_equal(read.regions.pooled["clip"], image.pooled["clip"])
        for region in pairs[:, 0].tolist():
            found, expected = read.regions.vectors(region), image.vectors(region)
            np.testing.assert_array_equal(found["clip"], expected["clip"])
            assert read.regions.mask(region) == image.mask(region)


def test_examples_hold_the_vectors_and_embeddings_of_the_pairs(tmp_path):
    images = list(_images(6))
    store = _write(tmp_path / "pairs", images, {})
    pairs, targets = list(store.pairs()), store.targets()
    assert len(pairs) == len(targets) == store.manifest["targets"] > 0
    examples = targets.examples(np.arange(len(pairs)))
    assert examples["valid"].all()
    by_id = {image.image_id: image for image, _ in images}
    for row, pair in enumerate(pairs):
        expected = by_id[pair.image_id].pooled["clip"][pair.region]
        np.testing.assert_array_equal(examples["pooled"]["clip"][row], expected)
        assert targets.names[examples["entity"][row]] == pair.entity
        np.testing.assert_array_equal(examples["text"][row], _embed([pair.entity])[0])
        np.testing.assert_array_equal(targets.examples(row)["text"], _embed([pair.entity])[0])


def test_only_a_finished_store_of_the_same_settings_is_reused(tmp_path):
    directory = tmp_path / "pairs"
    assert open_store(directory, {"sides": (1, 2)}) is None
    _write(directory, _images(4), {"sides": (1, 2)})
    assert open_store(directory, {"sides": (1, 2)}) is not None
    assert open_store(directory, {"sides": (1, 3)}) is None


def test_a_store_that_is_not_finished_keeps_the_old_one_and_its_own_shards(tmp_path, caplog):
    directory = tmp_path / "pairs"
    _write(directory, _images(4), {"run": 1})
    stored = [StoredImage(image, pairs, b"") for image, pairs in _images(2)]
    writer = StoreWriter(directory, {"run": 2})
    with pytest.raises(KeyboardInterrupt), writer.held():
        writer.write_shard(1, stored)
        raise KeyboardInterrupt
    assert PairStore(directory).settings == {"run": 1}
    with writer.held():
        assert writer.has_shard(1) and not writer.has_shard(0)
    assert not caplog.text
    other = StoreWriter(directory, {"run": 3})
    with other.held():
        assert not other.has_shard(1)
    assert ".pairs.partial was begun with other settings: run was '2' and is '3'." in caplog.text


@pytest.mark.parametrize("name", ["rmtree", "replace"])
def test_ended_while_it_finishes_a_store_loses_nothing(tmp_path, monkeypatch, name):
    directory = tmp_path / "pairs"
    _write(directory, _images(4), {"run": 1})
    module = {"rmtree": writer_lib.shutil, "replace": writer_lib.os}[name]
    action, calls = getattr(module, name), []

    def end_at(number):
        def end(*arguments, **options):
            calls.append(arguments)
            if len(calls) == number:
                raise KeyboardInterrupt
            return action(*arguments, **options)

        calls.clear()
        monkeypatch.setattr(module, name, end)

    expected = list(_images(6))
    number = 1
    while True:
        end_at(number)
        writer = StoreWriter(directory, {"run": 2})
        try:
            with writer.held():
                if number > 1 and not directory.exists():
                    assert writer.has_shard(0)
            write_store(writer, expected, _embed)
            break
        except KeyboardInterrupt:
            number += 1
            stores = [tmp_path / "pairs", tmp_path / ".pairs.earlier"]
            assert any((store / "manifest.json").is_file() for store in stores)
    monkeypatch.undo()
    assert number > 2
    assert PairStore(directory).settings == {"run": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs"]


def test_two_cannot_write_the_same_store(tmp_path):
    first, second = (StoreWriter(tmp_path / "pairs", {}) for _ in range(2))
    with first.held(), pytest.raises(ValueError, match="in use by another matching"):
        with second.held():
            pass


def test_targets_can_stand_alone(tmp_path):
    rows = [({"clip": np.ones(2, np.float32) * i}, NAMES[i % 2]) for i in range(5)]
    store = write_targets(tmp_path / "pairs", {}, rows, _embed)
    assert list(store.images()) == []
    np.testing.assert_array_equal(store.targets().entity, [0, 1, 0, 1, 0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs"]


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="left alone"):
        StoreWriter(tmp_path, {})
    with pytest.raises(FileNotFoundError, match="no pair store"):
        PairStore(tmp_path)


def test_another_format_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        PairStore(tmp_path)
