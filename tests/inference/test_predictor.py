import numpy as np
import pytest

from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.ops.resize import resize_bilinear_numpy
from uniovseg_jax.proposals import letterbox
from uniovseg_jax.weights.store import Pretrained


@pytest.fixture(scope="module")
def predictor(pretrained, image):
    predictor = Predictor(pretrained)
    predictor.set_image(image)
    return predictor


POINTS = np.array([[0, 0], [60, 30], [109, 69], [5, 60], [80, 11]])


def test_points_give_four_masks_each_at_the_images_size(predictor, image):
    masks, ious, logits = predictor.predict(POINTS, np.ones(5, int))
    assert masks.shape == (5, 4, *image.shape[:2]) and masks.dtype == bool
    assert ious.shape == (5, 4) and (ious >= 0).all() and (ious <= 1).all()
    assert logits.shape == (5, 4, 16, 16)


def test_masks_are_the_resized_logits_without_the_padding(predictor, image):
    masks, _, logits = predictor.predict(POINTS[:2], [1, 1])
    up = resize_bilinear_numpy(logits.reshape(-1, 16, 16), (64, 64))
    content_height = round(70 * 64 / 110)
    full = resize_bilinear_numpy(up[:, :content_height], image.shape[:2])
    certain = np.abs(full) > 1e-4
    np.testing.assert_array_equal(masks.reshape(-1, 70, 110)[certain], full[certain] >= 0)


def test_every_point_is_a_prompt_of_its_own(predictor):
    together = predictor.predict(POINTS, np.ones(5, int))
    for i, point in enumerate(POINTS):
        _, ious, logits = predictor.predict([point], [1])
        np.testing.assert_allclose(logits[0], together[2][i], atol=2e-4)
        np.testing.assert_allclose(ious[0], together[1][i], atol=1e-5)


def test_packed_masks_are_those_of_predict_however_many_prompts(predictor, image):
    rng = np.random.default_rng(0)
    points = rng.random((70, 2)) * (image.shape[1] - 1, image.shape[0] - 1)
    for prompts in ({"point_coords": points}, {"box": np.c_[points / 2, points / 2 + 20]}):
        labels = {"point_labels": np.ones(70)} if "point_coords" in prompts else {}
        masks, ious, logits = predictor.predict(**prompts, **labels)
        chunks = list(predictor.predict_packed(**prompts))
        assert [len(quality) for _, quality in chunks] == [64, 6]
        np.testing.assert_allclose(np.concatenate([q for _, q in chunks]), ious, atol=1e-5)
        packed = [m.mask(i) for m, _ in chunks for i in range(len(m))]
        # Another number of prompts at a time rounds logits differently: only those next to 0 flip.
        differ = np.stack(packed).reshape(masks.shape) != masks
        assert differ.mean() < 1e-4 and np.abs(logits).max() > 0.1


def test_packed_masks_are_of_the_image_that_was_set_when_they_were_asked_for(pretrained, image):
    predictor = Predictor(pretrained)
    predictor.set_image(image)
    ((before, _),) = predictor.predict_packed(POINTS)
    lazy = predictor.predict_packed(POINTS)
    predictor.set_image(image[:33, :44])
    ((after, _),) = lazy
    np.testing.assert_array_equal(after.words, before.words)
    with pytest.raises(ValueError, match="is outside the image"):
        predictor.predict_packed(POINTS)
    with pytest.raises(ValueError, match="either points or"):
        predictor.predict_packed()


def test_one_mask_per_point_is_the_one_of_highest_quality(predictor):
    _, ious, logits = predictor.predict(POINTS, np.ones(5, int))
    _, best_ious, best_logits = predictor.predict(POINTS, np.ones(5, int), multimask_output=False)
    np.testing.assert_array_equal(best_ious[:, 0], ious.max(axis=1))
    np.testing.assert_array_equal(best_logits[:, 0], logits[np.arange(5), ious.argmax(axis=1)])


def test_a_box_means_the_same_on_the_image_and_on_what_the_network_sees(predictor, image):
    predictor.set_image(image[:55])  # Its content is 64 x 32, without rounding.
    logits = predictor.predict(box=[0, 11, 110, 55])[2]
    predictor.set_image(letterbox(image[:55], 64)[0])
    expected = predictor.predict(box=[0, 6.4, 64, 32])[2]
    predictor.set_image(image)
    np.testing.assert_array_equal(logits, expected)


def test_a_box_gives_one_mask_alone_or_among_others(predictor):
    box = np.array([10, 10, 60, 50.5])
    masks, _, logits = predictor.predict(box=box)
    assert masks.shape == (1, 1, 70, 110)
    several = predictor.predict(box=np.stack([[0, 0, 110, 70], box]))
    np.testing.assert_allclose(several[2][1], logits[0], atol=2e-4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "either points or boxes"),
        ({"point_coords": [[1, 1]], "point_labels": [1], "box": [0, 0, 9, 9]}, "either points or"),
        ({"point_coords": [[1, 1]], "point_labels": [0]}, "negative point"),
        ({"point_coords": [[1, 1]]}, "expected 1 labels"),
        ({"point_coords": [[1, 1]], "point_labels": [1, 1]}, "expected 1 labels"),
        ({"point_coords": [1, 1], "point_labels": [1, 1]}, "one row x, y per point"),
        ({"point_coords": [[110, 1]], "point_labels": [1]}, r"\(110, 1\) is outside .*\(109, 69\)"),
        ({"point_coords": [[5, -0.5]], "point_labels": [1]}, "is outside the image"),
        ({"point_coords": [[np.nan, 5]], "point_labels": [1]}, "is outside the image"),
        ({"box": [1, 2, 3]}, "expected x0, y0, x1, y1"),
        ({"box": [50, 10, 50, 20]}, "empty or outside"),
        ({"box": [50, 10, 111, 20]}, "outside the image of 110 x 70 pixels"),
        ({"box": [0, 0, np.inf, 9]}, "empty or outside"),
    ],
)
def test_unusable_prompts_are_one_clear_sentence(predictor, prompts, message):
    with pytest.raises(ValueError, match=message) as caught:
        predictor.predict(**prompts)
    assert "\n" not in str(caught.value)


def test_prompts_before_an_image_and_models_without_masks_are_refused(pretrained):
    with pytest.raises(ValueError, match="call set_image first"):
        Predictor(pretrained).predict([[1, 1]], [1])
    clip = Pretrained(pretrained.model, pretrained.config, {}, None, ("clip",), {})
    with pytest.raises(ValueError, match="parts clip and masks; this one has clip"):
        Predictor(clip)


def test_extreme_images_work(pretrained):
    predictor = Predictor(pretrained)
    for hw in [(1, 1), (1, 300), (2000, 3)]:
        predictor.set_image(np.zeros((*hw, 3), np.uint8))
        masks, _, _ = predictor.predict([[hw[1] - 1, hw[0] - 1]], [1])
        assert masks.shape == (1, 4, *hw)
