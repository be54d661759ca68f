"""scripts/score.py by its command line: flags, output and what it loads."""

import io
import json
import subprocess
import sys

import pytest
from programs import ROOT, call, environment
from score_calls import RESULT, TRUTH, complaint, object_flags


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--task"),
        (("--task=depth",), "panoptic"),
        (("--task=panoptic",), "--task=panoptic needs --gt_json, --pred_json"),
        (("--task=semantic", "--gt_dir=a", "--pred_dir=b"), "needs --num_classes"),
        (("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=0"), "num_classes"),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2", "--ignore=x"),
            "--ignore takes whole numbers, got x",
        ),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2"),
            "There is no folder a",
        ),
        (("--task=instance", "--gt_json=none", "--pred_json=none"), "none cannot be read"),
        (("--task=instance", "more"), "Unexpected argument 'more'"),
        (("--task=instance", "--gt_json=none", "--pred_json="), "--pred_json is empty"),
        (
            ("--task=semantic", "--gt_dir=", "--pred_dir=b", "--num_classes=2"),
            "--gt_dir is empty",
        ),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2", "--ignore="),
            "--ignore is empty",
        ),
    ],
)
def test_wrong_flags_are_one_sentence(script, capsys, arguments, message):
    assert message in complaint(script, capsys, *arguments)


def test_no_model_library_is_loaded(tmp_path):
    arguments = object_flags(tmp_path, "instance", TRUTH, [RESULT])
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['score.py', *{list(arguments)!r}]\n"
        "try:\n"
        "    runpy.run_path('scripts/score.py', run_name='__main__')\n"
        "finally:\n"
        "    print(sorted({'jax', 'flax', 'torch', 'tensorflow'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *_, scores, loaded = run.stdout.splitlines()
    assert loaded == "[]" and json.loads(scores)["all"]["ap"] == pytest.approx(100)


def test_names_that_the_terminal_has_no_character_for_are_escaped(script, tmp_path, monkeypatch):
    rows = [{"id": 3, "name": "caf\u00e9"}, {"id": 7, "name": "\ud800"}]
    arguments = object_flags(tmp_path, "instance", {**TRUTH, "categories": rows}, [RESULT])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert call(script, *arguments) == 0
    terminal.seek(0)
    *table, scores = terminal.read().splitlines()
    assert "| 3 | caf\\xe9 |" in table[2] and "| 7 | \\ud800 |" in table[3]
    assert json.loads(scores)["all"]["ap"] == 100.0
