"""Perfect proposals in place of a model score 100 on every reader: no id is mixed up on the way."""

import layouts
import numpy as np
import pytest
from made_segmenter import PerfectSegmenter

from configs.eval import get_config
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.eval.from_config import make_segmenter_config
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.inference.framing import Letterbox
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.segmenter import ImageProposals
from uniovseg_jax.vocabulary import parse_vocabulary

CASES = [
    (layouts.make_coco, "coco_panoptic", "semantic"),
    (layouts.make_coco, "coco_panoptic", "panoptic"),
    (layouts.make_coco, "coco_panoptic", "instance"),
    (layouts.make_ade, "ade20k_150", "semantic"),
    (layouts.make_ade, "ade20k_150", "instance"),
    (layouts.make_ade_full, "ade20k_847", "semantic"),
    (layouts.make_context_prepared, "pascal_context_459", "semantic"),
    (layouts.make_context_owners, "pascal_context_59", "semantic"),
    (layouts.make_voc, "pascal_voc21", "semantic"),
    (layouts.make_voc, "pascal_voc21_threshold", "semantic"),
    (layouts.make_voc, "pascal_voc20", "semantic"),
    (layouts.make_voc, "pascal_voc20b", "semantic"),
    (layouts.make_cityscapes, "cityscapes", "semantic"),
    (layouts.make_cityscapes, "cityscapes", "panoptic"),
    (layouts.make_cityscapes, "cityscapes", "instance"),
    (layouts.make_folder, "folder", "semantic"),
]


def make_scorer(root, make, name, task, protocol="fcclip"):
    make(root)
    (benchmark,) = open_benchmarks(name, root)
    config = make_segmenter_config(get_config(f"{name},protocol={protocol}"), Letterbox(64))
    segmenter = PerfectSegmenter(benchmark, task, config)
    return benchmark, segmenter, NamedScorer(benchmark, [task], segmenter)


@pytest.mark.parametrize("protocol", ["fcclip", "released"])
@pytest.mark.parametrize(("make", "name", "task"), CASES)
def test_the_truth_as_prediction_scores_100(tmp_path, make, name, task, protocol):
    benchmark, segmenter, scorer = make_scorer(tmp_path, make, name, task, protocol)
    results = [scorer.score(segmenter, image_id) for image_id in benchmark.images]
    found = scorer.total(results)[task]["all"]
    headline = {"semantic": "miou", "panoptic": "pq", "instance": "ap"}[task]
    assert found[headline] == 1.0
    assert scorer.headline(results) == f"{headline} 100.00"
    for result in results:
        assert result["quality"] == {task: None if task == "instance" else 1.0}
        assert set(result["seconds"]) == {"load", "network", "merge", "metric"}
    truths, _ = scorer.read(next(iter(benchmark.images)))
    model = segmenter.propose(benchmark.image(next(iter(benchmark.images)), None))
    true, predicted = scorer.tasks[0].maps(truths[0], segmenter, model)
    scored = true >= 0
    np.testing.assert_array_equal(predicted[scored], true[scored])


def test_wrong_words_cost_what_they_cover(tmp_path):
    benchmark, segmenter, scorer = make_scorer(
        tmp_path, layouts.make_voc, "pascal_voc21", "semantic"
    )
    first = next(iter(benchmark.images))
    truth = benchmark.readers["semantic"](first)
    proposals = segmenter.propose(benchmark.image(first, None))
    # Class 7 is taken for class 20, and the other way round.
    proposals.embeddings[:, [7, 20]] = proposals.embeddings[:, [20, 7]]
    found = scorer.total([scorer.score(segmenter, first)])["semantic"]["all"]
    wrong = np.isin(truth, (7, 20)).sum() / (truth >= 0).sum()
    assert found["miou"] == 0.5 and found["pixel_accuracy"] == pytest.approx(1 - wrong)


def test_pixels_that_nothing_is_sure_of_are_background(tmp_path):
    benchmark, segmenter, scorer = make_scorer(
        tmp_path, layouts.make_voc, "pascal_voc21_threshold", "semantic"
    )
    first = next(iter(benchmark.images))
    proposals = segmenter.propose(benchmark.image(first, None))
    # As like one class as like another: no class has more than half.
    proposals.embeddings[:] = 1.0
    scored = scorer.score(segmenter, first)
    predicted = scorer.tasks[0].maps(scorer.read(first)[0][0], segmenter, proposals)[1]
    assert (predicted == 0).all() and scored["quality"]["semantic"] < 0.5


def test_what_does_not_fit_together_is_refused(tmp_path):
    benchmark, segmenter, _ = make_scorer(tmp_path, layouts.make_voc, "pascal_voc21", "semantic")
    with pytest.raises(ValueError, match="has no task 'panoptic'; expected some of semantic"):
        NamedScorer(benchmark, ["panoptic"], segmenter)
    with pytest.raises(ValueError, match="No task of pascal_voc21 is asked for"):
        NamedScorer(benchmark, [], segmenter)
    (other,) = open_benchmarks("pascal_voc20b", tmp_path)
    with pytest.raises(ValueError, match="has 21 classes, voc_20_context_39 .* has 59"):
        NamedScorer(other, ["semantic"], segmenter)


def test_a_background_of_many_names_wins_where_one_of_many_classes_does_not(tmp_path):
    # Two masks of the same pixels, as probabilities of chair, sky and wall.
    masks = FullSizeLogits.at_own_size(np.full((2, 8, 10), 10, np.float32))
    rows = [{"chair": 0.40, "sky": 0.45, "wall": 0.15}, {"chair": 0.40, "sky": 0.15, "wall": 0.45}]
    layouts.make_voc(tmp_path)
    found = {}
    for name in ("pascal_voc21", "pascal_voc20b"):
        (benchmark,) = open_benchmarks(name, tmp_path)
        config = make_segmenter_config(get_config(name), Letterbox(64))
        segmenter = PerfectSegmenter(benchmark, "semantic", config)
        words = benchmark.words or benchmark.classes
        names = [info.name.replace("background", "background|sky|wall") for info in words.classes]
        vocabulary = parse_vocabulary(names)
        segmenter._vocabulary, segmenter._logit_scale = vocabulary, 1.0
        segmenter._name_vectors = np.eye(len(vocabulary.names), dtype=np.float32)
        cosines = [[np.log(row.get(n, 1e-9)) for n in vocabulary.names] for row in rows]
        proposals = ImageProposals(masks, np.ones(2, np.float32), np.array(cosines, np.float32))
        (task,) = NamedScorer(benchmark, ["semantic"], segmenter).tasks
        (index,) = np.unique(task.predict(segmenter, proposals)).tolist()
        found[name] = benchmark.classes.classes[index].name
    # The better of both names speaks for one class; of two classes each has its own half.
    assert found == {"pascal_voc21": "background", "pascal_voc20b": "chair"}
