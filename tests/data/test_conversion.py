"""The conversion as a whole: exact skips, the same files every time, no half result."""

import copy
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from mask_files import HW, make_record, run, sa1b_json, sa1b_members, skipped_names
from tar_files import write_tar

from uniovseg_jax.data import conversion
from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.mask_sources.sa1b import Sa1bTars, read_sa1b_annotation
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import Candidate, FilePart, Skipped
from uniovseg_jax.data.records import decode_record
from uniovseg_jax.json_fields import parse_json
from uniovseg_jax.masks import rle_decode

ROOT = pathlib.Path(__file__).resolve().parents[2]


def make_tar(path, count=30, broken=()):
    """Writes a tar whose images of the given numbers are broken, each in another way."""
    members = []
    for number in range(count):
        record = make_record(number, 1)
        for name, content in sa1b_members([record]):
            if number in broken and name.endswith("jpg"):
                kinds = [content[:200], bytes(300), b"<html></html>", b"", content[:-40]]
                content = kinds[number % len(kinds)]
            members.append((name, content))
    return write_tar(path, members)


def source(path):
    return Sa1bTars(path, Sample())


def ids(directory):
    records = open_mask_records(directory)
    return [int(records[index]["id"]) for index in range(len(records))]


def test_exactly_the_broken_images_are_skipped_and_the_order_of_the_rest_stays(tmp_path):
    rng = np.random.default_rng(0)
    for share in (0.01, 0.1):
        broken = set(rng.choice(600, int(600 * share), replace=False).tolist())
        tar = make_tar(tmp_path / "a.tar", 600, broken)
        manifest = run(source(tar), tmp_path / str(share), max_skipped=0.1, records_per_shard=200)
        assert ids(tmp_path / str(share)) == [n for n in range(600) if n not in broken]
        assert manifest.skipped == {"bad image": len(broken)}
        names = [entry["name"] for entry in skipped_names(tmp_path / str(share))]
        assert names == [f"a.tar/sa_{number}" for number in sorted(broken)]
        assert [shard.records for shard in manifest.shards] == [200, 200, 200 - len(broken)]


def test_too_many_broken_images_end_the_conversion_with_a_list(tmp_path):
    tar = make_tar(tmp_path / "a.tar", 30, {3, 4, 20})
    with pytest.raises(
        ValueError, match=r"3 of 30 records were skipped \(3 bad image\), more than"
    ):
        run(source(tar), tmp_path / "out", max_skipped=0.09)
    assert len(skipped_names(tmp_path / "out")) == 3
    with pytest.raises(FileNotFoundError, match="did not finish"):
        open_mask_records(tmp_path / "out")
    assert run(source(tar), tmp_path / "out", max_skipped=0.1).num_records == 27


def test_a_hopeless_conversion_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "_EARLY", 10)
    tar = make_tar(tmp_path / "a.tar", 30, range(0, 30, 3))
    with pytest.raises(ValueError, match="4 of 10 records were skipped"):
        run(source(tar), tmp_path / "out", max_skipped=0.1)


def test_the_number_of_processes_changes_nothing(tmp_path):
    tar = make_tar(tmp_path / "a.tar", 60, {7, 30})
    for num_workers in (1, 2):
        run(source(tar), tmp_path / str(num_workers), num_workers=num_workers, max_skipped=0.1)
    first, second = (sorted((tmp_path / name).iterdir()) for name in "12")
    assert [path.name for path in first] == [path.name for path in second]
    assert len(first) == 15 + 2
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_an_error_of_the_source_leaves_no_manifest(tmp_path):
    tar = make_tar(tmp_path / "a.tar", 30)
    tar.write_bytes(tar.read_bytes()[:-20_000])
    with pytest.raises(ValueError, match="no whole tar"):
        run(source(tar), tmp_path / "out", num_workers=2)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_id_in_two_tars_is_kept_once(tmp_path):
    make_tar(tmp_path / "in" / "a.tar", 10)
    make_tar(tmp_path / "in" / "b.tar", 12)
    manifest = run(source(tmp_path / "in"), tmp_path / "out", max_skipped=0.5)
    assert ids(tmp_path / "out") == list(range(12))
    assert manifest.skipped == {"repeated id": 10}


def test_nothing_left_is_an_error(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [])
    with pytest.raises(ValueError, match="no record in the sample"):
        run(source(tar), tmp_path / "out")
    for options in ({"max_skipped": 1.5}, {"records_per_shard": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must"):
            run(source(tar), tmp_path / "out", **options)


def test_a_killed_conversion_reads_as_unfinished_and_can_be_repeated(tmp_path):
    make_tar(tmp_path / "in" / "a.tar", 150)
    run(source(tmp_path / "in"), tmp_path / "whole")
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    code = (
        "import sys; from mask_files import run\n"
        "from uniovseg_jax.data.mask_sources.sa1b import Sa1bTars\n"
        "from uniovseg_jax.data.mask_sources.sampling import Sample\n"
        "print('go', flush=True)\n"
        "run(Sa1bTars(sys.argv[1], Sample()), sys.argv[2])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")]
    path = f"{ROOT}{os.pathsep}{pathlib.Path(__file__).parent}"
    random.seed(0)
    for _ in range(4):
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None and process.stdout.readline() == b"go\n"
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not (tmp_path / "out" / "manifest.json").exists():
            with pytest.raises(FileNotFoundError):
                open_mask_records(tmp_path / "out")
            continue
        open_mask_records(tmp_path / "out").verify()
        for file in (tmp_path / "out").iterdir():
            file.unlink()
    run(source(tmp_path / "in"), tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == expected


def test_a_second_conversion_into_the_same_folder_is_refused(tmp_path):
    tar = make_tar(tmp_path / "a.tar", 10)
    message = r"out is in use by another conversion \(process \d+ on .*\.$"

    class Nested:
        """In the midst of one conversion another one begins."""

        total = None

        def describe(self):
            return {}

        def candidates(self):
            for number, candidate in enumerate(source(tar).candidates()):
                if number in (0, 6):
                    with pytest.raises(ValueError, match=message):
                        run(source(tar), tmp_path / "out")
                yield candidate

    run(Nested(), tmp_path / "out")
    assert ids(tmp_path / "out") == list(range(10))
    open_mask_records(tmp_path / "out").verify()
    with pytest.raises(ValueError, match="holds a finished conversion"):
        run(source(tar), tmp_path / "out")
    assert not (tmp_path / "out" / ".lock").exists()


class _Reads:
    """An annotation of SA-1B in memory."""

    def __init__(self, content):
        self._content = content

    def __call__(self):
        return read_sa1b_annotation(parse_json(self._content), "0")


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "0.jpg"
    path.write_bytes(make_record(0)["image"])
    return FilePart(path)


def make(image, content):
    return conversion.make_record(Candidate("0", "sa_0", image, _Reads(content)))


def pure_python_decode(size, counts):
    """COCO's text by the book, one character after the other."""
    runs, position = [], 0
    while position < len(counts):
        value, shift, more = 0, 0, True
        while more:
            group = ord(counts[position]) - 48
            value |= (group & 31) << shift
            more = bool(group & 32)
            position, shift = position + 1, shift + 5
            if not more and group & 16:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    pixels = [index % 2 == 1 for index, run in enumerate(runs) for _ in range(run)]
    return np.array(pixels, bool).reshape(size[::-1]).T


def test_fuzzed_run_lengths_are_refused_or_decoded_right(image):
    rng = np.random.default_rng(0)
    valid = sa1b_json(make_record(0, 1))
    texts = [sa1b_json(make_record(n, 1))["annotations"][0]["segmentation"] for n in range(20)]
    num_kept = 0
    for case in range(2_000):
        mask = copy.deepcopy(texts[rng.integers(len(texts))])
        codes = list(mask["counts"].encode())
        for _ in range(rng.integers(0, 4)):
            place, kind = rng.integers(len(codes) + 1), rng.integers(5)
            if kind == 0:
                codes[place:place] = rng.integers(48, 112, rng.integers(1, 9)).tolist()
            elif kind == 1:
                del codes[place : place + rng.integers(1, 5)]
            elif kind == 2 and place < len(codes):
                codes[place] = int(rng.integers(0, 128))
            elif kind == 3:
                codes = rng.integers(48, 112, rng.integers(0, 40)).tolist()
            else:
                odd = [0, -1, 1 << 40, 1e3, None, "12", True, HW[0] + 1]
                mask["size"][rng.integers(2)] = odd[case % len(odd)]
        mask["counts"] = bytes(codes).decode("ascii")
        valid["annotations"][0]["segmentation"] = mask
        made = make(image, json.dumps(valid).encode())
        if isinstance(made, Skipped):
            assert made.reason in ("bad masks", "no masks")
            continue
        num_kept += 1
        (kept,) = decode_record(made.encoded)["masks"]
        found = rle_decode(kept)
        assert found.shape == HW
        np.testing.assert_array_equal(found, pure_python_decode(mask["size"], mask["counts"]))
    assert 300 < num_kept < 1_700


def test_fuzzed_annotations_of_sa1b_never_break_the_conversion(image):
    rng = np.random.default_rng(0)
    whole = json.dumps(sa1b_json(make_record(0))).encode()
    deep = b"[" * 100_000 + b"]" * 100_000
    documents = [b"", b"\xff\xfe", deep, b"1" * 10_000, b"{}", b"null", b'{"annotations": [1]}']
    documents += [whole.replace(b'"height": 12', b'"height": 1e308'), whole.replace(b"0.", b"NaN.")]
    odd = [b"null", b"1e308", b"-1", b"1e999", b"NaN", b'"x"', b"[]", b"{}", b"true", b"9" * 400]
    for _ in range(2_000):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(content)))
            value = odd[rng.integers(len(odd))]
            length = int(rng.integers(0, 12))
            if rng.random() < 0.5:
                # A whole value, so that most documents stay JSON.
                colons = [index for index, code in enumerate(content) if code == ord(":")]
                place = colons[rng.integers(len(colons))] + 1
                ends = [content.find(mark, place) for mark in b",}"]
                length = min([end for end in ends if end > 0], default=place) - place
            content[place : place + length] = value
        documents.append(bytes(content))
    kinds = {"EncodedRecord": 0, "Skipped": 0}
    for content in documents:
        made = make(image, content)
        kinds[type(made).__name__] += 1
        if isinstance(made, Skipped):
            assert made.reason in ("bad annotation", "other size", "bad masks", "no masks")
            assert made.detail.endswith(".") and len(made.detail) < 400
    assert min(kinds.values()) > 100


def test_a_full_disk_is_one_sentence_and_no_result(tmp_path):
    make_tar(tmp_path / "in" / "a.tar", 60)
    code = (
        "import resource, signal, sys; from mask_files import run\n"
        "from uniovseg_jax.data.mask_sources.sa1b import Sa1bTars\n"
        "from uniovseg_jax.data.mask_sources.sampling import Sample\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))\n"
        "try:\n"
        "    run(Sa1bTars(sys.argv[1], Sample()), sys.argv[2], records_per_shard=60)\n"
        "except OSError as error:\n"
        "    print(error)\n"
    )
    path = f"{ROOT}{os.pathsep}{pathlib.Path(__file__).parent}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ".masks-00000.array_record.tmp cannot be written" in done.stdout, done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["skipped.jsonl"]
    with pytest.raises(FileNotFoundError, match="did not finish"):
        open_mask_records(tmp_path / "out")
