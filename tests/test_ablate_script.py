"""scripts/ablate.py: all rows in a tiny world, and mistakes in one sentence."""

import json

import pytest
from programs import ROOT, run_program

from uniovseg_jax.weights.store import load_pretrained, save_pretrained

STAGE1 = ROOT / "uniovseg_jax" / "assets" / "tinyscenes_stage1"


def _run(*arguments, timeout=120):
    config = f"--config={ROOT / 'configs' / 'ablation.py'}:tiny"
    return run_program("scripts/ablate.py", *arguments, config, timeout=timeout)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seeds=1"], f"error: {STAGE1} was trained in world 0; expected world 1."),
        (["--seeds=a"], "error: --seeds is a; expected numbers, as in 1,2,3."),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path, arguments, expected):
    result = _run(*arguments, f"--models={STAGE1}", f"--output={tmp_path}")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == expected


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_rows_run_and_are_not_run_twice(tmp_path):
    model = load_pretrained(STAGE1)
    folder = tmp_path / "seed0"
    save_pretrained(
        folder, model.config, model.variables, model.tokenizer, model.parts, metadata={"seed": 0}
    )
    arguments = (
        f"--models={tmp_path}/seed{{seed}}",
        f"--output={tmp_path / 'out'}",
        f"--data_dir={tmp_path / 'data'}",
    )
    result = _run(*arguments, timeout=800)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out" / "seed0.json").read_text())
    assert set(report["rows"]) == {
        "baseline",
        "raw_rules",
        "refined_rules",
        "refined_oracle",
        "multi_scale",
        "rules_multi_scale",
        "contrastive",
        "rematched",
        "paired_cosine",
        "paired_contrastive",
    }
    rows = report["rows"]
    # The oracle parser makes none of the rules' mistakes.
    assert rows["refined_oracle"]["matching"]["all"] > rows["refined_rules"]["matching"]["all"]
    assert (tmp_path / "out" / "tables.md").read_text() in result.stdout
    again = _run(*arguments)
    assert again.stdout == result.stdout[result.stdout.index("| row") :]
