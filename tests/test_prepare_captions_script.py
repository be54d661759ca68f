"""scripts/prepare_captions.py as users call it, for each source."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from configs.captions import get_config
from uniovseg_jax.captions.caption_records import open_caption_records

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_CAPTION = "A red ball and a house on grass"
_KEY = "sk-canary-script"


def call(options, output, *arguments, **values):
    """Calls the script; `values` are parts of the configuration, `__` for a dot."""
    command = [sys.executable, _ROOT / "scripts" / "prepare_captions.py", f"--output={output}"]
    command += [f"--config={_ROOT}/configs/captions.py:{options}", *arguments]
    command += [f"--config.{name.replace('__', '.')}={value}" for name, value in values.items()]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "CANARY_KEY": _KEY}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def _photo():
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def inputs(tmp_path):
    """The same image with the same caption in every layout; configuration by source."""
    root = tmp_path / "in"
    (root / "images").mkdir(parents=True)
    (root / "images" / "5.jpg").write_bytes(_photo())
    images = {"source__images": root / "images"}

    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": _CAPTION}]
    entries = [{"id": "5", "image": "5.jpg", "conversations": turns}]
    (root / "s.json").write_text(json.dumps(entries))
    (root / "t.tsv").write_text("dead\thttp://a\n" * 5 + f"{_CAPTION}\thttp://a/5.jpg\n")
    document = {
        "images": [{"id": 5, "file_name": "5.jpg"}],
        "annotations": [{"image_id": 5, "id": 1, "caption": _CAPTION}],
    }
    (root / "c.json").write_text(json.dumps(document))
    (root / "l.jsonl").write_text(json.dumps({"image": "5.jpg", "caption": _CAPTION}) + "\n")
    with tarfile.open(root / "0.tar", "w") as tar:
        for name, content in (("5.jpg", _photo()), ("5.txt", _CAPTION.encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return {
        "sharegpt4v_json": {"source__path": root / "s.json", **images},
        "cc3m_tsv": {"source__path": root / "t.tsv", **images},
        "webdataset_tar": {"source__path": root / "0.tar"},
        "coco_captions": {"source__path": root / "c.json", **images},
        "jsonl": {"source__path": root / "l.jsonl", **images},
    }


@pytest.mark.parametrize(
    "source", ["sharegpt4v_json", "cc3m_tsv", "webdataset_tar", "coco_captions", "jsonl"]
)
def test_every_layout_becomes_the_same_entities(inputs, tmp_path, source):
    output = tmp_path / "out"
    done = call(f"{source},output=array_record", output, **inputs[source])
    assert done.returncode == 0, done.stderr
    skipped = 5 if source == "cc3m_tsv" else 0
    assert done.stdout == (
        f"1 records with 3 entities in 1 shards, 0 without any, 0 failed, {skipped} skipped: "
        f"{output}\n"
    )
    records = open_caption_records(output)
    records.verify()
    assert records[0]["image"] == _photo()
    record = records[0]["record"]
    assert [entity.text for entity in record.entities] == ["red ball", "house", "grass"]
    assert record.source == source and record.image.width == 30


def test_an_exclusion_that_meets_nothing_is_said(inputs, tmp_path):
    exclude = tmp_path / "val"
    exclude.write_text("5\n6\n")
    values = {**inputs["jsonl"], "source__exclude": exclude}
    lines = call("jsonl", tmp_path / "none", **values).stdout.splitlines()
    assert len(lines) == 2 and lines[1].startswith("config.source.exclude left nothing out")
    text = "".join(
        json.dumps({"image": f"coco/{n}.jpg", "caption": "a dog"}) + "\n" for n in (5, 7)
    )
    inputs["jsonl"]["source__path"].write_text(text)
    (line,) = call("jsonl", tmp_path / "one", **values).stdout.splitlines()
    assert "1 skipped" in line


def test_a_dry_run_shows_requests_and_costs_and_writes_nothing(inputs, tmp_path):
    done = call(
        "jsonl,refiner=openai_compatible,parser=llm",
        tmp_path / "out",
        "--dry_run=2",
        **inputs["jsonl"],
        refiner__model="one",
        parser__model="two",
        parser__api_key_env="CANARY_KEY",
        refiner__price_out=1e6,
    )
    assert done.returncode == 0, done.stderr
    refine, parse, estimate = done.stdout.splitlines()
    assert refine.startswith('5.jpg, refine: {"model": "one"') and _CAPTION in refine
    assert "data:image/jpeg;base64,... (" in refine and len(refine) < 2000
    assert parse.startswith('5.jpg, parse: {"model": "two"')
    assert estimate.startswith("1 entries. refine: at most 1 calls of one, about ")
    assert "at most 256 out" in estimate and "Cost: at most about 256.00" in estimate
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert _KEY not in done.stdout + done.stderr


def test_parts_and_limits(inputs, tmp_path):
    text = "".join(json.dumps({"image": f"{n}.jpg", "caption": "a dog"}) + "\n" for n in range(9))
    inputs["jsonl"]["source__path"].write_text(text)
    done = call("jsonl", tmp_path / "out", "--shard=1/3", "--limit=2", **inputs["jsonl"])
    assert done.returncode == 0, done.stderr
    (lines,) = (tmp_path / "out").glob("part-0001-of-0003/captions-00000.jsonl")
    assert [json.loads(line)["id"] for line in lines.read_text().splitlines()] == ["1.jpg", "4.jpg"]


def test_parts_on_several_machines_share_no_file_of_answers(inputs, tmp_path):
    text = "".join(json.dumps({"image": f"{n}.jpg", "caption": "a dog"}) + "\n" for n in range(4))
    inputs["jsonl"]["source__path"].write_text(text)
    values = {**inputs["jsonl"], "parser__model": "m", "parser__base_url": "http://127.0.0.1:9/v1"}
    values |= {"parser__max_attempts": 1}
    call("jsonl,parser=llm", tmp_path / "out", "--shard=0/2", **values)
    call("jsonl,parser=llm", tmp_path / "out", "--shard=1/2", **values)
    assert sorted(path.name for path in tmp_path.glob("*.sqlite")) == [
        "out.part-0000-of-0002.answers.sqlite",
        "out.part-0001-of-0002.answers.sqlite",
    ]
    call("jsonl,parser=llm", tmp_path / "out", "--shard=0/2", cache=tmp_path / "mine", **values)
    assert (tmp_path / "mine").is_file()


@pytest.mark.parametrize(
    ("options", "arguments", "values", "message"),
    [
        ("imagenet", [], {}, "Unknown source 'imagenet'; expected one of sharegpt4v_json"),
        ("jsonl,parser=magic", [], {}, "Unknown option 'parser=magic'; expected refiner="),
        ("jsonl", [], {"source__path": ""}, "config.source.path is empty"),
        ("jsonl,output=array_record", [], {"source__images": ""}, "config.source.images is empty"),
        ("jsonl", ["--shard=3/3"], {}, "--shard is '3/3', expected i/n"),
        ("jsonl", [], {"max_failed": 2}, "max_failed must lie from 0 to 1, got 2"),
        ("jsonl", [], {"wheels": 4}, "wheels"),
        (
            "jsonl,parser=llm",
            [],
            {"parser__model": "m", "parser__api_key_env": "NO_KEY"},
            "The environment variable NO_KEY is not set; it has to hold the key.",
        ),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(
    inputs, tmp_path, options, arguments, values, message
):
    values = {**inputs["jsonl"], **values}
    done = call(options, tmp_path / "out", *arguments, **values)
    assert done.returncode == 2 and not done.stdout
    assert message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_every_combination_of_options_is_a_configuration():
    for source in ("sharegpt4v_json", "cc3m_tsv", "webdataset_tar", "coco_captions", "jsonl"):
        for refiner in ("identity", "openai_compatible", "hf_local"):
            for parser in ("rules", "nltk", "spacy", "llm,llm=hf_local", "llm"):
                config = get_config(f"{source},refiner={refiner},parser={parser}")
                assert config.source.name == source and config.refiner.name == refiner
                assert config.parser.name == parser.partition(",")[0]
