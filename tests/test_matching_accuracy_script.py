"""scripts/matching_accuracy.py by its command line, on a tiny copy of COCO."""

import json

import pytest
from layouts import make_coco
from programs import ROOT, run_program

from uniovseg_jax.eval import parts
from uniovseg_jax.eval.naming import matching_benchmark
from uniovseg_jax.eval.naming.matching_accuracy import RegionNamer
from uniovseg_jax.eval.naming.matching_benchmark import measure_matching
from uniovseg_jax.eval.naming.matching_scorer import MatchingSettings

# Its only part is clip.
CLIP = ROOT / "uniovseg_jax" / "assets" / "tinyscenes_clip"


def run(*arguments):
    return run_program("scripts/matching_accuracy.py", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_coco(root)
    return root


def flags(data, output, **options):
    given = {"benchmark": "coco_panoptic", "model": CLIP, "data_dir": data, "output": output}
    defaults = {"sizes": "64,768", "templates": "single"}
    return [f"--{name}={value}" for name, value in {**given, **defaults, **options}.items()]


def test_every_accuracy_is_beside_the_papers_and_a_second_call_goes_on(data, tmp_path, monkeypatch):
    result = run(*flags(data, tmp_path))
    assert result.returncode == 0, result.stderr
    document = json.loads((tmp_path / "results.json").read_text())
    # Six segments in both images, of which one is a crowd.
    assert document["masks"] == {"all": 10, "things": 6, "stuff": 4}
    assert [row["sizes"] for row in document["rows"]] == [[64], [768]]
    assert document["rows"][0]["paper"] is None
    assert document["rows"][1]["paper"] == {"top1": 49.0, "seconds": 0.1}
    top1 = document["rows"][0]["top1"]
    assert top1["all"] == pytest.approx(0.6 * top1["things"] + 0.4 * top1["stuff"])
    assert all(row["seconds"] > 0 for row in document["rows"])
    assert (tmp_path / "results.md").read_text().startswith(result.stdout.partition("\nSec")[0])
    assert "| 49.0 |" in result.stdout
    assert "Note: The paper does not say whether" in result.stdout
    assert "longer lists of names" in result.stdout and '"truth"' not in result.stdout
    for title in ("files of", "labels of"):
        assert f"{title} coco_panoptic: 100%" in result.stderr
    for title in ("names", "times", "coco_panoptic"):
        assert f"\n{title}: 100%" in result.stderr

    # Labels are those of the truth, predictions an entry per set of sizes.
    log = tmp_path / "images-00000.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["id"] for line in lines} == {"139", "2000"}
    assert all(sorted(line["labels"]) == [0, 11, 79, 80, 132] for line in lines)
    assert all([len(row) for row in line["predicted"]] == [5, 5] for line in lines)

    # Labels are read once, and sizes are timed once.
    monkeypatch.setattr(parts, "check_labels", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(RegionNamer, "seconds", lambda *_: pytest.fail("timed again"))

    def measure(**changes):
        settings = MatchingSettings(
            "coco_panoptic", size_sets=((64,), (768,)), templates="single", **changes
        )
        return measure_matching(settings, str(CLIP), str(data), tmp_path, progress=False)

    # Where nothing is left, nothing changes.
    with monkeypatch.context() as patch:
        patch.setattr(matching_benchmark, "MatchingScorer", lambda *_: pytest.fail("made again"))
        assert measure() == document
    assert json.loads((tmp_path / "results.json").read_text()) == document

    # What is done is taken as it is: all right, for once.
    for line in lines:
        line["predicted"] = [line["labels"]] * 2
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "results.json").unlink()
    again = measure()
    assert [row["seconds"] for row in again["rows"]] == [r["seconds"] for r in document["rows"]]
    assert [row["top1"]["all"] for row in again["rows"]] == [100.0] * 2
    assert again["rows"][1]["class_mean"] == {"all": 100.0, "things": 100.0, "stuff": 100.0}

    # Other settings do not go on with it.
    with pytest.raises(ValueError, match=r"other settings \(pooling was"):
        measure(pooling="binary")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sizes": "64,a"}, "--sizes is 64,a; expected numbers as in 768,896+1024."),
        ({"sizes": "100"}, "Input sizes must be multiples of 32; got 100."),
        ({"benchmark": "coco_instances"}, "coco_instances has no classes"),
        ({"templates": "none"}, "Unknown templates 'none'"),
        ({"synonyms": "nowhere.txt"}, "nowhere.txt"),
    ],
)
def test_mistakes_end_with_one_sentence(data, tmp_path, options, complaint):
    result = run(*flags(data, tmp_path, **options))
    assert result.returncode == 2
    assert complaint in result.stderr.splitlines()[-1]
    # Before any label is read, for which there is a bar.
    assert "labels of" not in result.stderr
    assert not (tmp_path / "results.json").exists()
