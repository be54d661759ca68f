import numpy as np
import pytest

from uniovseg_jax.alignment.pairs import ImageRegions
from uniovseg_jax.alignment.store import PairStore, StoreWriter, make_targets, region_vectors
from uniovseg_jax.eval import oracle as oracle_lib
from uniovseg_jax.masks import rle_encode

# A red house over grass: rows 0-1 are grass, rows 2-5 the house, whose last row is its door.
_ROWS = {"grass": (0, 2), "house": (2, 6), "door": (5, 6)}


def _mask(first, last):
    mask = np.zeros((6, 4), bool)
    mask[first:last] = True
    return rle_encode(mask)


def _segment(level, name, noun, rows):
    return {"level": level, "name": name, "noun": noun, **_mask(*rows)}


ORACLE = {
    "a": {
        "segments": [
            _segment("object", "red house", "house", _ROWS["house"]),
            _segment("part", "red house", "house", _ROWS["door"]),
            _segment("region", "grass", "grass", _ROWS["grass"]),
        ]
    }
}
REGIONS = [_ROWS["grass"], _ROWS["house"], _ROWS["door"], (2, 5)]


def _image(entities):
    n = len(REGIONS)
    return ImageRegions(
        image_id="a",
        entities=tuple(entities),
        masks=tuple(_mask(*rows) for rows in REGIONS),
        scores=np.ones(n, np.float32),
        costs=np.zeros((1, n, len(entities)), np.float32),
        pooled={"clip": np.arange(n, dtype=np.float32)[:, None]},
    )


def _embed(names):
    return np.array([[len(name), 1.0] for name in names], np.float32)


def _store(directory, entities, pairs):
    image = _image(entities)
    with StoreWriter(directory, {}) as writer:
        writer.add(image, np.array(pairs, np.int32))
        rows = [(region_vectors(image, r), entities[e]) for r, e in pairs]
        names = sorted(set(entities))
        writer.finish(make_targets(rows, names, _embed(names)))
    return PairStore(directory)


@pytest.mark.parametrize(
    ("entity", "region", "strict", "with_parts"),
    [
        ("red house", 1, 1, 1),
        ("house", 1, 1, 1),  # Without a colour every house is right.
        ("house", 3, 1, 1),  # IoU 3 / 4 with the house.
        ("red house", 2, 0, 1),  # The door is a part of the right thing.
        ("blue house", 1, 0, 0),
        ("red house", 0, 0, 0),
        ("grass", 0, 1, 1),
        ("dog", 1, 0, 0),
    ],
)
def test_a_pair_is_right_by_name_and_overlap(tmp_path, entity, region, strict, with_parts):
    store = _store(tmp_path / "pairs", [entity], [(region, 0)])
    (joined,) = oracle_lib.join_oracle(store, ORACLE)
    assert oracle_lib.count_correct_pairs(joined) == (strict, with_parts)


def test_confident_pairs_are_counted_by_themselves(tmp_path):
    image = _image(["house", "sand"])
    with StoreWriter(tmp_path / "pairs", {}) as writer:
        writer.add(image, np.array([[1, 0], [0, 1]], np.int32))
        writer.finish(
            make_targets([(region_vectors(image, 1), "house")], ["house"], _embed(["house"])),
            np.array([True, False]),
        )
    store = PairStore(tmp_path / "pairs")
    _, accuracy = oracle_lib.write_ceiling(store, ORACLE, _embed, tmp_path / "ceiling")
    assert accuracy["strict"] == 50.0 and accuracy["confident_strict"] == 100.0


def test_the_ceiling_names_every_region_that_overlaps_a_whole_segment(tmp_path):
    store = _store(tmp_path / "pairs", ["house", "sand"], [(2, 0), (0, 1)])
    ceiling, accuracy = oracle_lib.write_ceiling(store, ORACLE, _embed, tmp_path / "ceiling")
    targets = ceiling.targets()
    named = {
        int(vector[0]): targets.names[entity]
        for vector, entity in zip(targets.pooled["clip"], targets.entity, strict=True)
    }
    # The door alone is no whole thing, so it takes no part.
    assert named == {0: "grass", 1: "red house", 3: "red house"}
    assert accuracy == {
        "strict": 0.0,
        "with_parts": 50.0,
        "confident_strict": 0.0,
        "confident_with_parts": 50.0,
    }
    np.testing.assert_array_equal(
        ceiling.arrays()["text"], _embed(["grass", "red house", "red house"])
    )


def test_an_oracle_of_another_world_is_refused(tmp_path):
    store = _store(tmp_path / "pairs", ["grass"], [(0, 0)])
    with pytest.raises(ValueError, match="no image a"):
        list(oracle_lib.join_oracle(store, {}))
