import pytest

from uniovseg_jax.ablation.table import format_tables


def _report(seen, top1):
    """A world whose rows have these mIoU of seen combinations."""
    others = {"miou": 50.0, "pq": 40.0, "miou_unseen": 10.0}
    rows = {
        name: {
            "loss": "cosine",
            "scores": {"predicted": {"miou_seen": float(value), **others}},
            "matching": {"all": value / 2, "trained": float(value)},
        }
        for name, value in seen.items()
    }
    return {"rows": rows, "sizes": [{"sizes": [192, 256], "top1": float(top1), "seconds": 0.02}]}


SEEN = ("baseline", "raw_rules", "refined_rules", "refined_oracle", "multi_scale")


def _cells(tables, title):
    (line,) = [line for line in tables.splitlines() if line.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rows_show_means_spreads_and_gains_over_the_row_above():
    first = dict(zip(SEEN, (30, 32, 35, 36, 40), strict=True)) | {"paired_cosine": 42}
    second = dict(zip(SEEN, (30, 34, 35, 38, 38), strict=True)) | {"paired_cosine": 32}
    tables = format_tables([_report(first, 60), _report(second, 62)])
    raw = _cells(tables, "raw captions, rules")
    assert raw[3] == "33.0 (1.4)"
    assert raw[5] == "+3.0 (1.4)"
    assert _cells(tables, "+ refined captions")[5] == "+2.0 (1.4)"
    # Where the ceiling is near the baseline, the gap says nothing.
    assert raw[6] == f"{100 * 2 / 12:.1f} in 1 of 2"
    assert raw[7:] == ["16.5 (0.7)", "33.0 (1.4)"]
    assert _cells(tables, "ceiling: true names, cosine")[5:7] == ["", ""]
    assert _cells(tables, "192 + 256")[1:] == ["61.0 (1.4)", "20.0 (0.0)"]


def test_one_world_has_no_spread():
    tables = format_tables([_report({"baseline": 30, "paired_cosine": 40}, 60)])
    assert _cells(tables, "baseline: frozen CLIP, no alignment")[3] == "30.0"


@pytest.mark.parametrize("name", ["own", "paired_own"])
def test_other_rows_keep_their_names(name):
    tables = format_tables([_report({"baseline": 30, name: 31, "paired_cosine": 40}, 60)])
    assert _cells(tables, name)[3] == "31.0"
