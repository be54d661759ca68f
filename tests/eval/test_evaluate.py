"""Whole evaluations of a small model: resumed, on several devices, and refused before they cost."""

import dataclasses
import json
import pathlib
import sys

import jax
import layouts
import numpy as np
import pytest
from made_model import quick_config
from PIL import Image

import uniovseg_jax
from uniovseg_jax.benchmarks import registry
from uniovseg_jax.benchmarks.prompted import PROMPTED_SETS
from uniovseg_jax.benchmarks.prompted_set import PromptedSuite
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes import builder
from uniovseg_jax.eval import evaluate as evaluation
from uniovseg_jax.eval import parts, worst
from uniovseg_jax.eval.evaluate import evaluate
from uniovseg_jax.eval.export_masks import export_masks
from uniovseg_jax.eval.from_config import make_framing
from uniovseg_jax.eval.named import NamedScorer
from uniovseg_jax.eval.result_files import without_settings
from uniovseg_jax.locks import held_alone


def score(name, model, root, output, **changes):
    return evaluate(quick_config(name, **changes), str(model), str(root), output, progress=False)


def counters(folder):
    """What every image gave, without the time that it took."""
    found = {}
    for path in folder.glob("images-*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            assert row["id"] not in found, "an image was scored twice"
            found[row["id"]] = (row["counters"], row["quality"])
    return found


def scores(folder):
    """The scores as they are written, byte by byte."""
    return json.dumps(json.loads((folder / "results.json").read_text())["scores"])


def test_devices_threads_and_a_break_change_nothing(
    tiny_model_dir, tmp_path, monkeypatch, one_device, stopped_after_one_image
):
    layouts.make_folder(tmp_path)
    score("folder", tiny_model_dir, tmp_path, tmp_path / "one", threads_per_device=3)
    whole = counters(tmp_path / "one")
    assert set(whole) == {"a", "b", "c.d"}
    assert any(quality["semantic"] for _, quality in whole.values())
    with stopped_after_one_image():
        score("folder", tiny_model_dir, tmp_path, tmp_path / "cut", threads_per_device=1)
    assert len(counters(tmp_path / "cut")) == 1 and not (tmp_path / "cut/results.json").exists()
    log = tmp_path / "cut" / "images-00000.jsonl"
    log.write_bytes(log.read_bytes() + b'{"id": "b", "counters": {"seman')
    # Taken up on all eight devices; labels are not read again.
    monkeypatch.undo()
    real = NamedScorer.score
    monkeypatch.setattr(parts, "check_labels", lambda *_: pytest.fail("read once more"))
    monkeypatch.setattr(NamedScorer, "score", lambda *a: again.append(a[2]) or real(*a))
    again = []
    score("folder", tiny_model_dir, tmp_path, tmp_path / "cut", worst=0)
    assert sorted(again) == ["b", "c.d"]
    assert counters(tmp_path / "cut") == whole
    assert scores(tmp_path / "cut") == scores(tmp_path / "one")
    assert (tmp_path / "one/worst.png").is_file() and not (tmp_path / "cut/worst.png").exists()


def test_a_finished_folder_scores_nothing_and_other_settings_are_named(
    tiny_model_dir, tmp_path, monkeypatch, one_device
):
    layouts.make_voc(tmp_path)
    output = tmp_path / "out"
    score("pascal_voc20b", tiny_model_dir, tmp_path, output)
    before = scores(output)
    monkeypatch.setattr(NamedScorer, "score", lambda *_: pytest.fail("scored again"))
    found = score("pascal_voc20b", tiny_model_dir, tmp_path, output, worst=0)
    assert scores(output) == before and found[0]["num_images"] == 2
    assert found == [json.loads((output / "results.json").read_text())]
    rows = found[0]["scores"]["semantic"]["per_class"]
    assert len(rows) == 21 and rows[20]["name"] == "background"
    assert found[0]["settings"]["names"]["count"] == 59
    for changes, named in (
        ({"merge__fill": False}, r"config\.merge\.fill was 'True' and is 'False'"),
        ({"input__short": 64}, r"config\.input\.short was '32' and is '64'"),
        ({"limit": 1}, r"config\.limit was '0' and is '1'"),
    ):
        with pytest.raises(ValueError, match=named):
            score("pascal_voc20b", tiny_model_dir, tmp_path, output, **changes)
    record = {"images": 2, "background": "none"}
    (tmp_path / "VOCdevkit" / "prepared_val.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"preparation was 'None' and is .*background"):
        score("pascal_voc20b", tiny_model_dir, tmp_path, output)
    (tmp_path / "VOCdevkit" / "prepared_val.json").unlink()
    with pytest.raises(ValueError, match="benchmark was 'pascal_voc20b' and is 'pascal_voc21'"):
        score("pascal_voc21", tiny_model_dir, tmp_path, output)


def test_a_threshold_makes_the_background_of_voc(tiny_model_dir, tmp_path, one_device):
    layouts.make_voc(tmp_path)
    name = "pascal_voc21_threshold"
    (found,) = score(name, tiny_model_dir, tmp_path, tmp_path / "all", merge__min_share=1.0)
    iou = {row["name"]: row["iou"] for row in found["scores"]["semantic"]["per_class"]}
    assert iou["background"] > 0 and iou["aeroplane"] == 0
    assert "was not tuned" in (tmp_path / "all" / "results.md").read_text()
    (found,) = score(name, tiny_model_dir, tmp_path, tmp_path / "none", merge__min_share=0.0)
    assert found["scores"]["semantic"]["per_class"][0]["iou"] == 0
    assert found["settings"]["classes"]["name"] == "voc_21"


def test_the_released_protocol_has_its_own_sizes_and_thresholds(
    tiny_model_dir, tmp_path, one_device
):
    layouts.make_cityscapes(tmp_path)
    name, output = "cityscapes,protocol=released", tmp_path / "out"
    (found,) = score(name, tiny_model_dir, tmp_path, output, limit=2, worst=0)
    assert set(found["scores"]) == {"semantic", "panoptic", "instance"}
    assert found["settings"]["input"] == {"kind": "Letterbox", "side": 64}
    assert found["settings"]["config"]["merge"]["object_threshold"] == 0.7
    assert found["num_images"] == 2 and found["limited"] and not found["as_published"]
    assert found["settings"]["points_per_side"] == 4
    # Where a report finds them, wherever it is made.
    assert found["data_dir"] == str(tmp_path) and found["model"]["directory"] == str(tiny_model_dir)
    table = (output / "results.md").read_text()
    said = (
        "input Letterbox (side 64), grid 4 x 4, templates single, 19 names (official), scales 1.0"
    )
    assert said in without_settings(table)
    assert "papers score with longer lists of names" in without_settings(table)
    assert "2 images (limited), protocol `released`" in table
    assert "| 39.7 |" in table and '"object_threshold": 0.7' in table


def test_a_suite_has_a_folder_for_every_part_and_their_means(
    tiny_model_dir, tmp_path, monkeypatch, one_device
):
    chosen = ("fence", "wire")
    for part in chosen:
        layouts.make_prompted(tmp_path, f"ishape_dataset/{part}/val", 2 if part == "wire" else 1)
    whole = PROMPTED_SETS["ishape"]
    assert isinstance(whole, PromptedSuite)
    suite = PromptedSuite(tuple(part for part in whole.parts if part.name[7:] in chosen))
    monkeypatch.setitem(registry.PROMPTED_SETS, "ishape", suite)
    output = tmp_path / "out"
    first, second, means = score("ishape", tiny_model_dir, tmp_path, output)
    for part, found in zip(chosen, (first, second), strict=True):
        folder = output / "ishape" / part
        assert json.loads((folder / "results.json").read_text()) == found
        assert (folder / "worst.png").is_file()
    assert (first["num_images"], second["num_images"], means["num_images"]) == (1, 2, 3)
    modes = first["scores"]["promptable"]
    assert set(modes) == {"grid_any", "center", "center_ranked", "box"}
    assert modes["box"]["masks"] == 2 and second["scores"]["promptable"]["box"]["images"] == 2
    for mode in modes:
        parts_iou = [found["scores"]["promptable"][mode]["iou"] for found in (first, second)]
        assert means["scores"]["promptable"][mode]["iou"] == pytest.approx(np.mean(parts_iou))
        assert means["scores"]["promptable"][mode]["datasets"] == 2
    assert json.loads((output / "results.json").read_text()) == means
    assert "| promptable.box.iou |" in (output / "results.md").read_text()
    assert json.loads((output / "sample.json").read_text())["num_masks"] == 6


def test_a_part_without_masks_is_left_out_of_the_means_which_say_so(
    tiny_model_dir, tmp_path, monkeypatch, one_device
):
    for part in ("fence", "wire"):
        layouts.make_prompted(tmp_path, f"ishape_dataset/{part}/val")
    layouts.write_labels(
        tmp_path / "ishape_dataset/fence/val/instance_map/0.png", np.zeros((8, 10)), np.uint16
    )
    whole = PROMPTED_SETS["ishape"]
    assert isinstance(whole, PromptedSuite)
    chosen = ("ishape/fence", "ishape/wire")
    suite = PromptedSuite(tuple(part for part in whole.parts if part.name in chosen))
    monkeypatch.setitem(registry.PROMPTED_SETS, "ishape", suite)
    first, second, means = score(
        "ishape", tiny_model_dir, tmp_path, tmp_path / "out", limit=1, prompts__modes=("box",)
    )
    assert first["scores"]["promptable"] == {}
    own = second["scores"]["promptable"]["box"]["iou"]
    assert means["scores"]["promptable"]["box"]["iou"] == own
    assert means["scores"]["promptable"]["box"]["datasets"] == 1
    assert means["parts"] == ["ishape/wire"]
    table = (tmp_path / "out" / "results.md").read_text()
    assert "has a mask in ishape/fence: the means leave it out." in table
    # Whose labels nobody saw is said once, since it is so for both.
    assert means["unverified"][0].startswith("Whether 0 is the only value of iShape's")
    assert "input ShortSide (short 32, longest 64, pad_to 32), grid 3 x 3, modes box" in table


def test_a_suite_says_of_which_part_an_image_is_missing(
    tiny_model_dir, tmp_path, monkeypatch, one_device
):
    parts_of_suite = []
    whole = PROMPTED_SETS["ishape"]
    assert isinstance(whole, PromptedSuite)
    for count, name in enumerate(("fence", "wire"), 1):
        layouts.make_prompted(tmp_path, f"ishape_dataset/{name}/val", count)
        (part,) = (part for part in whole.parts if part.name == f"ishape/{name}")
        split = dataclasses.replace(part.splits["val"], num_images=2)
        parts_of_suite.append(dataclasses.replace(part, splits={"val": split}))
    monkeypatch.setitem(registry.PROMPTED_SETS, "ishape", PromptedSuite(tuple(parts_of_suite)))
    changes = {"prompts__modes": ("box",), "worst": 0}
    first, second, means = score("ishape", tiny_model_dir, tmp_path, tmp_path / "out", **changes)
    said = "1 images were found, the published split val has 2."
    assert first["unverified"][-1] == said and means["unverified"][-1] == f"ishape/fence: {said}"
    whole_sets = [document["as_published"] for document in (first, second, means)]
    assert whole_sets == [False, True, False] and not means["limited"]


def test_rendered_scenes_are_scored_like_photographs(tiny_model_dir, tmp_path, one_device):
    sizes = {part: {split: 1 for split in splits} for part, splits in builder.TINY_SIZES.items()}
    root = tinyscenes.prepare(tmp_path / "data", 1, sizes=sizes, progress=False)
    (found,) = score("tinyscenes", tiny_model_dir, root, tmp_path / "out", tasks=("panoptic",))
    assert set(found["scores"]) == {"panoptic"} and found["num_images"] == 1
    assert found["scores"]["panoptic"]["all"]["classes"] > 0


def break_size(root):
    layouts.write_image(
        root / "VOCdevkit/VOC2012/JPEGImages/2011_003256.jpg", np.random.default_rng(0), (8, 8)
    )


def break_id(root):
    path = root / "VOCdevkit/VOC2012/SegmentationClass/2011_003256.png"
    layouts.write_palette(path, np.full((8, 10), 99))


def empty_split(root):
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("")


def lose_label(root):
    (root / "VOCdevkit/VOC2012/SegmentationClass/2011_003256.png").unlink()


def cut_label(root):
    path = root / "VOCdevkit/VOC2012/SegmentationClass/2011_003256.png"
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(path)


def damage_note(root):
    (root / "out").mkdir()
    (root / "out" / "checked.json").write_text('[{"data"')


def write_synonyms(root):
    (root / "words.txt").write_text("\n".join(f"{n}:word{n}" for n in range(20)))


def test_wrong_areas_and_half_a_set_are_told_with_the_results(tiny_model_dir, tmp_path):
    layouts.make_ade(tmp_path)
    path = tmp_path / "ADEChallengeData2016" / "ade20k_panoptic_val.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        for info in annotation["segments_info"]:
            info["area"] = 1
    path.write_text(json.dumps(document))
    # As a flag gives two.
    (found,) = score(
        "ade20k_150", tiny_model_dir, tmp_path, tmp_path / "out", tasks=("semantic,panoptic",)
    )
    assert set(found["scores"]) == {"semantic", "panoptic"}
    said = " ".join(found["unverified"])
    assert "segments of the truth state a smaller area than they have pixels" in said
    assert "images were found, the published split val has 2000" in said
    assert "PQ can pass 100" in (tmp_path / "out" / "results.md").read_text()


def test_a_task_without_its_file_is_told_before_and_with_the_results(
    tiny_model_dir, tmp_path, caplog
):
    layouts.make_ade(tmp_path)
    path = tmp_path / "ADEChallengeData2016" / "ade20k_instance_val.json"
    path.unlink()
    path = tmp_path / "ADEChallengeData2016" / "ade20k_panoptic_val.json"
    path.unlink()
    with pytest.raises(ValueError, match=f"has no task 'panoptic', since there is no {path}"):
        score("ade20k_150", tiny_model_dir, tmp_path, tmp_path / "out", tasks=("panoptic",))
    with caplog.at_level("WARNING"):
        (found,) = score("ade20k_150", tiny_model_dir, tmp_path, tmp_path / "out")
    sentence = f"Not scored on panoptic: there is no {path}, see docs/benchmarks_preparation.md."
    assert sentence in found["unverified"] and sentence in caplog.text
    assert set(found["scores"]) == {"semantic"}
    # Whoever asks for less is not told of more.
    (found,) = score("ade20k_150", tiny_model_dir, tmp_path, tmp_path / "less", tasks=("semantic",))
    assert not any("Not scored" in text for text in found["unverified"])


def test_what_is_not_installed_is_said_first(tmp_path, monkeypatch):
    layouts.make_ade(tmp_path)
    monkeypatch.setattr(evaluation, "load_pretrained", lambda _: pytest.fail("was loaded"))
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    for tasks, message in (
        ((), r"'uniovseg_jax\[eval\]', or leave .*: --config.tasks=semantic,panoptic\.$"),
        (("instance",), r"pip install 'uniovseg_jax\[eval\]'\.$"),
    ):
        with pytest.raises(ImportError, match=message):
            score("ade20k_150", tmp_path, tmp_path, tmp_path / "out", tasks=tasks)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (break_size, {}, r"2011_003256\.jpg has 8 x 8 pixels, its labels 8 x 10"),
        (break_id, {}, r"2011_003256\.png holds the value 99, which is neither"),
        (empty_split, {}, r"val\.txt names no image; expected one in each line"),
        (lose_label, {}, r"no label file .*2011_003256\.png"),
        (cut_label, {}, r"2011_003256\.png is PNG of mode RGB; expected"),
        (write_synonyms, {"synonyms": "words.txt"}, "no line for 20, tvmonitor of voc_21"),
        (None, {"synonyms": "nothing.txt"}, r"nothing\.txt"),
        (None, {"tasks": ("panoptic",)}, "has no task 'panoptic'; expected some of semantic"),
        (
            None,
            {"text_cache": "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"},
            "is a file; exp",
        ),
        (None, {"split": "test"}, "no split 'test'; expected train or val"),
        (None, {"benchmark": "voc"}, "Unknown benchmark 'voc'"),
        (None, {"benchmark": "cityscapes"}, "no folder .*cityscapes"),
        (None, {"templates": "vild80"}, "Unknown templates 'vild80'; expected one of .*vild14"),
        (None, {"input__pad_to": 50}, "pad_to must be a multiple of 32, got 50"),
        (None, {"input__short": 2000}, "short <= longest, got short=2000, longest=64"),
        (None, {"input__kind": "wide"}, "input.kind is 'wide'; expected short_side or letterbox"),
        (None, {"input__kind": "letterbox", "input__side": 40}, "side must be .* 32, got 40"),
        (None, {"scales": ()}, r"config.scales is \(\); expected positive numbers, at least one"),
        (None, {"scales": (1.0, -1.0)}, "expected positive numbers"),
        (
            None,
            {"proposals__min_stability": 1.5},
            "config.proposals.min_stability is 1.5; expected a number from 0 to 1",
        ),
        (
            None,
            {"proposals__stable_logits": (0.6, 0.4)},
            r"stable_logits is \(0.6, 0.4\); expected two numbers, the lower first",
        ),
        (None, {"limit": -1}, "config.limit is -1; expected 0 or more"),
        (None, {"worst": -1}, "config.worst is -1; expected 0 or more"),
        (None, {"threads_per_device": 0}, "config.threads_per_device is 0; expected 1 or more"),
        (None, {"merge__max_instances": 0}, "config.merge.max_instances is 0; expected 1 or more"),
        (damage_note, {}, r"checked\.json is damaged, it holds no JSON"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    tiny_model_dir, tmp_path, monkeypatch, damage, changes, message
):
    layouts.make_voc(tmp_path)
    if damage:
        damage(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "load_pretrained", lambda _: pytest.fail("was loaded"))
    with pytest.raises((ValueError, OSError), match=message) as caught:
        score("pascal_voc21", tiny_model_dir, tmp_path, tmp_path / "out", **changes)
    assert "\n" not in str(caught.value)
    assert damage is damage_note or not (tmp_path / "out" / "checked.json").exists()
    assert damage is not empty_split or not (tmp_path / "out").exists()


def test_modes_and_tasks_of_prompts_are_checked_first(tiny_model_dir, tmp_path, monkeypatch):
    layouts.make_prompted(tmp_path, "ishape_dataset/wire/val")
    monkeypatch.setattr(evaluation, "load_pretrained", lambda _: pytest.fail("was loaded"))
    for changes, message in (
        ({"prompts__modes": ("center", "wish")}, "Modes: unknown wish; expected some of"),
        ({"prompts__modes": ()}, "Modes: there is none"),
        ({"tasks": ("semantic",)}, "has no task 'semantic'; expected some of promptable"),
    ):
        with pytest.raises(ValueError, match=message):
            score("ishape/wire", tmp_path, tmp_path, tmp_path / "out", **changes)


def test_a_folder_in_use_is_refused(tiny_model_dir, tmp_path):
    layouts.make_voc(tmp_path)
    (tmp_path / "names.txt").write_text("")
    with pytest.raises(OSError, match=r"names\.txt is a file; expected a folder\.$"):
        score("pascal_voc21", tiny_model_dir, tmp_path, tmp_path / "names.txt")
    with (
        held_alone(tmp_path / "out", "evaluation"),
        pytest.raises(ValueError, match="out is in use by another evaluation"),
    ):
        score("pascal_voc21", tiny_model_dir, tmp_path, tmp_path / "out")


def test_what_costs_nothing_to_see_is_refused_before_labels_are_read(
    tiny_model_dir, tmp_path, monkeypatch
):
    layouts.make_voc(tmp_path)
    output, clip = tmp_path / "out", pathlib.Path(uniovseg_jax.__file__).parent / "assets"
    score("pascal_voc20b", tiny_model_dir, tmp_path, output, worst=0)
    checked = (output / "checked.json").read_text()
    monkeypatch.setattr(parts, "check_labels", lambda *_: pytest.fail("labels were read"))
    monkeypatch.setattr(evaluation, "load_pretrained", lambda _: pytest.fail("was loaded"))
    for name, model, folder, message in (
        ("pascal_voc20b", tmp_path / "no_model", "new", "no_model is no model directory"),
        ("pascal_voc20b", clip / "tinyscenes_clip", "new", "without the part masks; expected clip"),
        ("pascal_voc21", tiny_model_dir, "out", "benchmark was 'pascal_voc20b' and is 'pascal_voc"),
        ("pascal_voc20b,protocol=released", tiny_model_dir, "out", r"other settings \(config\.inp"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            score(name, model, tmp_path, tmp_path / folder)
    # An image more is another list of them.
    split = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    split.write_text(split.read_text() + "\n2007_000032")
    with pytest.raises(ValueError, match=r"other settings \(images was"):
        score("pascal_voc20b", tiny_model_dir, tmp_path, output)
    assert not (tmp_path / "new").exists()
    assert (output / "checked.json").read_text() == checked


def test_pictures_say_the_names_of_what_is_in_them(tmp_path, tiny_model_dir, monkeypatch):
    layouts.make_voc(tmp_path)
    drawn = []
    monkeypatch.setattr(worst, "overlay", lambda *args: drawn.append(args) or np.zeros((9, 9, 3)))
    model = evaluation.EvaluatedModel(str(tiny_model_dir))
    config = quick_config("pascal_voc21")
    (part,) = parts.open_parts(config, str(tmp_path))
    framing = make_framing(config, part.benchmark, model.pretrained.config)
    scorer = evaluation.make_scorer(part, config, model, framing)
    image_id = next(iter(part.benchmark.images))
    on_device = scorer.on_device(jax.local_devices()[0])
    worst.draw_image(scorer, part.benchmark, on_device, image_id, "semantic")
    names = [info.name for info in part.benchmark.classes.classes]
    truth = part.benchmark.read_semantic(image_id)
    _, labels, colours, captions = drawn[0]
    assert captions == {label: names[label - 1] for label in np.unique(labels) if label}
    np.testing.assert_array_equal(labels, truth + 1)
    assert len(colours) == 21 and len(drawn) == 2 and len(set(captions)) > 1


def test_large_sets_are_sampled_unless_they_are_scored_whole(tmp_path, monkeypatch):
    layouts.make_prompted(tmp_path, "ishape_dataset/wire/val", 4)
    monkeypatch.setattr("uniovseg_jax.benchmarks.sampling.LARGE_SET", 5)
    monkeypatch.setattr("uniovseg_jax.benchmarks.sampling.SAMPLED_MASKS", 3)

    def chosen(name, output):
        config = quick_config("ishape/wire")
        opened = parts.open_parts(config, str(tmp_path))
        config.benchmark = name
        output.mkdir()
        chosen = parts.choose_images(opened, config, str(tmp_path), output, False)
        checked.append(parts._is_checked(output, chosen, str(tmp_path)))
        return chosen[0].benchmark.images

    checked = []
    assert len(chosen("ishape/wire", tmp_path / "a")) == 2
    assert len(chosen("seginw/wire", tmp_path / "b")) == 4
    # Who counts masks has read all labels.
    assert checked == [True, False]
    # Another model is asked for the same images.
    (exported,) = export_masks("ishape/wire", tmp_path, tmp_path / "masks")
    images = [str(image["id"]) for image in json.loads(exported.read_text())["images"]]
    assert images == list(chosen("ishape/wire", tmp_path / "again"))
    part = dataclasses.replace(parts.open_parts(quick_config("ishape/wire"), str(tmp_path))[0])
    assert not parts._is_checked(tmp_path / "a", [part], str(tmp_path))
    parts.note_checked(tmp_path / "a", [part], str(tmp_path))
    assert parts._is_checked(tmp_path / "a", [part], str(tmp_path))
    assert not parts._is_checked(tmp_path / "a", [part], str(tmp_path / "a"))
