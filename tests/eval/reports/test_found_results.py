"""Results on a disk: found at any depth, and anything else refused."""

import json

import pytest

from uniovseg_jax.eval.reports.found_results import find_results

RESULT = {
    "benchmark": "tinyscenes",
    "num_images": 7,
    "model": {"directory": "models/ours", "sha256": "a" * 64},
    "settings": {"config": {"protocol": "fcclip"}},
    "scores": {"semantic": {"all": {"miou": 1.0}, "per_class": []}},
}
ROW = {"sizes": [768], "top1": {"all": 1.0}, "seconds": 0.1}


def test_results_are_found_at_any_depth(tmp_path):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(RESULT))
    assert find_results([tmp_path]) == {folder: RESULT}
    assert list(find_results([folder / "results.json"])) == [folder]
    with pytest.raises(FileNotFoundError, match=r"no results\.json at .*nothing"):
        find_results([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no JSON"),
        ([], "not what an evaluation leaves"),
        ({}, "not what an evaluation leaves"),
        ({**RESULT, "model": {"directory": "x"}}, "not what an evaluation leaves"),
        ({**RESULT, "scores": 1}, "holds no scores"),
        # As another version may have them.
        ({**RESULT, "scores": {"semantic": {"miou": 1.0}}}, "holds no scores"),
        ({**RESULT, "settings": {}}, "holds no scores"),
        ({**RESULT, "kind": "matching_accuracy", "rows": [{**ROW, "top1": {}}]}, "no scores"),
    ],
)
def test_anything_else_is_refused(tmp_path, content, complaint):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=f"results.json .*{complaint}"):
        find_results([tmp_path])
