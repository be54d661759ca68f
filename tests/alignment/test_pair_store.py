import json

import numpy as np
import pytest

from uniovseg_jax.alignment import store as store_lib
from uniovseg_jax.alignment.pairs import ImageRegions, match_image
from uniovseg_jax.alignment.store import PairStore, StoreWriter, make_targets, open_store

NAMES = ("blue tree", "grass", "red ball")


def _images(count):
    rng = np.random.default_rng(0)
    for i in range(count):
        n, e = int(rng.integers(0, 5)), int(rng.integers(0, 4))
        yield ImageRegions(
            image_id=f"image{i}",
            entities=tuple(NAMES[:e]),
            masks=tuple({"size": [4, 4], "counts": f"{k}0{i}"} for k in range(n)),
            scores=rng.random(n).astype(np.float32),
            costs=rng.random((2, n, e)).astype(np.float32),
            pooled={
                "clip": rng.random((n, 5)).astype(np.float32),
                "res2": rng.random((n, 3)).astype(np.float32),
            },
        )


def _write(directory, images, settings):
    rows = []
    with StoreWriter(directory, settings) as writer:
        for image in images:
            pairs = match_image(image)
            writer.add(image, pairs)
            rows += [
                (store_lib.region_vectors(image, r), image.entities[e]) for r, e in pairs.tolist()
            ]
        writer.finish(make_targets(rows, NAMES, np.eye(3, 6, dtype=np.float32)))


def test_what_was_written_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(store_lib, "_IMAGES_PER_SHARD", 3)
    images = list(_images(8))
    _write(tmp_path / "pairs", images, {"seed": 1})
    store = PairStore(tmp_path / "pairs")
    assert store.manifest["shards"] == 3
    assert store.manifest["counts"]["images"] == 8
    for (read, pairs), image in zip(store.images(), images, strict=True):
        assert (read.image_id, read.entities, read.masks) == (
            image.image_id,
            image.entities,
            image.masks,
        )
        np.testing.assert_array_equal(read.costs, image.costs)
        np.testing.assert_array_equal(read.scores, image.scores)
        np.testing.assert_array_equal(read.pooled["res2"], image.pooled["res2"])
        np.testing.assert_array_equal(pairs, match_image(image))


def test_training_arrays_hold_the_vectors_and_embeddings_of_the_pairs(tmp_path):
    images = list(_images(6))
    _write(tmp_path / "pairs", images, {})
    store = PairStore(tmp_path / "pairs")
    arrays = store.arrays()
    pairs = list(store.pairs())
    assert len(pairs) == len(arrays["entity"]) == store.manifest["counts"]["pairs"] > 0
    by_id = {image.image_id: image for image in images}
    for row, pair in enumerate(pairs):
        image = by_id[pair.image_id]
        np.testing.assert_array_equal(
            arrays["pooled"]["clip"][row], image.pooled["clip"][pair.region]
        )
        assert NAMES[arrays["entity"][row]] == pair.entity
        np.testing.assert_array_equal(arrays["text"][row], np.eye(3, 6)[NAMES.index(pair.entity)])


def test_only_a_finished_store_of_the_same_settings_is_reused(tmp_path):
    directory = tmp_path / "pairs"
    assert open_store(directory, {"sides": (1, 2)}) is None
    _write(directory, _images(4), {"sides": (1, 2)})
    assert open_store(directory, {"sides": (1, 2)}) is not None
    assert open_store(directory, {"sides": (1, 3)}) is None


def test_a_store_that_is_not_finished_leaves_nothing_and_keeps_the_old_one(tmp_path):
    directory = tmp_path / "pairs"
    _write(directory, _images(4), {"run": 1})
    with pytest.raises(KeyboardInterrupt):
        with StoreWriter(directory, {"run": 2}) as writer:
            writer.add(next(iter(_images(1))), np.zeros((0, 2), np.int32))
            raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]
    assert PairStore(directory).settings == {"run": 1}


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
