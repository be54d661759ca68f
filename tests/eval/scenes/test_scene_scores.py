import jax
import numpy as np
import pytest

from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.data.tfds.tinyscenes import JOINT_NAMES
from uniovseg_jax.eval.scenes import scores as scoring
from uniovseg_jax.eval.scenes.images import PreparedImage
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.segmenter import SegmenterConfig
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.weights.store import Pretrained


@pytest.fixture(scope="module")
def pretrained():
    config = get_preset("test")
    tokenizer = train_tokenizer(
        [f"a photo of a {name}." for name in JOINT_NAMES],
        config.clip.vocab_size,
        config.clip.context_length,
    )
    variables = init_variables(config, jax.random.key(0), ("clip",))
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, ("clip",), {})


def _index(name):
    return JOINT_NAMES.index(name)


def _scene(names, predicted):
    """Vertical stripes of `names`, found exactly, whose vectors are those of `predicted`."""
    ids = np.repeat(np.arange(1, len(names) + 1), 4)[None].repeat(8, axis=0).astype(np.int32)
    masks = np.stack([np.where(ids == i + 1, 10.0, -10.0) for i in range(len(names))])
    vectors = np.array([[_index(name)] for name in predicted], np.float32)
    return PreparedImage(
        image=np.zeros((*ids.shape, 3), np.uint8),
        ids=ids,
        segments=tuple(Segment(i + 1, _index(name), 32) for i, name in enumerate(names)),
        masks=FullSizeLogits.at_own_size(masks.astype(np.float32)),
        scores=np.ones(len(names), np.float32),
        pooled={"clip": vectors},
        true_pooled={"clip": vectors},
    )


@pytest.fixture(scope="module")
def score(pretrained):
    scorer = scoring.RowScorer(pretrained, SegmenterConfig(templates="single"), ["blue tree"])
    table = scorer.text_vectors(scoring.JOINT_VOCABULARY)

    def score_images(images):
        return scorer.score(images, lambda pooled: table[pooled["clip"][:, 0].astype(int)])

    return score_images


@pytest.mark.parametrize("kind", ["predicted", "true"])
def test_right_names_score_one_hundred(score, kind):
    names = ["red ball", "blue tree", "grass"]
    scores = getattr(score([_scene(names, names)]), kind)
    for key in ("miou", "pq", "miou_seen", "miou_unseen", "miou_stuff", "right_noun_right_colour"):
        assert scores[key] == pytest.approx(100.0), key
    assert scores["right_noun_wrong_colour"] == scores["right_colour_wrong_noun"] == 0


@pytest.mark.parametrize("kind", ["predicted", "true"])
def test_a_wrong_colour_costs_the_joint_score_and_not_the_nouns(score, kind):
    result = score([_scene(["red ball", "grass"], ["blue ball", "grass"])])
    scores = getattr(result, kind)
    assert scores["miou"] == scores["pq"] == pytest.approx(100.0)
    assert scores["miou_seen"] == 0
    assert scores["miou_stuff"] == pytest.approx(100.0)
    assert scores["right_noun_wrong_colour"] == 100.0
    assert np.isnan(scores["miou_unseen"])
    assert result.image_accuracy == pytest.approx((0.5,))


def test_shares_of_errors_are_over_true_things(score):
    names = ["red ball", "red tree", "green house", "blue ball", "grass"]
    got = ["red tree", "red tree", "green ball", "green house", "sand"]
    scores = score([_scene(names, got)]).predicted
    assert scores["right_colour_wrong_noun"] == 50.0
    assert scores["right_noun_right_colour"] == scores["both_wrong"] == 25.0


def test_counts_are_merged_over_images_before_dividing(score):
    both = score([_scene(["red ball"], ["red ball"]), _scene(["red ball"], ["red tree"])])
    assert both.predicted["miou_seen"] == pytest.approx(50.0)
    assert both.image_accuracy == (1.0, 0.0)


def test_pixels_under_no_mask_are_wrong(score):
    scene = _scene(["red ball", "grass"], ["red ball", "grass"])
    nothing = FullSizeLogits.at_own_size(np.full((2, 8, 8), -10, np.float32))
    scores = score([scene.__class__(**{**scene.__dict__, "masks": nothing})])
    assert scores.predicted["miou"] == scores.predicted["pq"] == 0
    assert scores.predicted["both_wrong"] == 100.0
    assert scores.true["miou"] == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("true", "got", "verdict"),
    [
        ("red ball", "red ball", "right"),
        ("red ball", "blue ball", "wrong_colour"),
        ("red ball", "red tree", "wrong_noun"),
        ("red ball", "blue tree", "both_wrong"),
        ("red ball", "grass", "both_wrong"),
    ],
)
def test_names_are_compared_by_noun_and_colour(true, got, verdict):
    assert scoring.compare_names(_index(true), _index(got)) == verdict
    assert scoring.compare_names(_index(true), -1) == "both_wrong"


def test_the_gap_closed_is_meaningless_under_a_low_ceiling():
    assert scoring.gap_closed(40.0, 58.0, 60.0) == pytest.approx(90.0)
    assert scoring.gap_closed(40.0, 39.0, 45.0) == pytest.approx(-20.0)
    assert scoring.gap_closed(40.0, 44.0, 44.9) is None
