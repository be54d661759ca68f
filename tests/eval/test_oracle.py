import numpy as np
import pytest
from made_regions import make_regions, write_store

from uniovseg_jax.alignment.store import PairStore
from uniovseg_jax.alignment.store_writer import StoreWriter
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
    costs = np.zeros((1, n, len(entities)), np.float32)
    pooled = {"clip": np.arange(n, dtype=np.float32)[:, None]}
    return make_regions("a", entities, costs, pooled, [_mask(*rows) for rows in REGIONS])


def _embed(names):
    return np.array([[len(name), 1.0] for name in names], np.float32)


def _store(directory, entities, pairs, confident=None):
    writer = StoreWriter(directory, {})
    write_store(writer, [(_image(entities), pairs)], _embed, confident)
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
    confident = np.array([True, False])
    store = _store(tmp_path / "pairs", ["house", "sand"], [(1, 0), (0, 1)], confident)
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
        targets.examples(np.arange(3))["text"], _embed(["grass", "red house", "red house"])
    )


def test_an_oracle_of_another_world_is_refused(tmp_path):
    store = _store(tmp_path / "pairs", ["grass"], [(0, 0)])
    with pytest.raises(ValueError, match="no image a"):
        list(oracle_lib.join_oracle(store, {}))
