"""Every reader on a tiny copy of its dataset: what it finds is true, and perfect as prediction."""

import json
import re

import layouts
import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.benchmarks.check import check_benchmark
from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.named import NAMED
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.eval.metrics.panoptic import PanopticScores
from uniovseg_jax.eval.metrics.semantic import SemanticScores
from uniovseg_jax.masks import rle_area, rle_decode

# What makes the layout, the benchmarks that read it, and their tasks.
LAYOUTS = {
    "coco": (layouts.make_coco, ["coco_panoptic"], ("semantic", "panoptic", "instance")),
    "ade": (layouts.make_ade, ["ade20k_150"], ("semantic", "panoptic", "instance")),
    "ade_owners": (
        lambda root, split: layouts.make_ade(root, split, detectron2=False),
        ["ade20k_150"],
        ("semantic", "panoptic", "instance"),
    ),
    "ade_full": (layouts.make_ade_full, ["ade20k_847"], ("semantic",)),
    "context": (
        layouts.make_context_prepared,
        ["pascal_context_59", "pascal_context_459"],
        ("semantic",),
    ),
    "context_owners": (
        layouts.make_context_owners,
        ["pascal_context_59", "pascal_context_459"],
        ("semantic",),
    ),
    "voc": (
        lambda root, split: layouts.make_voc(root, split, prepared=True),
        ["pascal_voc21", "pascal_voc21_threshold", "pascal_voc20", "pascal_voc20b"],
        ("semantic",),
    ),
    "voc_owners": (
        layouts.make_voc,
        ["pascal_voc21", "pascal_voc21_threshold", "pascal_voc20", "pascal_voc20b"],
        ("semantic",),
    ),
    "cityscapes": (
        layouts.make_cityscapes,
        ["cityscapes"],
        ("semantic", "panoptic", "instance"),
    ),
    "folder": (layouts.make_folder, ["folder"], ("semantic",)),
}
CASES = [
    (layout, name, split)
    for layout, (_, names, _) in LAYOUTS.items()
    for name in names
    for split in ("val", "train")
]


def opened(root, layout, name, split="val"):
    truth = LAYOUTS[layout][0](root, split)
    benchmark = open_benchmarks(name, root, split)[0]
    return benchmark, truth.get(name, truth)


def perfect_segments(benchmark, image_id):
    """The truth as a prediction: segments without a pixel cannot be predicted."""
    ids, segments = benchmark.read_panoptic(image_id)
    return ids, [s for s in segments if (ids == s.id).any()]


def test_every_benchmark_is_among_the_layouts():
    rendered = {"tinyscenes"}  # Has no layout; tests/benchmarks/test_rendered.py.
    assert {name for _, names, _ in LAYOUTS.values() for name in names} | rendered == set(NAMED)


@pytest.mark.parametrize(("layout", "name", "split"), CASES)
def test_semantic_truth_is_read_exactly_and_scores_100(tmp_path, layout, name, split):
    benchmark, truth = opened(tmp_path, layout, name, split)
    check_benchmark(benchmark)
    assert benchmark.name == name and benchmark.tasks == LAYOUTS[layout][2]
    by_number = name == "coco_panoptic"
    assert list(benchmark.images) == sorted(truth, key=int if by_number else None)
    scores = SemanticScores(len(benchmark.classes))
    for image_id in benchmark.images:
        found = benchmark.read_semantic(image_id)
        assert found.dtype == np.int32 and benchmark.read_sizes(image_id) == found.shape
        np.testing.assert_array_equal(found, truth[image_id])
        scores.add(found, found)
    met = np.unique(np.concatenate([indices.ravel() for indices in truth.values()]))
    result = scores.compute()
    assert result["miou"] == result["pixel_accuracy"] == 1.0
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(result["iou"])), met[met >= 0])


@pytest.mark.parametrize("layout", ["coco", "cityscapes"])
def test_panoptic_truth_scores_100(tmp_path, layout):
    (name,) = LAYOUTS[layout][1]
    benchmark, truth = opened(tmp_path, layout, name)
    scores = PanopticScores(benchmark.classes.is_thing)
    for image_id in benchmark.images:
        ids, segments = perfect_segments(benchmark, image_id)
        assert any(s.iscrowd for s in segments)
        scores.add(ids, segments, *benchmark.read_panoptic(image_id))
        for s in segments:
            np.testing.assert_array_equal(truth[image_id][ids == s.id], s.category)
        assert (truth[image_id][ids == 0] == -1).all()
    result = scores.compute()
    assert result["all"]["pq"] == result["all"]["sq"] == result["all"]["rq"] == 1.0
    assert result["things"]["classes"] and result["stuff"]["classes"]


def test_ade_keeps_the_areas_of_before_the_instances_were_pasted(tmp_path):
    benchmark, _ = opened(tmp_path, "ade", "ade20k_150")
    scores = PanopticScores(benchmark.classes.is_thing)
    iou, found, lost = np.zeros(150), np.zeros(150), np.zeros(150)
    entries = []
    for image_id in benchmark.images:
        ids, segments = benchmark.read_panoptic(image_id)
        guesses = perfect_segments(benchmark, image_id)[1]
        assert len(guesses) < len(segments)
        scores.add(ids, guesses, ids, segments)
        # All pixels of a segment are found, and its stated area is larger where things hide it.
        for s in segments:
            share = np.count_nonzero(ids == s.id) / s.area
            matched = share > 0.5
            iou[s.category] += share if matched else 0
            found[s.category] += matched
            # What is found but not matched is at fault on both sides.
            lost[s.category] += 0 if matched else 0.5 + 0.5 * (share > 0)
        infos = [{"id": s.id, "category_id": s.category} for s in guesses]
        name = f"{image_id}.png"
        entries.append({"image_id": image_id, "file_name": name, "segments_info": infos})
    met = found + lost > 0
    pq = iou[met] / (found + lost)[met]
    result = scores.compute()
    np.testing.assert_allclose(result["per_class"]["pq"][met], pq, rtol=1e-12)
    assert result["all"]["pq"] == pytest.approx(pq.mean(), rel=1e-12)
    assert 0.3 < result["all"]["pq"] < 1
    assert result["things"]["pq"] == 1.0

    panoptic = pytest.importorskip("hotcoco.panoptic")
    folder = tmp_path / "ADEChallengeData2016"
    truth = json.loads((folder / "ade20k_panoptic_val.json").read_text())
    for name, document in (("truth", truth), ("guesses", truth | {"annotations": entries})):
        (folder / name).symlink_to(folder / "ade20k_panoptic_val")
        # The reference takes numbers only as ids of images.
        text = re.sub(r'"ADE_val_0*(\d+)"', r"\1", json.dumps(document))
        (folder / f"{name}.json").write_text(text)
    reference = panoptic.pq_compute(str(folder / "truth.json"), str(folder / "guesses.json"))
    for group, ours in (("All", "all"), ("Things", "things"), ("Stuff", "stuff")):
        for key in ("pq", "sq", "rq"):
            assert result[ours][key] == pytest.approx(reference[group][key], rel=1e-9)


@pytest.mark.parametrize("layout", ["coco", "ade", "cityscapes"])
def test_instances_are_the_things_with_the_areas_of_their_file(tmp_path, layout):
    (name,) = LAYOUTS[layout][1]
    benchmark, _ = opened(tmp_path, layout, name)
    for image_id in benchmark.images:
        ids, segments = benchmark.read_panoptic(image_id)
        things = [s for s in segments if benchmark.classes.is_thing[s.category]]
        found = benchmark.read_instances(image_id)
        less = 0.25 if layout == "coco" else 0
        expected = {(s.category, s.area - less, s.iscrowd, (ids == s.id).tobytes()) for s in things}
        assert expected == {
            (i.category, i.area, i.iscrowd, rle_decode(i.rle).tobytes()) for i in found
        }
        assert len(found) == len(things)


def test_ade_without_the_instance_file_takes_the_things_of_the_panoptic_one(tmp_path):
    benchmark, _ = opened(tmp_path, "ade", "ade20k_150")
    folder = tmp_path / "ADEChallengeData2016"
    (folder / "ade20k_instance_val.json").unlink()
    again = open_benchmarks("ade20k_150", tmp_path)[0]
    for image_id in again.images:
        pairs = [
            {(i.category, i.area, rle_area(i.rle)) for i in b.read_instances(image_id)}
            for b in (benchmark, again)
        ]
        assert pairs[0] == pairs[1] and pairs[0]
    assert not again.missing
    (folder / "ade20k_panoptic_val.json").unlink()
    alone = open_benchmarks("ade20k_150", tmp_path)[0]
    assert alone.tasks == ("semantic",)
    assert alone.missing["panoptic"].name == "ade20k_panoptic_val.json"
    assert alone.missing["instance"].name == "ade20k_instance_val.json"


def test_files_that_are_elsewhere_are_named_and_not_passed_over(tmp_path):
    layouts.make_cityscapes(tmp_path)
    folder = tmp_path / "cityscapes"
    path = folder / "gtFine" / "cityscapes_panoptic_val.json"
    path.rename(folder / path.name)
    found = open_benchmarks("cityscapes", tmp_path)[0]
    assert found.tasks == ("semantic",) and found.missing == {"panoptic": path, "instance": path}
    layouts.make_coco(tmp_path)
    path = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    path.unlink()
    assert open_benchmarks("coco_panoptic", tmp_path)[0].missing == {"instance": path}


@pytest.mark.parametrize("layout", ["coco", "ade", "cityscapes"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda rows: rows[0].update(name=rows[1]["name"]),
            r"categories\[0\]: id \d+ is '.*', exp",
        ),
        (lambda rows: rows[0].update(isthing=1 - rows[0]["isthing"]), "'isthing' of '.*' is"),
        (lambda rows: rows[0].update(isthing="0"), "'isthing' is 0, expected 0 or 1"),
        (lambda rows: rows.append(7), "'id' is None, expected a whole number"),
    ],
)
def test_categories_of_another_numbering_are_refused(tmp_path, layout, change, words):
    (name,) = LAYOUTS[layout][1]
    opened(tmp_path, layout, name)
    (path,) = tmp_path.glob("**/*panoptic_val*.json")
    document = json.loads(path.read_text())
    change(document["categories"])
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"{path.name}.*{words}"):
        open_benchmarks(name, tmp_path)


def test_categories_that_nothing_has_and_names_in_other_scripts_are_passed_over(tmp_path):
    layouts.make_cityscapes(tmp_path)
    path = tmp_path / "cityscapes" / "gtFine" / "cityscapes_panoptic_val.json"
    document = json.loads(path.read_text())
    document["categories"][0]["name"] = "\u9053\u8def"
    document["categories"].append({"id": 34, "name": "license plate", "isthing": 1})
    path.write_text(json.dumps(document))
    assert "panoptic" in open_benchmarks("cityscapes", tmp_path)[0].tasks


def test_of_a_split_that_was_not_prepared_the_owners_files_are_read(tmp_path):
    layouts.make_ade(tmp_path, detectron2=False)
    layouts.make_voc(tmp_path)
    layouts.make_context_owners(tmp_path)
    for folder in (
        "ADEChallengeData2016/annotations_detectron2",
        "pascal_voc_d2/annotations_pascal21",
        "pascal_voc_d2/annotations_pascal20",
        "pascal_ctx_d2/annotations_ctx59",
        "pascal_ctx_d2/annotations_ctx459",
    ):
        (tmp_path / folder / "training").mkdir(parents=True)
    for name in ("ade20k_150", "pascal_voc21", "pascal_voc20", "pascal_context_59"):
        (benchmark,) = open_benchmarks(name, tmp_path)
        assert all(benchmark.read_semantic(image_id).size for image_id in benchmark.images)


def test_voc_words_of_pas_20b_fold_to_one_background(tmp_path):
    benchmark, _ = opened(tmp_path, "voc_owners", "pascal_voc20b")
    names = [info.name for info in benchmark.words.classes]
    assert len(names) == len(set(names)) == 59 and len(benchmark.classes) == 21
    assert set(names) == {info.name for info in load_class_list("pascal_context_59").classes}
    assert names[:20] == [info.name for info in load_class_list("voc_20").classes]
    assert benchmark.folded.tolist() == [*range(20), *[20] * 39]
    assert benchmark.words.vocabulary().names == tuple(names)
    # A region called sky or grass is background, and right where the truth is.
    (image_id, *_) = benchmark.images
    target = benchmark.read_semantic(image_id)
    word = np.where(
        target == 20, np.resize([names.index("sky"), names.index("grass")], (8, 10)), target
    )
    scores = SemanticScores(21)
    scores.add(benchmark.folded[np.maximum(word, 0)], target)
    assert scores.compute()["miou"] == 1.0


def test_sizes_and_what_nobody_could_check(tmp_path):
    for layout, (_, names, _) in LAYOUTS.items():
        for name in names:
            (tmp_path / layout / name).mkdir(parents=True)
            benchmark, _ = opened(tmp_path / layout / name, layout, name)
            expected = (1024, 2560) if name == "cityscapes" else (800, 1333)
            assert benchmark.resize == expected
            # The threshold of the background is nobody's, whatever the layout.
            unchecked = (name == "pascal_voc21_threshold") + (name == "cityscapes")
            # Nothing here was made by a preparation that left its record.
            unchecked += layout in ("ade_full", "context", "voc")
            unchecked += layout == "context_owners"
            unchecked += name == "pascal_context_59"
            few = [text for text in benchmark.unverified if "images were found" in text]
            assert len(benchmark.unverified) == unchecked + len(few)
            # Layouts are tiny copies.
            assert len(few) == (name not in ("folder", "tinyscenes"))


def test_prepared_labels_that_were_not_shifted_are_an_error(tmp_path):
    layouts.make_ade(tmp_path)
    folder = tmp_path / "ADEChallengeData2016"
    name = "validation/ADE_val_00000001.png"
    (folder / "annotations_detectron2" / name).write_bytes(
        (folder / "annotations" / name).read_bytes()
    )
    benchmark = open_benchmarks("ade20k_150", tmp_path)[0]
    with pytest.raises(ValueError, match=r"ADE_val_00000001\.png holds the value 150, which is"):
        benchmark.read_semantic("ADE_val_00000001")


def test_labels_cut_to_8_bits_are_an_error(tmp_path):
    layouts.make_ade_full(tmp_path)
    (path, *_) = sorted(tmp_path.glob("*/annotations_detectron2/*/*.tif"))
    Image.fromarray(np.asarray(Image.open(path)).astype(np.uint8)).save(path)
    with pytest.raises(
        ValueError, match="of mode L; expected a PNG or TIFF file of one channel of 16"
    ):
        open_benchmarks("ade20k_847", tmp_path)[0].read_semantic(path.stem)


@pytest.mark.parametrize(
    ("layout", "lost", "message"),
    [
        ("coco", "coco/val2017/000000000139.jpg", "no image for '000000000139'"),
        ("coco", "coco/panoptic_val2017/000000000139.png", "no image file .*000000000139.png"),
        ("ade", "ADEChallengeData2016/images/validation/ADE_val_00000002.jpg", "no image for"),
        (
            "ade",
            "ADEChallengeData2016/annotations_detectron2/validation/ADE_val_00000001.png",
            "no labels for 'ADE_val_00000001', of 2 images",
        ),
        (
            "voc_owners",
            "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png",
            "no label file .*2007_000033.png",
        ),
        ("voc_owners", "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg", "no image file"),
        ("voc_owners", "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", "neither a folder"),
        ("context_owners", "VOCdevkit/VOC2010/trainval/2008_000008.mat", "no label file"),
        ("context_owners", "VOCdevkit/VOC2010/trainval_merged.json", "neither a folder"),
        (
            "cityscapes",
            "cityscapes/leftImg8bit/val/lindau/lindau_000000_000000_leftImg8bit.png",
            "no image for 'lindau_000000_000000'",
        ),
        (
            "cityscapes",
            "cityscapes/gtFine/val/lindau/lindau_000000_000000_gtFine_labelIds.png",
            "no labels for 'lindau_000000_000000'",
        ),
        ("folder", "names.txt", "names.txt: no such file"),
    ],
)
def test_a_missing_file_is_found_before_anything_is_computed(tmp_path, layout, lost, message):
    LAYOUTS[layout][0](tmp_path, "val")
    (tmp_path / lost).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check_benchmark(open_benchmarks(LAYOUTS[layout][1][0], tmp_path)[0])


def test_what_names_of_a_folder_cannot_be(tmp_path):
    layouts.make_folder(tmp_path)
    names = tmp_path / "names.txt"
    # The third line is the value 2, which is void.
    names.write_text("grass\nball\ninvalid_class_id\nsky")
    layouts.write_labels(tmp_path / "labels" / "val" / "a.png", np.full((8, 10), 2))
    (benchmark,) = open_benchmarks("folder", tmp_path)
    assert (benchmark.read_semantic("a") == -1).all() and len(benchmark.classes) == 3
    names.write_text("0:grass\n4000000000:ball")
    with pytest.raises(ValueError, match=r"has a class 4000000000; expected ids of up to 65535"):
        open_benchmarks("folder", tmp_path)


@pytest.mark.parametrize("name", NAMED)
def test_missing_data_and_unknown_splits_are_one_sentence(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}") as caught:
        open_benchmarks(name, tmp_path)[0]
    assert "\n" not in str(caught.value)
    if name not in ("folder", "tinyscenes"):
        with pytest.raises(ValueError, match="no split 'test'; expected train or val"):
            open_benchmarks(name, tmp_path, "test")[0]


def test_unknown_names_and_folders(tmp_path):
    with pytest.raises(ValueError, match="Unknown benchmark 'ade'; expected one of ade20k_150"):
        open_benchmarks("ade", tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="no data folder"):
        open_benchmarks("cityscapes", tmp_path / "nothing")[0]
