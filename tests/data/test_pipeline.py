"""Batches: the same for the same seed, wherever one starts; never one epoch like the other."""

import jax
import ml_collections
import numpy as np
import pytest

from uniovseg_jax.data import pipeline
from uniovseg_jax.masks import rle_encode

CONFIG = ml_collections.ConfigDict(
    {
        "max_instances": 3,
        "area_range": (1e-4, 0.8),
        "points_per_side": 2,
        "num_boxes": 2,
        "scale_range": (0.8, 1.2),
        "brightness": 0.2,
        "colour_jitter": False,
        "max_skipped": 0.5,
        "phrase_rate": 0.5,
    }
)


def make_source(count=5):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            "caption": "x" * i,
            "masks": [rle_encode(rng.random((32, 32)) < 0.3) for _ in range(i)],
        }
        for i in range(count)
    ]


def clip_batches(seed=0):
    transform = pipeline.make_clip_transform(
        CONFIG, lambda texts: np.array([[len(text)] for text in texts], np.int32), seed
    )
    return iter(pipeline.make_batches(make_source(), transform, batch_size=5, seed=seed))


def stage1_batches(seed=0, batch_size=4, **changes):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | changes)
    transform = pipeline.make_stage1_transform(config, 64, seed)
    return iter(pipeline.make_batches(make_source(), transform, batch_size, seed))


def take(batches, count):
    return [next(batches) for _ in range(count)]


def test_every_epoch_shows_every_example_once_in_another_order_and_another_way():
    epochs = take(clip_batches(), 4)
    orders = [tuple(batch["tokens"][:, 0].tolist()) for batch in epochs]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 1
    images = [batch["image"][batch["tokens"][:, 0] == 2] for batch in epochs]
    assert all((images[0] != image).any() for image in images[1:])


@pytest.mark.parametrize(
    ("rate", "expected"), [(0.0, {"red ball on sand"}), (1.0, {"ball", "red ball", "sand"})]
)
def test_a_phrase_may_stand_for_its_caption_which_comes_along_whole(rate, expected):
    texts = []

    def tokenize(pair):
        texts.append(pair)
        return np.zeros((2, 4), np.int32)

    config = ml_collections.ConfigDict({**CONFIG.to_dict(), "phrase_rate": rate})
    transform = pipeline.make_clip_transform(config, tokenize, seed=0)
    record = {"image": np.zeros((32, 32, 3), np.uint8), "caption": "red ball on sand"}
    for position in range(40):
        transform(position, record)
    assert {text for text, _ in texts} == expected
    assert {caption for _, caption in texts} == {"red ball on sand"}


def test_the_seed_decides_everything():
    first, again, other = (take(stage1_batches(seed), 3) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any((a["image"] != b["image"]).any() for a, b in zip(first, other, strict=True))


def test_an_iterator_goes_on_where_its_state_was_taken():
    batches = stage1_batches()
    take(batches, 3)
    state = batches.get_state()
    expected = take(batches, 2)
    resumed = stage1_batches()
    resumed.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, take(resumed, 2), expected)


def test_an_example_does_not_depend_on_the_size_of_its_batch():
    large = next(stage1_batches(batch_size=4))
    small = take(stage1_batches(batch_size=2), 2)
    for name in large:
        joined = np.concatenate([batch[name] for batch in small])
        np.testing.assert_array_equal(large[name], joined)


def test_stage1_batches_have_fixed_shapes_even_without_masks():
    batch = next(stage1_batches(batch_size=5))
    assert {k: (v.shape[1:], v.dtype.name) for k, v in batch.items()} == {
        "image": ((64, 64, 3), "uint8"),
        "mask_bits": ((3, 64, 8), "uint8"),
        "mask_valid": ((3,), "bool"),
        "points": ((4, 2), "float32"),
        "boxes": ((2, 4), "float32"),
        "box_index": ((2,), "int32"),
        "box_valid": ((2,), "bool"),
    }
    assert sorted(batch["mask_valid"].sum(1).tolist()) == [0, 1, 2, 3, 3]


def test_changes_of_colours_are_drawn_for_the_device_and_leave_the_pixels_alone():
    plain, jittered = (
        next(stage1_batches(batch_size=4, colour_jitter=jitter, brightness=0.0))
        for jitter in (False, True)
    )
    np.testing.assert_array_equal(plain["image"], jittered["image"])
    assert jittered["colours"].shape == (4, 5)
    assert jittered["content_hw"].tolist() != [[64, 64]] * 4
    assert "colours" not in plain


def broken_source(broken):
    source = [record | {"id": str(i)} for i, record in enumerate(make_source(10))]
    for i in broken:
        source[i] = source[i] | {"masks": [{"size": [32, 32], "counts": "not run lengths"}]}
    return source


def test_a_record_that_cannot_be_used_is_skipped_and_moves_no_other(caplog):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"max_skipped": 0.2})
    transform = pipeline.make_stage1_transform(config, 64, 0)
    whole, broken = (
        next(iter(pipeline.make_batches(broken_source(numbers), transform, 10, 0)))
        for numbers in ((), (3,))
    )
    changed = [i for i in range(10) if (whole["image"][i] != broken["image"][i]).any()]
    assert len(changed) == 1
    assert not broken["mask_valid"][changed[0]].any() and not broken["box_valid"][changed[0]].any()
    assert "Record 3 cannot be used" in caplog.text


@pytest.mark.parametrize(("broken", "most"), [((3,), 0.0), ((2, 3, 5, 7), 0.1)])
def test_too_many_unusable_records_end_the_run(broken, most):
    config = ml_collections.ConfigDict(CONFIG.to_dict() | {"max_skipped": most})
    transform = pipeline.make_stage1_transform(config, 64, 0)
    message = f"cannot be used.*more than the share of {most} that data.max_skipped allows"
    with pytest.raises(ValueError, match=message):
        for position, record in enumerate(broken_source(broken)):
            transform(position, record)


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="source is empty"):
        pipeline.make_batches([], lambda i, record: record, 2, 0)
