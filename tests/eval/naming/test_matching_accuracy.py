"""Names of true masks against plain loops: pooling, cosines, and means over sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.eval.naming.matching_accuracy import RegionNamer, measure_accuracy
from uniovseg_jax.eval.naming.true_regions import TrueRegions
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.packed_masks import PackedMasks
from uniovseg_jax.weights.store import Pretrained

# Five names of three classes.
NAME_TO_CLASS = np.array([0, 0, 1, 2, 2])
SETS = ((64,), (96,), (64, 96))


@pytest.fixture(scope="module")
def clip_only():
    """Has no masks and no adapter, and weighs cells by the area that a mask covers."""
    config = get_preset("test")
    assert config.pooling == "area"
    variables = init_variables(config, jax.random.key(0), ("clip",))
    return Pretrained(UniOVSeg(config), config, variables, None, ("clip",), {})


def unit_vectors(rng, count, dim):
    vectors = rng.normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_regions(rng, hw, count):
    masks = np.zeros((count, *hw), bool)
    for mask in masks:
        (y0, y1), (x0, x1) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in hw)
        mask[y0:y1, x0:x1] = True
    image = rng.integers(0, 256, (*hw, 3), np.uint8)
    return TrueRegions(image, PackedMasks.from_masks(masks, hw), rng.integers(0, 3, count)), masks


@functools.cache
def compiled(method):
    """Compiled, since one operation after the other takes longer."""
    methods = {
        "encode_trunk": UniOVSeg.encode_trunk,
        "project": lambda module, pooled: module.clip.project(pooled),
    }
    model = UniOVSeg(get_preset("test"))
    return jax.jit(lambda *inputs: model.apply(*inputs, method=methods[method]))


def embed_by_definition(model, image, masks, size):
    """Unit vectors of masks, cell by cell."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    h, w = int(np.floor(height * scale + 0.5)), int(np.floor(width * scale + 0.5))
    boxed = np.full((size, size, 3), 128, np.uint8)
    boxed[:h, :w] = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BILINEAR))
    trunk = compiled("encode_trunk")(model.variables, jnp.asarray(boxed[None]))
    features = np.asarray(trunk["res5"][0], np.float64)
    cells = size // 32
    pooled = np.zeros((len(masks), features.shape[-1]))
    for number, mask in enumerate(masks):
        weights = np.zeros((cells, cells))
        for y in range(h):
            for x in range(w):
                if mask[int((y + 0.5) * height / h), int((x + 0.5) * width / w)]:
                    weights[y // 32, x // 32] += 1
        if weights.sum():
            pooled[number] = np.einsum("yx,yxc->c", weights / weights.sum(), features)
    projected = compiled("project")(model.variables, jnp.asarray(pooled, jnp.float32))
    projected = np.asarray(projected, np.float64)
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def class_maxima(scores):
    """The best name of every class."""
    return np.stack([scores[:, NAME_TO_CLASS == label].max(axis=1) for label in range(3)], axis=1)


def names_that_differ(model, image, masks, rng):
    """Names near the regions themselves, so that the best one is not always the same."""
    vectors = embed_by_definition(model, image, masks, 64)
    names = vectors[:5] + 0.1 * unit_vectors(rng, 5, vectors.shape[1])
    return (names / np.linalg.norm(names, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("average", ["cosines", "probs"])
def test_classes_are_those_of_plain_loops(clip_only, average):
    rng = np.random.default_rng(1)
    (image, packed, _), masks = random_regions(rng, (41, 70), 7)
    names = names_that_differ(clip_only, image, masks, rng)
    namer = RegionNamer(clip_only, names, NAME_TO_CLASS, (64, 96), average, chunk=3)
    vectors = {size: embed_by_definition(clip_only, image, masks, size) for size in (64, 96)}
    for size, expected in vectors.items():
        np.testing.assert_allclose(namer.embed(image, packed, size), expected, atol=2e-4)
    scale = float(clip_only.model.apply(clip_only.variables, method=UniOVSeg.logit_scale))
    found = namer(image, packed, SETS)
    for sizes, classes in zip(SETS, found, strict=True):
        if average == "cosines":
            scores = class_maxima(np.mean([vectors[size] @ names.T for size in sizes], axis=0))
        else:
            logits = [scale * class_maxima(vectors[size] @ names.T) for size in sizes]
            powers = [np.exp(rows - rows.max(axis=1, keepdims=True)) for rows in logits]
            scores = np.mean([rows / rows.sum(axis=1, keepdims=True) for rows in powers], axis=0)
        np.testing.assert_array_equal(classes, scores.argmax(axis=1))
    assert len({tuple(classes) for classes in found}) > 1 and len(set(found[0].tolist())) > 1


def test_all_threads_of_a_device_share_its_weights(clip_only):
    names = unit_vectors(np.random.default_rng(0), 5, clip_only.config.clip.embed_dim)
    namer = RegionNamer(clip_only, names, NAME_TO_CLASS, (64,))
    first, second = jax.devices()[:2]
    one, other = namer.on_device(first), namer.on_device(first)
    assert jax.tree.leaves(one._variables)[0] is jax.tree.leaves(other._variables)[0]
    elsewhere = jax.tree.leaves(namer.on_device(second)._variables)[0]
    assert elsewhere.devices() == {second}


def test_how_many_masks_are_pooled_at_a_time_changes_nothing(clip_only):
    rng = np.random.default_rng(2)
    names = unit_vectors(rng, 5, clip_only.config.clip.embed_dim)
    namers = [
        RegionNamer(clip_only, names, NAME_TO_CLASS, (64,), chunk=chunk) for chunk in (1, 2, 16)
    ]
    for count in (0, 1, 4, 5):
        (image, packed, _), _ = random_regions(rng, (30, 20), count)
        first, *others = [namer.embed(image, packed, 64) for namer in namers]
        assert first.shape == (count, names.shape[1])
        for other in others:
            np.testing.assert_allclose(other, first, atol=1e-5)


def test_accuracy_counts_masks_and_adds_seconds(clip_only):
    rng = np.random.default_rng(3)
    names = unit_vectors(rng, 5, clip_only.config.clip.embed_dim)
    namer = RegionNamer(clip_only, names, NAME_TO_CLASS, (64, 96))
    images = [random_regions(rng, (24, 33), count)[0] for count in (1, 6)]
    rows = measure_accuracy(namer, images, SETS)
    for place, row in enumerate(rows):
        right = [namer(i.image, i.masks, SETS)[place] == i.labels for i in images]
        assert row["sizes"] == list(SETS[place])
        assert row["top1"] == pytest.approx(100 * np.concatenate(right).mean())
    assert rows[2]["seconds"] == pytest.approx(rows[0]["seconds"] + rows[1]["seconds"])
    assert rows[0]["seconds"] > 0
    assert all(np.isnan(row["top1"]) for row in measure_accuracy(namer, [], SETS))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sizes": (100,)}, "multiples of 32; got 100"),
        ({"sizes": (0,)}, "got 0"),
        ({"sizes": ()}, "there is none"),
        ({"sizes": (64,), "average": "logits"}, "cosines, probs"),
    ],
)
def test_impossible_settings_are_refused(clip_only, options, complaint):
    names = unit_vectors(np.random.default_rng(0), 5, clip_only.config.clip.embed_dim)
    with pytest.raises(ValueError, match=complaint):
        RegionNamer(clip_only, names, NAME_TO_CLASS, **options)
