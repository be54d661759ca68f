"""Tables of results beside the paper's, from results written by hand."""

from configs.eval import get_config
from uniovseg_jax.benchmarks.paper import paper_rows
from uniovseg_jax.eval.from_config import deciding_settings
from uniovseg_jax.eval.reports.report_tables import make_tables
from uniovseg_jax.eval.reports.run_labels import RunLabels
from uniovseg_jax.settings import as_json


def result(benchmark, scores, sha256="a" * 64, limited=False, **changed):
    config = get_config(benchmark)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changed.items()})
    return {
        "benchmark": benchmark,
        "num_images": 7,
        "limited": limited,
        "model": {"directory": "models/ours", "sha256": sha256},
        "settings": {"config": as_json(deciding_settings(config))},
        "scores": scores,
    }


def matching(benchmark, rows):
    return {
        **result(benchmark, {}),
        "kind": "matching_accuracy",
        "settings": {},
        "rows": [
            {"sizes": list(sizes), "top1": {"all": top1}, "seconds": seconds}
            for sizes, top1, seconds in rows
        ],
    }


def semantic(miou):
    return {"semantic": {"all": {"miou": miou}, "per_class": []}}


def panoptic(pq, sq, rq):
    return {"panoptic": {"all": {"pq": pq, "sq": sq, "rq": rq}, "things": {"pq": 1.0}}}


def tables(documents, every=False):
    return make_tables(documents, RunLabels(documents, get_config), every)


def table(documents, title, every=False):
    (found,) = [t for t in tables(documents, every) if t.title.startswith(title)]
    return found


def row(found, method):
    (cells,) = [row for row in found.rows if row[0] == method]
    return dict(zip(found.header, cells, strict=True))


def test_methods_of_the_paper_are_beside_ours_which_is_last():
    documents = [
        result("ade20k_150", semantic(31.26)),
        result("pascal_voc21", semantic(70.0), limited=True),
    ]
    found = table(documents, "Semantic")
    assert found.header == ("method", "training data", "ade20k_150", "pascal_voc21")
    # As printed in the paper's table 1.
    assert row(found, "FC-CLIP")["ade20k_150"] == "34.1"
    assert row(found, "Uni-OVSeg")["pascal_voc21"] == "78.9"
    assert row(found, "SAN")["pascal_voc21"] == ""
    assert found.rows[-1] == ("ours (fcclip)", "", "31.3", "70.0†")
    assert found.strong == (len(found.rows) - 1,)
    assert [found.rows[place][0] for place in found.groups] == [
        "fully supervised",
        "weakly supervised",
        "measured here",
    ]
    assert "on the first ones (limit)" in found.note
    assert "| **ours (fcclip)** |  | **31.3** | **70.0†** |" in found.markdown()
    # Nothing was scored on segments.
    assert [t.title for t in tables(documents)] == [found.title, "Runs"]


def test_all_columns_are_those_of_the_paper_in_its_order():
    found = table([], "Semantic", every=True)
    assert found.header[2:] == (
        "ade20k_847",
        "pascal_context_459",
        "ade20k_150",
        "pascal_context_59",
        "pascal_voc21",
        "pascal_voc20",
        "cityscapes",
        "coco_panoptic",
    )
    methods = {r.method for r in paper_rows() if r.table == "1"}
    assert len(found.rows) - len(found.groups) == len(methods) == 19
    panoptic_columns = table([], "Panoptic", every=True).header[2:]
    assert panoptic_columns == (
        *("coco_panoptic PQ", "SQ", "RQ"),
        *("ade20k_150 PQ", "SQ", "RQ"),
        *("cityscapes PQ", "SQ", "RQ"),
    )
    assert tables([]) == []


def test_results_of_a_model_share_a_row_and_repeated_ones_do_not():
    documents = [
        result("ade20k_150", {**semantic(30.0), **panoptic(10.0, 60.0, 15.0)}),
        result("coco_panoptic", panoptic(17.0, 70.0, None)),
        result("ade20k_150", panoptic(11.0, 61.0, 16.0)),
        result("ade20k_150", panoptic(12.0, 62.0, 17.0), sha256="b" * 64),
    ]
    found = table(documents, "Panoptic")
    assert [found.rows[place][2:] for place in found.strong] == [
        ("17.0", "70.0", "", "10.0", "60.0", "15.0"),
        ("", "", "", "11.0", "61.0", "16.0"),
        ("", "", "", "12.0", "62.0", "17.0"),
    ]
    own = [found.rows[place][0] for place in found.strong]
    assert own == ["ours-aaaa (fcclip)", "ours-aaaa (fcclip)", "ours-bbbb (fcclip)"]
    assert row(found, "OPSNet")["coco_panoptic PQ"] == "57.9"


def test_results_of_other_settings_have_a_row_of_their_own():
    changed = {"merge__overlap_threshold": 0.4, "input__kind": "letterbox"}
    documents = [
        result("ade20k_150", semantic(30.0), **changed),
        result("cityscapes", semantic(40.0)),
        result("pascal_voc21_threshold", semantic(50.0)),
        result("pascal_voc20", semantic(60.0), **changed),
    ]
    found = table(documents, "Semantic")
    assert found.header[2:5] == ("ade20k_150", "pascal_voc20", "cityscapes")
    assert [found.rows[place] for place in found.strong] == [
        ("ours (fcclip) [1]", "", "30.0", "60.0", "", ""),
        ("ours (fcclip)", "", "", "", "40.0", "50.0"),
    ]
    assert "[1] other settings" in found.note and "input.kind letterbox (not" in found.note
    assert [cells[1] for cells in table(documents, "Runs").rows] == [
        "ours (fcclip) [1]",
        *["ours (fcclip)"] * 2,
        "ours (fcclip) [1]",
    ]


def test_half_a_set_is_marked():
    half = {**result("pascal_voc21", semantic(70.0)), "as_published": False}
    assert table([half], "Semantic").rows[-1][2] == "70.0†"
    assert table([half], "Runs").rows[0][3] == "7†"
    sets = [result(name, {"promptable": {"box": {"iou": 9.0}}}) for name in ("egohos", "pidray")]
    sets[0]["as_published"] = False
    found = table(sets, "Masks for prompts")
    assert [cells[0] for cells in found.rows] == ["egohos†", "pidray", "mean of 2 sets†"]
    # Means are of sets that were scored alike.
    sets[1] = result("pidray", sets[1]["scores"], prompts__points_per_side=32)
    assert len(table(sets, "Masks for prompts").rows) == 2


def test_a_benchmark_that_the_paper_does_not_have_has_a_column_of_ours_alone():
    found = table([result("tinyscenes", semantic(45.0))], "Semantic")
    assert found.rows == (("measured here", "", ""), ("ours (fcclip)", "", "45.0"))


def test_prompts_are_told_apart_by_mode():
    scores = {
        "box": {"iou": 80.0, "masks": 21},
        "center_ranked": {"iou": 50.0, "masks": 21},
        "center": {"iou": 60.0, "masks": 21},
    }
    other = {"box": {"iou": 70.0, "masks": 3}}
    documents = [
        result("seginw/Cows", {"promptable": scores}),
        result("ndispark", {"promptable": other}),
    ]
    found = table(documents, "Masks for prompts")
    assert found.header[3:] == ("center", "center_ranked", "box")
    assert found.rows[0] == ("seginw/Cows", "ours (fcclip)", "21", "60.0", "50.0", "80.0")
    assert found.rows[1][2:] == ("3", "", "", "70.0")
    # A part of a suite is no set, and there is no mean of one.
    assert len(found.rows) == 2
    documents.append(result("seginw", {"promptable": scores}))
    found = table(documents, "Masks for prompts")
    # The other one has boxes only.
    assert found.rows[-1] == ("mean of 2 sets", "ours (fcclip)", "", "", "", "75.0")


def test_what_published_rows_score_otherwise_is_said_under_their_table():
    assert "not the same task" in table([result("pascal_voc21", semantic(70.0))], "Semantic").note
    assert table([result("ade20k_150", semantic(70.0))], "Semantic").note == ""


def test_matching_accuracy_is_beside_the_papers():
    documents = [matching("ade20k_150", [((768,), 45.0, 0.5), ((800, 896), 51.0, 1.0)])]
    found = table(documents, "Naming true masks")
    assert found.header == ("input sizes", "ade20k_150: paper", "ade20k_150: ours", "s / image")
    cells = {row[0]: row[1:] for row in found.rows}
    assert cells["768"] == ("45.2", "45.0", "0.500")
    assert cells["800 + 896"] == ("", "51.0", "1.000")
    assert cells["768 + 896 + 1024"] == ("51.6", "", "")
