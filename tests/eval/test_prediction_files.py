"""Predictions as files: scored by their own, they have the numbers of the run that wrote them."""

import dataclasses
import json

import layouts
import numpy as np
import pytest
from made_model import quick_config
from made_segmenter import PerfectSegmenter
from PIL import Image

from configs.eval import get_config
from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.eval.evaluate import evaluate
from uniovseg_jax.eval.files.score_files import score_panoptic, score_semantic
from uniovseg_jax.eval.files.score_objects import score_instances
from uniovseg_jax.eval.from_config import make_segmenter_config
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.prediction_files import PredictionFiles
from uniovseg_jax.inference.framing import Letterbox


def run(model, root, output, name="ade20k_150", **changes):
    config = quick_config(name, save_predictions=True, worst=0, **changes)
    (found,) = evaluate(config, str(model), str(root), output, progress=False)
    return {task: scores["all"] for task, scores in found["scores"].items()}


@pytest.mark.parametrize("detectron2", [False, True])
def test_scored_as_files_they_have_the_numbers_of_the_run(
    tiny_model_dir, tmp_path, one_device, stopped_after_one_image, detectron2
):
    layouts.make_ade(tmp_path, detectron2=detectron2)
    root, output = tmp_path / "ADEChallengeData2016", tmp_path / "out"
    # Taken up where it was stopped.
    with stopped_after_one_image():
        run(tiny_model_dir, tmp_path, output, threads_per_device=1)
    found, files = run(tiny_model_dir, tmp_path, output), output / "predictions"
    labels = root / ("annotations_detectron2" if detectron2 else "annotations") / "validation"
    options = (150, [255]) if detectron2 else (151, [0, 255])
    scored = score_semantic(labels, files / "semantic", *options).result["all"]
    for ours, theirs in (("miou", "miou"), ("fwiou", "fwiou"), ("pixel_accuracy", "pacc")):
        assert found["semantic"][ours] == pytest.approx(scored[theirs], abs=1e-9)
    truth = root / "ade20k_panoptic_val.json"
    scored = score_panoptic(truth, None, files / "panoptic.json", None).result["all"]
    for name in ("pq", "sq", "rq"):
        assert found["panoptic"][name] == pytest.approx(scored[name], abs=1e-9)
    scored = score_instances(root / "ade20k_instance_val.json", files / "instance.json").result
    assert found["instance"]["ap"] == pytest.approx(scored["all"]["ap"], abs=1e-9)


@pytest.mark.parametrize(
    ("make", "name", "task"),
    [
        (layouts.make_ade_full, "ade20k_847", "semantic"),
        (layouts.make_ade, "ade20k_150", "semantic"),
        (layouts.make_cityscapes, "cityscapes", "semantic"),
        (layouts.make_cityscapes, "cityscapes", "panoptic"),
        (layouts.make_coco, "coco_panoptic", "panoptic"),
        (layouts.make_ade, "ade20k_150", "panoptic"),
        (layouts.make_ade, "ade20k_150", "instance"),
    ],
)
def test_half_right_predictions_are_half_right_as_files(tmp_path, make, name, task):
    make(tmp_path)
    (benchmark,) = open_benchmarks(name, tmp_path)
    config = make_segmenter_config(get_config(name), Letterbox(64))
    segmenter = PerfectSegmenter(benchmark, task, config)
    segmenter._known = {key: _spoiled(value) for key, value in segmenter._known.items()}
    files = PredictionFiles(tmp_path / "out", benchmark)
    scorer = NamedScorer(benchmark, (task,), segmenter, files)
    results = [scorer.score(segmenter, image_id) for image_id in benchmark.images]
    files.finish((task,), list(benchmark.images))
    found = scorer.total(results)[task]["all"][scorer.tasks[0].headline]
    assert 0 < found < 1
    if task == "semantic":
        maps, pred = "annotations_detectron2/validation", tmp_path / "out" / "semantic"
        # As docs/usage.md has it.
        others = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255]
        folder, *options = {
            "ade20k_847": (f"ADE20K_2021_17_01/{maps}", 847, [65535]),
            "ade20k_150": (f"ADEChallengeData2016/{maps}", 150, [255]),
            "cityscapes": ("cityscapes/gtFine/val", 34, others, *["_gtFine_labelIds.png"] * 2),
        }[name]
        scored = score_semantic(tmp_path / folder, pred, *options).result["all"]["miou"]
    elif task == "panoptic":
        json_path, maps = {
            "coco_panoptic": ("coco/annotations/panoptic_val2017.json", "coco/panoptic_val2017"),
            "ade20k_150": (
                "ADEChallengeData2016/ade20k_panoptic_val.json",
                "ADEChallengeData2016/ade20k_panoptic_val",
            ),
            "cityscapes": (
                "cityscapes/gtFine/cityscapes_panoptic_val.json",
                "cityscapes/gtFine/cityscapes_panoptic_val",
            ),
        }[name]
        truth = tmp_path / json_path, tmp_path / maps
        scored = score_panoptic(*truth, tmp_path / "out/panoptic.json", None).result["all"]["pq"]
    else:
        truth = tmp_path / "ADEChallengeData2016/ade20k_instance_val.json"
        scored = score_instances(truth, tmp_path / "out/instance.json").result["all"]["ap"]
    assert 100 * found == pytest.approx(scored, abs=1e-9)


def _spoiled(proposals):
    """The first proposal gets the class of the second."""
    embeddings = proposals.embeddings.copy()
    embeddings[0] = embeddings[1]
    return dataclasses.replace(proposals, embeddings=embeddings)


def test_numbers_stay_numbers_and_names_are_those_of_the_images(
    tiny_model_dir, tmp_path, one_device
):
    layouts.make_coco(tmp_path)
    # The official names are too long for this model.
    names = [{"index": n, "prompt_names": [f"c{n}"]} for n in range(133)]
    synonyms = tmp_path / "names.json"
    synonyms.write_text(json.dumps({"classes": names}))
    changes = {"tasks": ("panoptic",), "synonyms": str(synonyms)}
    run(tiny_model_dir, tmp_path, tmp_path / "out", "coco_panoptic", **changes)
    document = json.loads((tmp_path / "out" / "predictions" / "panoptic.json").read_text())
    entries = {entry["image_id"]: entry["file_name"] for entry in document["annotations"]}
    assert entries == {139: "000000000139.png", 2000: "000000002000.png"}
    scored = score_panoptic(
        tmp_path / "coco" / "annotations" / "panoptic_val2017.json",
        tmp_path / "coco" / "panoptic_val2017",
        tmp_path / "out" / "predictions" / "panoptic.json",
        None,
    )
    assert scored.result["all"]["n"] > 0


def test_ids_and_void_have_as_many_bits_as_they_need(tmp_path):
    for last, dtype, void in ((254, np.uint8, 255), (255, np.uint16, 65535)):
        classes = ClassList("two", (ClassInfo(7, "a"), ClassInfo(last, "b")))
        benchmark = Benchmark("two", {"x": tmp_path / "picture.jpg"}, classes=classes)
        files = PredictionFiles(tmp_path / str(last), benchmark)
        files.write_semantic("x", np.array([[0, 1], [-1, 0]], np.int32))
        found = np.asarray(Image.open(tmp_path / str(last) / "semantic" / "picture.png"))
        assert found.dtype == dtype and found.tolist() == [[7, last], [void, 7]]


def test_a_lost_entry_is_one_sentence(tmp_path):
    classes = ClassList("one", (ClassInfo(7, "a"),))
    files = PredictionFiles(tmp_path, Benchmark("one", {"x": tmp_path / "x.jpg"}, classes=classes))
    with pytest.raises(ValueError, match=r"panoptic_entries/x\.json, what was predicted on image"):
        files.finish(("panoptic",), ["x"])


def test_prompts_have_no_files(tmp_path):
    rng = np.random.default_rng(0)
    layouts.write_image(tmp_path / "ishape_dataset/wire/val/image/0.jpg", rng)
    path = tmp_path / "ishape_dataset/wire/val/instance_map/0.png"
    layouts.write_labels(path, layouts.blocks(rng, [0, 1, 300]), np.uint16)
    with pytest.raises(ValueError, match="save_predictions is for tasks with words"):
        run(tmp_path, tmp_path, tmp_path / "out", "ishape/wire")
