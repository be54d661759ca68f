"""scripts/evaluate.py as users call it, alone and as two processes."""

import json
import socket
import subprocess
import sys

import layouts
import made_model
import pytest
from PIL import Image
from programs import ROOT as _ROOT
from programs import environment

_QUICK = tuple(f"--config.{name}={value}" for name, value in made_model.QUICK.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and the data root with ADE20K."""
    folder = tmp_path_factory.mktemp("evaluate")
    made_model.save_model(folder / "model")
    layouts.make_ade(folder / "data")
    return folder


def _start(folder, benchmark, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, str(_ROOT / "scripts/evaluate.py")),
            f"--config={_ROOT / 'configs/eval.py'}:{benchmark}",
            *("--model=model", "--data_dir=data", *_QUICK, *arguments),
        ],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _call(folder, *arguments):
    process = _start(folder, *arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def _start_two(folder, benchmark, own_arguments, *arguments):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        _start(folder, benchmark, f"--distributed=127.0.0.1:{port},2,{number}", *own, *arguments)
        for number, own in enumerate(own_arguments)
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


@pytest.fixture(scope="module")
def finished(folder):
    """What one process printed, of ADE20K."""
    code, out, err = _call(folder, "ade20k_150")
    assert code == 0, err
    return out, err


def test_a_run_leaves_results_beside_the_papers_and_is_not_done_twice(folder, finished):
    out, err = finished
    assert "labels of ade20k_150: 100%" in err and "ade20k_150: 100%|" in err and "miou " in err
    assert "worst images of ade20k_150: 100%" in err
    output = folder / "runs/eval" / f"ade20k_150-fcclip-{folder.name}"
    assert out.endswith(f"Written: {output.relative_to(folder)}/results.json\n")
    found = json.loads((output / "results.json").read_text())
    # Both were given from within this folder.
    assert found["data_dir"] == str(folder / "data")
    assert found["model"]["directory"] == str(folder / "model")
    assert set(found["scores"]) == {"semantic", "panoptic", "instance"}
    for task, named in (("semantic", "iou"), ("panoptic", "pq"), ("instance", "ap75")):
        rows = found["scores"][task]["per_class"]
        assert [row["index"] for row in rows] == list(range(150)) and named in rows[0]
    settings = found["settings"]
    assert settings["config"]["merge"]["overlap_threshold"] == 0.8
    assert settings["config"]["protocol"] == "fcclip" and settings["input"]["short"] == 32
    assert len(settings["classes"]["sha256"]) == 64 == len(found["model"]["sha256"])
    assert {"jax", "numpy", "uniovseg_jax", "machine"} <= set(found["versions"])
    table = (output / "results.md").read_text()
    assert '"overlap_threshold": 0.8' in table
    for line in (*table.splitlines()[:10], "| semantic.miou |", "| 32.6 |", "| panoptic.pq |"):
        assert line in out
    with Image.open(output / "worst.png") as sheet:
        # Two images in a row, three pictures of each.
        assert sheet.width > 6 * 384 and sheet.height < 2 * 384
    lines = (output / "images-00000.jsonl").read_bytes()
    code, again, err = _call(folder, "ade20k_150", "--config.worst=0")
    assert code == 0 and again == out and "labels of" not in err
    assert (output / "images-00000.jsonl").read_bytes() == lines


@pytest.mark.slow
def test_two_processes_divide_the_images_and_the_first_one_writes(folder, finished):
    first, second = _start_two(folder, "ade20k_150", [(), ()], "--output=two", "--config.worst=0")
    assert first[0] == 0, first[2][-2000:]
    assert second[0] == 0, second[2][-2000:]
    assert "| semantic.miou |" in first[1] and "semantic" not in second[1]
    assert "2/2" not in second[2] and "labels of" not in second[2]
    for number in range(2):
        log = folder / "two" / f"images-{number:05d}.jsonl"
        assert len(log.read_text().splitlines()) == 1
    one, two = (
        json.loads((folder / name / "results.json").read_text())["scores"]
        for name in (f"runs/eval/ade20k_150-fcclip-{folder.name}", "two")
    )
    assert one == two


def test_what_stops_one_process_stops_both_at_once(folder):
    changed = ["--config.merge.fill=false"]
    first, second = _start_two(folder, "ade20k_150", [(), changed], "--output=unlike")
    assert first[0] == second[0] == 2
    assert "Opening the log failed in process 1, which says why; this is process 0" in first[2]
    assert "config.merge.fill was 'True' and is 'False'" in second[2]


def test_wrong_flags_are_one_sentence(folder):
    for arguments, message in (
        (("voc",), "Unknown benchmark 'voc'; expected one of ade20k_150, "),
        (("ade20k_150,protocol=sam",), "Unknown option 'protocol=sam'; expected protocol=fcclip"),
        (("ade20k_150", "--config.merge.wish=3"), "has no field 'wish'."),
        (("pascal_voc21",), "There is neither a folder"),
        (("ade20k_150", "--distributed=here"), "--distributed is 'here'; expected auto, or "),
    ):
        code, out, err = _call(folder, *arguments)
        assert code == 2 and not out and message in err and "Traceback" not in err
    assert not list(folder.glob("runs/eval/pascal_voc21*"))
