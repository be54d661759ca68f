"""The whole demo as a user runs it, at a size that takes about a minute."""

import json

import pytest
from programs import ROOT, run_program

_COLUMNS = {
    "miou",
    "pq",
    "miou_seen",
    "miou_unseen",
    "right_noun_wrong_colour",
    "right_colour_wrong_noun",
}


def _demo(*arguments):
    return run_program("scripts/demo.py", *arguments, cwd=ROOT, timeout=1700)


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def finished(output):
    return _demo(f"--output={output}", "--from_nothing", "--tiny", "--preset=test", "--seed=3")


@pytest.mark.timeout(1800)
def test_all_three_phases_run_from_nothing_and_end_with_a_clear_line(finished, output):
    assert finished.returncode == 0, finished.stderr[-4000:]
    last = finished.stdout.strip().splitlines()[-1]
    assert last.startswith("Demo finished in ") and last.endswith(f"{output}/report.html")
    assert "[1/7] render the world" in finished.stdout
    for phase in ("clip", "stage1", "stage2/unpaired_cosine", "stage2/paired_contrastive"):
        assert (output / "seed3" / phase / "model" / "config.json").is_file()


def test_the_report_has_every_field(finished, output):
    report = json.loads((output / "report.json").read_text())
    test = report["test"]
    for masks in (test, test["true_masks"]):
        for row in (masks["baseline"], masks["unpaired"], masks["paired"]):
            assert _COLUMNS <= set(row)
            assert row["miou"] is None or 0 <= row["miou"] <= 100
        assert "gap_closed" in masks and "gap_closed" in masks["contrastive"]
        assert _COLUMNS <= set(masks["contrastive"]["unpaired"])
    assert set(report["losses"]) == {
        f"{targets}_{loss}"
        for targets in ("unpaired", "paired")
        for loss in ("cosine", "contrastive")
    }
    accuracy = report["pairs"]["matching_accuracy"]
    assert 0 <= accuracy["strict"] <= accuracy["with_parts"] <= 100
    assert 0 <= report["clip"]["retrieval"] <= 100
    assert report["num_images"] == 12 and report["seed"] == 3
    assert report["peak_memory_gib"] > 0 and "jax" in report["versions"]
    assert all(seconds > 0 for seconds in report["seconds"].values())


def test_the_page_stands_alone(finished, output):
    page = (output / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    assert page.count("data:image/") >= 3 * 3 + 1 + 3 * 2
    assert "://" not in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--words=grass,,ball"], "empty name"),
        (["--clip=/nowhere", "--tiny"], "/nowhere"),
        (["--split=train"], "val|test"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, arguments, words):
    result = _demo(f"--output={tmp_path}/out", *arguments)
    assert result.returncode != 0
    assert words in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "report.html").exists()
