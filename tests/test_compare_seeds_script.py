"""The table over several worlds."""

import json

import pytest


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("compare_seeds")


def _write(folder, seed, unpaired, paired):
    def rows():
        return {
            "baseline": {"miou": 40.0, "miou_seen": 30.0, "miou_unseen": 20.0},
            "unpaired": {"miou": 50.0, "miou_seen": unpaired, "miou_unseen": 20.0},
            "paired": {"miou": 60.0, "miou_seen": paired, "miou_unseen": 20.0},
        }

    test = {**rows(), "contrastive": rows(), "true_masks": {**rows(), "contrastive": rows()}}
    path = folder / f"{seed}.json"
    path.write_text(json.dumps({"seed": seed, "split": "test", "test": test}))
    return str(path)


def test_every_goal_has_a_line_with_all_seeds(script, tmp_path, capsys):
    paths = [_write(tmp_path, 0, 40.0, 50.0), _write(tmp_path, 1, 32.0, 34.0)]
    assert script.main(paths) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| masks, loss | measure | seed 0 | seed 1 | mean")
    assert len(lines) == 2 + 4 * 5
    assert (
        "| predicted, cosine | miou_seen above the baseline | 10.0 | 2.0 | 6.0 (5.7) | 15 |"
        in lines
    )
    # The ceiling of seed 1 is only 4 points above the baseline.
    gap = "| predicted, cosine | % of the gap closed, miou_seen | 50.0 | meaningless | 50.0 | 90 |"
    assert gap in lines


def test_what_is_no_report_is_named(script, tmp_path, capsys):
    (tmp_path / "x.json").write_text("{}")
    assert script.main([str(tmp_path / "x.json")]) == 2
    assert "x.json is no report.json of the demo" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        script.main([])
    assert refused.value.code == 2
    assert "arguments are required: reports" in capsys.readouterr().err
