import json

import numpy as np
import pytest
from made_regions import make_caption

from uniovseg_jax.alignment.pairs import Pair
from uniovseg_jax.demo import report as report_lib
from uniovseg_jax.inference.results import Segment, Segmentation

_KEYS = [key for key, _ in report_lib._COLUMNS]


def _rows(gap):
    row = dict.fromkeys(_KEYS, 42.5)
    rows = {"unpaired": dict(row, miou_seen=61.25), "paired": row, "gap_closed": gap}
    return {"baseline": row, **rows, "contrastive": rows}


@pytest.fixture
def report():
    return {
        "command": "python scripts/demo.py --words='<grass>'",
        "seed": 3,
        "split": "test",
        "num_images": 12,
        "weights": "shipped",
        "clip": {"retrieval": None},
        "pairs": {
            "counts": {"images": 9, "regions": 80, "entities": 40, "pairs": 33},
            "align_scales": [224, 256],
            "confident": 50,
            "matching_accuracy": {
                "strict": 64.9,
                "with_parts": 82.2,
                "confident_strict": 79.3,
                "confident_with_parts": 90.1,
            },
        },
        "test": {**_rows(94.2), "true_masks": _rows(None)},
        "losses": {"unpaired_cosine": float("nan")},
        "seconds": {"render": 1.5},
        "peak_memory_gib": 1.25,
        "versions": {"jax": "0"},
    }


@pytest.fixture
def pictures():
    picture = np.full((8, 8, 3), 200, np.uint8)
    rle = {"size": [1, 1], "counts": "01"}
    segment = Segment(1, "<red ball>", True, 0.9, 0.8, "grass", 0.05, 60, (0, 0, 8, 8), rle)
    result = Segmentation("panoptic", np.ones((8, 8), np.int32), (segment,))
    caption, flips = make_caption("a", ("red ball", "grass")), (False, True)
    pair = Pair(caption, "red ball", 0, rle, 0.5, (0.4, 0.6), "grass", 0.7, None, None, 0.2, flips)
    return report_lib.Pictures(
        words="grass, red ball",
        scenes=[report_lib.ScenePicture("Scene 0", picture, picture, picture, result)],
        pairs=[report_lib.PairPicture(pair, picture, "wrong")],
        failures=[report_lib.FailurePicture("Scene 1", 0.25, picture, picture)],
        curves={"Stage 2, cosine": {"unpaired": ([1.0, 2.0], [1.0, 0.5])}},
    )


def test_both_files_appear_with_every_number(report, pictures, tmp_path):
    json_path, html_path = report_lib.write_report(report, pictures, tmp_path / "out")
    read = json.loads(json_path.read_text())
    assert read["test"]["unpaired"]["miou_seen"] == 61.25
    assert read["losses"]["unpaired_cosine"] is None
    assert sorted(path.name for path in json_path.parent.iterdir()) == [
        "report.html",
        "report.json",
    ]
    page = html_path.read_text()
    for expected in ("61.2", "64.9", "82.2", "94 %", "224, 256", "0.500 (0.400, 0.600)", "25 %"):
        assert expected in page, expected
    assert "meaningless" in page  # The gap with true masks.


def test_names_and_commands_cannot_break_the_page(report, pictures):
    page = report_lib.render_html(report, pictures)
    assert "&lt;red ball&gt;" in page and "<red ball>" not in page
    assert "&lt;grass&gt;" in page and "<grass>" not in page
    assert "://" not in page
