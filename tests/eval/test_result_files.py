"""results.json and the table: percent and counts, what is not there, and the paper's numbers."""

import json

import numpy as np
import pytest

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.eval.metrics.instance import InstanceScores
from uniovseg_jax.eval.metrics.panoptic import PanopticScores
from uniovseg_jax.eval.metrics.promptable import PromptableScores
from uniovseg_jax.eval.result_files import (
    as_percent,
    flat_scores,
    make_table,
    without_settings,
    write_results,
)
from uniovseg_jax.eval.tasks import SemanticTask

CLASSES = ClassList("two", (ClassInfo(7, "sky", isthing=False), ClassInfo(3, "cat", isthing=True)))


def document(scores, benchmark="ade20k_150"):
    return {
        "benchmark": benchmark,
        "date": "2024-02-29",
        "num_images": 2,
        "limited": True,
        "settings": {
            "config": {
                "protocol": "released",
                "templates": "vild14",
                "synonyms": "",
                "scales": [1.0, 1.25],
                "flip": True,
                "proposals": {"points_per_side": 0, "nms_iou": 0.7},
                "merge": {"fill": True},
                "prompts": {"modes": ["box", "center"], "points_per_side": 20},
            },
            "input": {"kind": "ShortSide", "short": 800, "longest": 1333, "mean": [1.0]},
            "points_per_side": 12,
            "names": {"count": 150, "sha256": "0"},
        },
        "scores": scores,
        "seconds_per_image": {"load": 0.25},
        "unverified": ["Nobody looked."],
    }


def numbers(values, name=""):
    """Yields all numbers below a document with the name that they have."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers(value, key)
    elif isinstance(values, list):
        for value in values:
            yield from numbers(value, name)
    elif not isinstance(values, str):
        yield name, values


def test_shares_become_percent_counts_stay_whole_and_what_is_missing_is_null(tmp_path):
    panoptic = PanopticScores(CLASSES.is_thing)
    ids = np.zeros((4, 4), np.int32)
    ids[:2] = 5
    panoptic.add(ids, [Segment(5, 1)], ids, [Segment(5, 1)])
    prompts = PromptableScores()
    prompts.add({"box": np.array([0.25, 0.75]), "center": np.array([1.0])})
    instance = InstanceScores(2)
    instance.add("a", [], [])
    semantic = SemanticTask(Benchmark("two", {}), CLASSES)
    scores = {
        "semantic": semantic.total([{"cells": [0, 3], "pixels": [6, 2]}]),
        "panoptic": panoptic.compute(),
        "instance": instance.compute(),
    }
    found = as_percent(document(scores), CLASSES)
    found["scores"]["promptable"] = as_percent(document({"promptable": prompts.compute()}), None)[
        "scores"
    ]["promptable"]
    write_results(found, tmp_path / "new")
    found = json.loads((tmp_path / "new" / "results.json").read_text())["scores"]
    assert found["panoptic"]["all"] == {"pq": 100.0, "sq": 100.0, "rq": 100.0, "classes": 1}
    assert found["panoptic"]["stuff"] == {"pq": None, "sq": None, "rq": None, "classes": 0}
    assert found["panoptic"]["per_class"] == [
        {"index": 0, "id": 7, "name": "sky", "pq": None, "sq": None, "rq": None},
        {"index": 1, "id": 3, "name": "cat", "pq": 100.0, "sq": 100.0, "rq": 100.0},
    ]
    assert found["semantic"]["all"]["miou"] == 100.0
    assert found["instance"]["all"]["ap"] is None and found["instance"]["all"]["classes"] == 0
    assert found["promptable"]["box"] == {
        "iou": 50.0,
        "iou_of_images": 50.0,
        "masks": 2,
        "images": 1,
    }
    for name, value in numbers(found):
        whole = name in ("classes", "masks", "images", "index", "id")
        assert value is None or isinstance(value, int if whole else float), (name, value)


def test_the_table_has_the_papers_numbers_beside_ours():
    scores = {"semantic": {"all": {"miou": 31.234, "fwiou": None}, "per_class": []}}
    table = make_table(document(scores))
    assert "| semantic.miou | 31.23 | 32.6 |" in table
    assert "| semantic.fwiou |  |  |" in table
    assert "2 images (limited), protocol `released`, 2024-02-29" in table
    assert "load 0.250" in table and "Note: Nobody looked." in table
    assert "| semantic.miou | 31.23 |  |" in make_table(document(scores, "folder"))


def test_what_is_printed_has_every_setting_and_what_nobody_verified():
    given = document({"semantic": {"all": {"miou": 1.0}}})
    table = make_table(given)
    printed = without_settings(table)
    expected = (
        "Protocol `released`: input ShortSide (short 800, longest 1333), grid 12 x 12, templates "
        "vild14, 150 names (official), scales 1.0+1.25, flip True, nms_iou 0.7, fill True.\n"
    )
    assert expected in printed
    assert printed.endswith("Note: Nobody looked.\n")
    assert len(printed) < len(table) and '"nms_iou": 0.7' in table[len(printed) :]
    given["scores"] = {"promptable": {"box": {"iou": 1.0}}}
    printed = without_settings(make_table(given))
    sizes = "input ShortSide (short 800, longest 1333), grid 12 x 12"
    assert f"Protocol `released`: {sizes}, modes box+center.\n" in printed


def test_scores_by_dotted_names_leave_classes_out():
    scores = {
        "panoptic": {"all": {"pq": 1.0, "classes": 2}, "things": {"pq": None}, "per_class": [{}]},
        "promptable": {"box": {"iou": 3.0}},
    }
    assert flat_scores({"scores": scores}) == {
        "panoptic.pq": 1.0,
        "panoptic.classes": 2,
        "panoptic.things.pq": None,
        "promptable.box.iou": 3.0,
    }


def test_a_number_that_json_does_not_have_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_results(document({"semantic": {"all": {"miou": float("nan")}}}), tmp_path)
    assert not list(tmp_path.iterdir())
