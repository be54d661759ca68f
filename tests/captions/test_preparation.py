"""The pipeline as a whole: the same files every time, also when it is killed; nothing half done."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from caption_files import (
    caption_of,
    contents,
    jpeg_of,
    make_config,
    read_lines,
    run,
    write_input,
    write_jsonl,
)
from chat_server import ChatServer

from uniovseg_jax.captions import from_config, images, preparation
from uniovseg_jax.captions.caption_records import open_caption_records
from uniovseg_jax.captions.record import from_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNT = 30

# Runs the pipeline and dies at the n-th call of a function.
_DYING = """
import os, sys
from caption_files import make_config, run
from uniovseg_jax.captions import writer
root, output, options, place, number = sys.argv[1:]
calls = 0
def dying(function, after):
    def call(*arguments):
        global calls
        calls += 1
        if calls == int(number) and not after:
            os.kill(os.getpid(), 9)
        result = function(*arguments)
        if calls == int(number):
            os.kill(os.getpid(), 9)
        return result
    return call
places = {
    "write": (writer.CaptionWriter, "write", False),
    "written": (writer.CaptionWriter, "write", True),
    "shard": (writer.pathlib.Path, "rename", False),
    "renamed": (writer.pathlib.Path, "rename", True),
    "listing": (writer, "write_caption_manifest", False),
    "listed": (writer, "write_caption_manifest", True),
    "sum": (writer, "file_sha256", False),
    "list": (writer.CaptionWriter, "_list", True),
}
owner, name, after = places[place]
setattr(owner, name, dying(getattr(owner, name), after))
run(make_config(root, options, max_skipped=0.5, output__records_per_shard=4), output)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images and captions, among them a missing image, a broken line and an empty caption."""
    root = tmp_path_factory.mktemp("in")
    write_input(root, COUNT)
    lines = [{"image": f"{n}.jpg", "caption": caption_of(n)} for n in range(COUNT)]
    lines[7] = {"image": "missing.jpg", "caption": "A dog"}
    lines[13] = "{broken"
    lines[20]["caption"] = ""
    write_jsonl(root / "captions.jsonl", lines)
    return root


def test_every_record_is_written_in_order_with_what_is_known_of_it(root, tmp_path):
    config = make_config(root, max_skipped=0.1, output__records_per_shard=10)
    manifest, calls = run(config, tmp_path / "out")
    records = [from_json(json.dumps(line)) for line in read_lines(tmp_path / "out")]
    assert [record.id for record in records] == [
        "missing.jpg" if n == 7 else f"{n}.jpg" for n in range(COUNT) if n != 13
    ]
    assert calls == 0 and not (tmp_path / "out.answers.sqlite").exists()
    assert [entity.text for entity in records[0].entities] == ["red ball", "sample 0", "grass"]
    assert [record.id for record in records if record.status == "empty"] == ["20.jpg"]
    assert (manifest.num_records, manifest.num_empty) == (COUNT - 1, 1)
    assert manifest.num_entities == sum(len(record.entities) for record in records)
    assert manifest.skipped == {"bad entry": 1} and manifest.failed == 0
    document = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [(each["shard"], each["count"], each["done"]) for each in document["shards"]] == [
        ("captions-00000.jsonl", 10, True),
        ("captions-00001.jsonl", 10, True),
        ("captions-00002.jsonl", 9, True),
    ]
    assert document["done"] is True
    assert str(root) not in (tmp_path / "out" / "manifest.json").read_text()


def test_with_images_the_folder_reads_by_index(root, tmp_path):
    config = make_config(root, "output=array_record", max_skipped=0.1)
    manifest, _ = run(config, tmp_path / "out")
    assert manifest.skipped == {"bad entry": 1, "bad image": 1}
    records = open_caption_records(tmp_path / "out")
    records.verify()
    assert len(records) == COUNT - 2
    assert records[8]["id"] == "9.jpg" and records[8]["image"] == jpeg_of(9)
    assert records[8]["record"].image.width == 32
    assert [entry["name"] for entry in read_lines(tmp_path / "out", "skipped.jsonl")] == [
        "missing.jpg",
        "captions.jsonl, line 14",
    ]


def test_what_is_stored_is_what_the_digest_was_taken_of(tmp_path, monkeypatch):
    write_input(tmp_path, COUNT)
    reads = []

    class ChangingFolder(images.ImageFolder):
        """Images are replaced as soon as they were read once."""

        def read(self, image):
            encoded = super().read(image)
            reads.append(image.path)
            (tmp_path / "images" / image.path).write_bytes(jpeg_of(99))
            return encoded

    monkeypatch.setattr(from_config, "ImageFolder", ChangingFolder)
    run(make_config(tmp_path, "output=array_record"), tmp_path / "out")
    records = open_caption_records(tmp_path / "out")
    assert sorted(reads) == sorted(f"{n}.jpg" for n in range(COUNT))
    for n in range(COUNT):
        assert records[n]["image"] == jpeg_of(n)
        digest = hashlib.sha256(records[n]["image"]).hexdigest()
        assert records[n]["record"].image.sha256 == digest


@pytest.mark.parametrize("options", ["", "output=array_record"])
def test_killed_anywhere_it_ends_with_the_same_bytes(root, tmp_path, options):
    config = make_config(root, options, max_skipped=0.5, output__records_per_shard=4)
    run(config, tmp_path / "whole")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{pathlib.Path(__file__).parent}",
    }
    # One folder that is killed again and again: each run goes on from what the last one left.
    places = [
        "write 3",
        "renamed 1",
        "listed 1",
        "shard 2",
        "sum 2",
        "listing 1",
        "written 9",
    ]
    for place in places if not options else places[::2]:
        arguments = [str(root), str(tmp_path / "out"), options, *place.split()]
        done = subprocess.run(
            [sys.executable, "-c", _DYING, *arguments], env=environment, capture_output=True
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        if options:
            with pytest.raises(FileNotFoundError, match="is not finished: run prepare_captions"):
                open_caption_records(tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out").glob("captions-*"))
    assert len(left) >= 2
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in left}
    run(config, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    # What was finished was kept, not made again; the last one may not have been listed.
    for name in left[:-1]:
        assert (tmp_path / "out" / name).stat().st_mtime_ns == before[name]


def test_killed_while_it_asks_it_ends_with_the_same_bytes(root, tmp_path):
    options = "refiner=openai_compatible,parser=llm"
    values = {"max_skipped": 0.5, "output__records_per_shard": 4, "max_failed": 0.5}
    with ChatServer(share=0.3, faults=("500", "reset", "html", "no reply")) as server:
        config = make_config(root, options, server, **values)
        for stage in (config.refiner, config.parser):
            stage.update(max_attempts=20, num_at_once=3)
        run(config, tmp_path / "whole", tmp_path / "whole.sqlite")
        num_questions = len(server.calls)
        server.seed, server.delay = 1, 0.01
        server.calls.clear()
        code = (
            "import sys; from caption_files import make_config, run; from types import "
            "SimpleNamespace\n"
            "root, output, cache, url = sys.argv[1:]\n"
            f"config = make_config(root, {options!r}, SimpleNamespace(url=url), **{values!r})\n"
            "for stage in (config.refiner, config.parser):\n"
            "    stage.update(max_attempts=20, num_at_once=3)\n"
            "run(config, output, cache)\n"
        )
        arguments = [root, tmp_path / "out", tmp_path / "out.sqlite", server.url]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{pathlib.Path(__file__).parent}",
        }
        for calls in (5, 35, 70):
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                env=environment,
                stderr=subprocess.DEVNULL,
            )
            while len(server.calls) < calls and process.poll() is None:
                time.sleep(0.002)
            assert process.poll() is None
            process.kill()
            process.wait()
        assert num_questions > 70
        run(config, tmp_path / "out", tmp_path / "out.sqlite")
        answered = [digest for digest, fault in server.calls if not fault]
        # Asked twice is only what was under way when a process was killed.
        assert len(answered) - len(set(answered)) <= 3 * 6
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_finished_folder_is_left_alone(root, tmp_path):
    config = make_config(root, max_skipped=0.1)
    manifest, _ = run(config, tmp_path / "out")
    before = contents(tmp_path / "out")
    assert run(config, tmp_path / "out") == (manifest, 0)
    assert contents(tmp_path / "out") == before
    config.max_entities = 2
    with pytest.raises(ValueError, match="other settings .max_entities was '16' and is '2'"):
        run(config, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds 'notes.txt', which this pipeline did not write"):
        run(config, tmp_path / "out")
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_part_and_a_limit_are_shares_of_the_source(root, tmp_path):
    config = make_config(root, "output=array_record", max_skipped=0.5)
    for index in range(3):
        run(config, tmp_path / "out" / f"part-{index:04d}-of-0003", part=(index, 3))
    records = open_caption_records(tmp_path / "out")
    numbers = [int(records[index]["id"][:-4]) for index in range(len(records))]
    expected = [n for part in range(3) for n in range(part, COUNT, 3) if n not in (7, 13)]
    assert numbers == expected
    manifest, _ = run(config, tmp_path / "some", limit=5)
    assert manifest.num_records == 5
    (tmp_path / "out" / "part-0001-of-0003").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="has no part-0001-of-0003"):
        open_caption_records(tmp_path / "out")


def test_an_id_counts_once(root, tmp_path):
    lines = [{"image": f"{n % 6}.jpg", "caption": "A dog"} for n in range(8)]
    config = make_config(root, max_skipped=0.5)
    config.source.path = str(write_jsonl(tmp_path / "c.jsonl", lines))
    manifest, _ = run(config, tmp_path / "out")
    assert (manifest.num_records, manifest.skipped) == (6, {"repeated id": 2})


def test_too_many_skipped_entries_are_an_error_with_a_list(root, tmp_path, monkeypatch):
    config = make_config(root, max_skipped=0.01)
    with pytest.raises(ValueError, match="1 of 30 entries were skipped, more than max_skipped"):
        run(config, tmp_path / "out")
    assert read_lines(tmp_path / "out", "skipped.jsonl")[0]["reason"] == "bad entry"
    config.max_skipped = 0.1
    assert run(config, tmp_path / "out")[0].done
    monkeypatch.setattr(preparation, "_EARLY", 5)
    config.source.path = str(write_jsonl(tmp_path / "c.jsonl", ["{"] * 20))
    with pytest.raises(ValueError, match="5 of 5 entries were skipped"):
        run(config, tmp_path / "hopeless")


def test_what_is_excluded_counts_towards_no_limit(root, tmp_path):
    lines = [{"image": f"coco/{n}.jpg", "caption": "A dog"} for n in range(10)]
    (tmp_path / "val").write_text("\n".join(map(str, range(6))))
    config = make_config(root, max_skipped=0.0, source__exclude=f"{tmp_path}/val")
    config.source.path = str(write_jsonl(tmp_path / "c.jsonl", lines))
    manifest, _ = run(config, tmp_path / "out")
    assert (manifest.num_records, manifest.skipped) == (4, {"excluded": 6})
    config.source.path = str(write_jsonl(tmp_path / "c.jsonl", lines[:6]))
    with pytest.raises(ValueError, match="no record that could be written"):
        run(config, tmp_path / "none")


def test_a_source_that_changed_is_noticed(root, tmp_path, monkeypatch):
    lines = [{"image": f"{n}.jpg", "caption": "A dog"} for n in range(6)]
    path = write_jsonl(tmp_path / "c.jsonl", [*lines, "{" * 40])
    config = make_config(root, max_skipped=0.0, output__records_per_shard=2)
    config.source.path = str(path)
    with pytest.raises(ValueError, match="were skipped"):
        run(config, tmp_path / "out")
    config.max_skipped = 0.5
    text = path.read_text()
    path.write_text(text.replace('"5.jpg"', '"9.jpg"'))
    with pytest.raises(ValueError, match="The source has changed .* is '9.jpg', it was '5.jpg'"):
        run(config, tmp_path / "out")
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match="other settings .source.bytes was"):
        run(config, tmp_path / "out")


def test_two_runs_do_not_share_a_folder(root, tmp_path):
    from uniovseg_jax.locks import held_alone

    with held_alone(tmp_path / "out", "run"):
        with pytest.raises(ValueError, match="in use by another run"):
            run(make_config(root), tmp_path / "out")


def test_damage_to_a_folder_is_noticed(root, tmp_path):
    config = make_config(root, "output=array_record", max_skipped=0.1)
    run(config, tmp_path / "out")
    path = tmp_path / "out" / "captions-00000.array_record"
    content = bytearray(path.read_bytes())
    place = content.index(b"sample 3")
    content[place] ^= 1
    path.write_bytes(content)
    records = open_caption_records(tmp_path / "out")
    with pytest.raises(ValueError, match="its digest differs"):
        records.verify()
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="bytes, the manifest says"):
        open_caption_records(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"num_records": 28', '"num_records": 29'))
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        open_caption_records(tmp_path / "out")
    with pytest.raises(ValueError, match="without images; prepare it with output=array_record"):
        run(make_config(root, max_skipped=0.1), tmp_path / "lines")
        open_caption_records(tmp_path / "lines")
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        open_caption_records(tmp_path / "nothing")
