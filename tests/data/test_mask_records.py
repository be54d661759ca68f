"""Shards: exact order, from any thread or process, and no damage that goes unseen."""

import concurrent.futures
import json
import multiprocessing
import pickle
import shutil

import grain.python as grain
import numpy as np
import pytest
from mask_files import make_record

from uniovseg_jax.data import sharded_records
from uniovseg_jax.data.manifest import Manifest, write_manifest
from uniovseg_jax.data.mask_records import MaskRecords, open_mask_records
from uniovseg_jax.data.records import encode_record
from uniovseg_jax.data.shard_writer import ShardWriter

NUM = 11


def write(directory, count=NUM, per_shard=4):
    with ShardWriter(directory, per_shard) as writer:
        for number in range(count):
            writer.write(encode_record(make_record(number)))
    manifest = Manifest({}, {}, count, 3 * count, {}, {}, tuple(writer.shards))
    write_manifest(directory, manifest)
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write(tmp_path_factory.mktemp("records") / "shards")


@pytest.fixture
def damaged(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "damaged")


def test_records_are_read_in_the_order_in_which_they_were_written(directory):
    records = open_mask_records(directory)
    assert len(records) == NUM
    for index in np.random.default_rng(0).permutation(NUM):
        assert records[index] == make_record(index)
    for index in (-1, NUM):
        with pytest.raises(IndexError, match=f"Index {index} lies outside the 11 records"):
            records[index]


def test_the_same_records_make_the_same_files(directory, tmp_path):
    again = write(tmp_path / "again")
    assert sorted(p.name for p in again.iterdir()) == sorted(p.name for p in directory.iterdir())
    for path in directory.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes()


def test_threads_may_share_it_even_when_few_files_stay_open(directory, monkeypatch):
    monkeypatch.setattr(sharded_records, "_MAX_OPEN", 1)
    records = MaskRecords(directory)
    order = np.random.default_rng(0).integers(0, NUM, 300)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for index, record in zip(order, pool.map(records.__getitem__, order), strict=True):
            assert record["id"] == str(index)


def test_grain_reads_it(directory):
    dataset = grain.MapDataset.source(MaskRecords(directory)).shuffle(seed=1).to_iter_dataset()
    assert sorted(int(record["id"]) for record in dataset) == list(range(NUM))


def test_another_process_opens_the_files_anew(directory):
    records = MaskRecords(directory)
    assert records[0] == pickle.loads(pickle.dumps(records))[0]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(records.__getitem__, 9).result(timeout=120) == make_record(9)


def test_verification_passes_what_is_whole(directory):
    records = MaskRecords(directory)
    records.verify()
    records.verify(process=1, num_processes=2)


def test_no_damaged_shard_passes_and_every_one_is_named(directory, tmp_path):
    rng = np.random.default_rng(0)
    names = sorted(path.name for path in directory.glob("*.array_record"))
    contents = {name: (directory / name).read_bytes() for name in names}
    for case in range(100):
        name, other = rng.permutation(names)[:2]
        folder = shutil.copytree(directory, tmp_path / str(case))
        path, content = folder / name, bytearray(contents[name])
        kind = ("flip", "flip", "truncate", "delete", "swap", "duplicate", "extra")[case % 7]
        if kind == "flip":
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
            path.write_bytes(content)
        elif kind == "truncate":
            path.write_bytes(content[: rng.integers(len(content))])
        elif kind == "delete":
            path.unlink()
        elif kind == "swap":
            path.write_bytes(contents[other])
            (folder / other).write_bytes(content)
        elif kind == "duplicate":
            path.write_bytes(contents[other])
        else:
            name = "masks-00009.array_record"
            (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=name if kind != "swap" else "masks-0000"):
            open_mask_records(folder).verify()
        shutil.rmtree(folder)


def test_a_flipped_bit_costs_a_record_with_its_name_or_nothing(damaged):
    rng = np.random.default_rng(1)
    path = damaged / "masks-00001.array_record"
    whole = path.read_bytes()
    num_refused = 0
    for _ in range(100):
        content = bytearray(whole)
        # Most of the file is padding; its beginning holds the records.
        content[rng.integers(6000)] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        records = MaskRecords(damaged)
        for index in range(4, 8):
            try:
                assert records[index] == make_record(index)
            except ValueError as error:
                num_refused += 1
                assert f"Record {index} is damaged" in str(error) and path.name in str(error)
    assert num_refused > 0


def test_a_damaged_manifest_is_refused(damaged):
    path = damaged / "manifest.json"
    whole, expected = path.read_bytes(), MaskRecords(damaged).manifest
    rng = np.random.default_rng(2)
    num_refused = 0
    for _ in range(100):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            # Blanks may change into others, which says the same.
            assert MaskRecords(damaged).manifest == expected
        except ValueError as error:
            num_refused += 1
            assert "manifest.json" in str(error)
    assert num_refused > 50
    path.write_text(json.dumps({**json.loads(whole), "format": 2}))
    with pytest.raises(ValueError, match="has format 2; this version reads 1"):
        MaskRecords(damaged)


def test_an_unfinished_folder_is_refused(damaged, tmp_path):
    (damaged / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="has no manifest.json: its conversion did not"):
        open_mask_records(damaged)
    with pytest.raises(FileNotFoundError, match="no data folder"):
        open_mask_records(tmp_path / "nothing")


def test_the_writer_clears_what_was_left_and_nothing_else(damaged):
    with pytest.raises(ValueError, match="holds a finished conversion"):
        ShardWriter(damaged, 4)
    (damaged / "manifest.json").unlink()
    (damaged / ".masks-00003.array_record.tmp").write_bytes(b"half")
    (damaged / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds 'thesis.txt', which no conversion wrote"):
        ShardWriter(damaged, 4)
    assert len(list(damaged.iterdir())) == 5
    (damaged / "thesis.txt").unlink()
    write(damaged)
    open_mask_records(damaged).verify()


def test_an_error_while_writing_leaves_no_half_shard(tmp_path):
    with pytest.raises(KeyError), ShardWriter(tmp_path, 4) as writer:
        for _ in range(5):
            writer.write(b"x")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["masks-00000.array_record"]
