"""scripts/report.py by its command line: what it writes, with a gallery, and what it refuses."""

import base64
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from layouts import write_json
from PIL import Image
from programs import ROOT, environment

from uniovseg_jax.eval.from_config import deciding_settings
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.weights.store import load_pretrained, params_sha256

STAGE1 = ROOT / "uniovseg_jax" / "assets" / "tinyscenes_stage1"
HW = (48, 64)


# Ends where galleries would be made.
STOPPED = """
import runpy, sys
from uniovseg_jax.eval.reports.gallery import GalleryMaker

GalleryMaker.make_all = lambda *_: sys.exit(7)
runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def run(*arguments, before=()):
    script = str(ROOT / "scripts" / "report.py")
    command = [sys.executable, *before, script, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def make_run(folder, sha256):
    """What an evaluation of two images leaves, and the images, as COCO has them."""
    from configs.eval import get_config

    config = json.loads(json.dumps(deciding_settings(get_config("coco_instances"))))
    config["input"] |= {"short": 64, "longest": 96, "pad_to": 32}
    config["prompts"] |= {"modes": ["box"]}
    document = {
        "benchmark": "coco_instances",
        "num_images": 2,
        "limited": True,
        "data_dir": str(folder / "data"),
        "model": {"directory": str(STAGE1), "sha256": sha256},
        "settings": {"config": config},
        "scores": {"promptable": {"box": {"iou": 61.25, "masks": 2}}},
    }
    write_json(folder / "results" / "results.json", document)
    lines = [{"id": str(n), "quality": {"box": quality}} for n, quality in ((1, 0.75), (2, 0.475))]
    log = folder / "results" / "images-00000.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))

    coco = folder / "data" / "coco"
    (coco / "val2017").mkdir(parents=True)
    mask = np.zeros(HW, bool)
    mask[8:30, 10:40] = True
    images, annotations = [], []
    for n in (1, 2):
        Image.new("RGB", HW[::-1], "gray").save(coco / "val2017" / f"{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "height": HW[0], "width": HW[1]})
        annotation = {"id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 1]}
        annotations.append({**annotation, "area": 660, "segmentation": rle_encode(mask)})
    categories = [{"id": 1, "name": "person"}]
    write_json(
        coco / "annotations" / "instances_val2017.json",
        {"images": images, "annotations": annotations, "categories": categories},
    )
    half = mask & (np.arange(HW[1]) < 25)
    write_json(folder / "sam.json", [{"image_id": 2, "segmentation": rle_encode(half)}])


@pytest.fixture(scope="module")
def digest():
    return params_sha256(load_pretrained(STAGE1).variables)


def test_a_run_in_which_nothing_had_a_mask_has_no_gallery(tmp_path, digest):
    make_run(tmp_path, digest)
    log = tmp_path / "results" / "images-00000.jsonl"
    log.write_text(json.dumps({"id": "1", "quality": {}}) + "\n")
    output = tmp_path / "report"
    result = run(f"--results={tmp_path / 'results'}", f"--output={output}", "--num_images=2")
    assert result.returncode == 0, result.stderr
    assert not list(output.glob("gallery_*")) and "61.2" in (output / "report.md").read_text()


def test_the_page_has_the_numbers_and_pictures_of_a_run(tmp_path, digest):
    make_run(tmp_path, digest)
    output = tmp_path / "report"
    result = run(
        f"--results={tmp_path / 'results'}",
        f"--output={output}",
        "--num_images=1",
        "--choose=worst",
        f"--others=SAM:coco_instances={tmp_path / 'sam.json'}",
    )
    assert result.returncode == 0, result.stderr
    assert "gallery of coco_instances: 100%" in result.stderr
    markdown = (output / "report.md").read_text()
    assert markdown in result.stdout
    assert "| coco_instances† | tinyscenes_stage1 (fcclip) [1] | 2 | 61.2 |" in markdown
    assert "[1] other settings than the protocol's: input." in markdown
    assert "(gallery_0.png)" in markdown
    page = (output / "report.html").read_text()
    # Nothing is loaded from elsewhere.
    assert "://" not in page and "61.2" in page
    captions = re.findall("<figcaption>(.*?)</figcaption>", page)
    assert captions == ["image", "truth", "predicted: 47.5 %", "SAM: 50.0 %"]
    assert "<h3>2</h3>" in page and "1 of 2 images: worst." in page
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), int)
        for data in re.findall('base64,(.*?)"', page)
    ]
    truth, other = (
        np.asarray(Image.fromarray(p.astype(np.uint8)).resize((64, 48)), int)
        for p in (pictures[1], pictures[3])
    )
    # Left of the middle both have the mask, right of it the other model's lacks it.
    assert np.abs(truth - other)[10:28, 12:22].mean() < 5
    assert np.abs(truth - other)[10:28, 28:38].mean() > 20
    sheet = Image.open(output / "gallery_0.png")
    assert sheet.width > 4 * 300


def test_a_run_that_cannot_be_drawn_is_told_and_its_numbers_are_there(tmp_path):
    make_run(tmp_path, "0" * 64)
    output = tmp_path / "report"
    result = run(f"--results={tmp_path / 'results'}", f"--output={output}", "--num_images=2")
    assert result.returncode == 0, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"No gallery of {tmp_path / 'results'}: it was made with another model")
    assert "61.2" in (output / "report.html").read_text()


def test_the_tables_are_written_before_the_galleries(tmp_path):
    make_run(tmp_path, "0" * 64)
    flags = [f"--results={tmp_path / 'results'}", f"--output={tmp_path}", "--num_images=2"]
    result = run(*flags, before=("-c", STOPPED))
    assert result.returncode == 7, result.stderr
    assert "61.2" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--results={0}/none"], "There is no results.json at"),
        (
            ["--results={0}/results", "--num_images=1", "--others=SAM=x.json"],
            "--others is SAM=x.json; expected name:benchmark=file.",
        ),
        (["--results={0}/results", "--others=SAM:x=x.json"], "for galleries; add --num_images."),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path, arguments, complaint):
    make_run(tmp_path, "0" * 64)
    result = run(*(a.format(tmp_path) for a in arguments), f"--output={tmp_path / 'report'}")
    assert result.returncode == 2
    assert complaint in result.stderr.splitlines()[-1]
    assert not (tmp_path / "report").exists()
