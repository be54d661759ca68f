"""SA-1B's tars: pairs in any order, nothing believed, nothing lost without a word."""

import json
import tarfile

import numpy as np
import pytest
from mask_files import make_record, run, sa1b_json, sa1b_members, skipped_names
from tar_files import write_tar

from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.mask_sources import sa1b
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import Skipped

HASH = 8716
RECORDS = [make_record(number) for number in (5, 3, 12, 0)]


def tars(path, **sample):
    return sa1b.Sa1bTars(path, Sample(**sample))


def candidates(path, **sample):
    return list(tars(path, **sample).candidates())


def info(name, kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize("order", range(4))
@pytest.mark.parametrize("prefix", ["", "./"])
def test_members_in_any_order_become_the_same_records(tmp_path, order, prefix):
    members = [(prefix + name, content) for name, content in sa1b_members(RECORDS)]
    np.random.default_rng(order).shuffle(members)
    members = [(info(".", tarfile.DIRTYPE), b""), *members]
    write_tar(tmp_path / "in" / "sa_000000.tar", members)
    manifest = run(tars(tmp_path / "in"), tmp_path / "out")
    assert manifest.skipped == {} and manifest.num_masks == 12
    found = {record["id"]: record for record in iter_records(tmp_path / "out")}
    assert found == {record["id"]: record for record in RECORDS}
    # What was read is all that was written: nothing is ever unpacked.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["sa_000000.tar"]


def iter_records(directory):
    records = open_mask_records(directory)
    return [records[index] for index in range(len(records))]


def test_a_record_is_listed_where_its_second_member_lies(tmp_path):
    members = dict(sa1b_members(RECORDS[:3]))
    order = ["sa_5.json", "sa_3.jpg", "sa_12.jpg", "sa_12.json", "sa_5.jpg", "sa_3.json"]
    path = write_tar(tmp_path / "a.tar", [(name, members[name]) for name in order])
    assert [candidate.id for candidate in candidates(path)] == ["12", "5", "3"]


def test_hostile_members_are_named_and_never_followed(tmp_path):
    secret = tmp_path / "sa_7.json"
    secret.write_text(json.dumps(sa1b_json(make_record(7))))
    hostile = [
        (info("/sa_7.json"), secret.read_bytes()),
        (info("../sa_7.json"), secret.read_bytes()),
        (info("inner/sa_7.json"), secret.read_bytes()),
        (info("sa_07.json"), secret.read_bytes()),
        (info("sa_7.json\n"), secret.read_bytes()),
        (info("sa_7.json", tarfile.SYMTYPE, str(secret)), b""),
        (info("sa_7.jpg", tarfile.LNKTYPE, "sa_5.jpg"), b""),
        (info("sa_7.jpg", tarfile.CHRTYPE), b""),
        (info("sa_7.jpg", tarfile.FIFOTYPE), b""),
        (info("sa_7.jpg", tarfile.DIRTYPE), b""),
        (info("notes\udcff.txt"), b"x"),
    ]
    members = [(info("sa_7.jpg"), make_record(7)["image"]), *hostile, *sa1b_members(RECORDS)]
    path = write_tar(tmp_path / "a.tar", members)
    before = sorted(tmp_path.iterdir())
    run(tars(path), tmp_path / "out", max_skipped=1.0)
    assert {record["id"] for record in iter_records(tmp_path / "out")} == {"5", "3", "12", "0"}
    reasons = [entry["reason"] for entry in skipped_names(tmp_path / "out")]
    assert reasons == ["foreign member"] * len(hostile) + ["no annotation"]
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "out"])


def test_a_name_twice_is_an_error(tmp_path):
    members = list(sa1b_members(RECORDS))
    path = write_tar(tmp_path / "a.tar", [*members, members[0]])
    with pytest.raises(ValueError, match=r"a\.tar holds sa_5\.jpg twice"):
        run(tars(path), tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_huge_and_sparse_members_are_left_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setitem(sa1b._LIMITS, "jpg", 5_000)
    members = dict(sa1b_members(RECORDS[:2]))
    members["sa_5.jpg"] = bytes(50_000)
    path = write_tar(tmp_path / "a.tar", members.items())
    found = candidates(path)
    assert [(c.name, getattr(c, "reason", "")) for c in found] == [
        ("a.tar/sa_5.jpg", "too large"),
        ("a.tar/sa_3", ""),
    ]
    # An image is one record, also where both its members are too large.
    monkeypatch.setitem(sa1b._LIMITS, "json", 5_000)
    members["sa_5.json"] = bytes(50_000)
    for order in (1, -1):
        path = write_tar(tmp_path / "a.tar", list(members.items())[::order])
        names = [c.name for c in candidates(path) if isinstance(c, Skipped)]
        assert names == ["a.tar/sa_5.jpg" if order == 1 else "a.tar/sa_5.json"]
    # A header that promises 10 GB of which the file has nothing.
    promise = info("sa_5.jpg")
    promise.size = 10 << 30
    path.write_bytes(promise.tobuf() + bytes(10_240))
    with pytest.raises(ValueError, match="is no whole tar"):
        candidates(path)
    sparse = info("sa_5.jpg", tarfile.GNUTYPE_SPARSE)
    path.write_bytes(sparse.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    assert [c.reason for c in candidates(path)] == ["foreign member"]


def test_headers_that_go_on_and_on_or_back_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        long = info("././@LongLink", kind)
        long.size = 2 << 20
        path.write_bytes(long.tobuf() + b"x" * (2 << 20) + info("sa_1.jpg").tobuf() + bytes(10_240))
        with pytest.raises(ValueError, match="headers of more than 1048576 bytes"):
            candidates(path)
    back = info("sa_1.jpg")
    back.pax_headers = {"size": "-1024"}
    path.write_bytes(back.tobuf(tarfile.PAX_FORMAT) + bytes(10_240))
    with pytest.raises(ValueError, match="no whole tar"):
        candidates(path)


def test_no_cut_and_no_damaged_header_loses_records_in_silence(tmp_path):
    path = write_tar(tmp_path / "a.tar", sa1b_members(RECORDS))
    whole = path.read_bytes()
    expected = [candidate.id for candidate in candidates(path)]
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    end = whole.rstrip(b"\0").__len__()
    rng = np.random.default_rng(0)
    lengths = {*rng.integers(1, end, 60).tolist(), *headers[1:], end, end // 512 * 512 + 1024}
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a\.tar is no whole tar"):
            candidates(path)
    for header in headers:
        for damage in (bytes(512), b"\xff" * 512, whole[header : header + 100] + b"9" * 412):
            path.write_bytes(whole[:header] + damage + whole[header + 512 :])
            with pytest.raises(ValueError, match=r"a\.tar is no whole tar"):
                candidates(path)
    path.write_bytes(whole[: end // 512 * 512 + 512 + 1024])
    assert [candidate.id for candidate in candidates(path)] == expected


def test_fuzzed_tars_never_break_the_reader(tmp_path):
    path = write_tar(tmp_path / "a.tar", sa1b_members(RECORDS))
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        headers = [member.offset for member in tar]
    rng = np.random.default_rng(0)
    num_refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            content[rng.choice(headers) + rng.integers(512)] = rng.integers(256)
        path.write_bytes(content)
        try:
            assert len(candidates(path)) <= 8
        except ValueError as error:
            num_refused += 1
            assert "a.tar is no whole tar" in str(error)
    assert num_refused > 100


def test_compressed_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:gz"):
        pass
    for content in (path.read_bytes(), b"", b"no tar", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tar is no whole tar"):
            candidates(path)
    with pytest.raises(FileNotFoundError, match="expected a tar or a folder of tars"):
        tars(tmp_path / "b.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no file ending in \.tar"):
        tars(tmp_path / "empty")


def test_an_image_is_kept_by_its_hash_wherever_it_lies(tmp_path):
    records = [{**make_record(0, 1), "id": str(number)} for number in range(300)]
    one = write_tar(tmp_path / "one" / "a.tar", sa1b_members(records))
    members = list(sa1b_members(reversed(records)))
    write_tar(tmp_path / "two" / "x.tar", members[:200])
    write_tar(tmp_path / "two" / "y.tar", members[200:])
    kept = {c.id for c in candidates(one, share=0.3, seed=4)}
    assert kept == {c.id for c in candidates(tmp_path / "two", share=0.3, seed=4)}
    assert 60 < len(kept) < 120
    assert kept < {c.id for c in candidates(one, share=0.5, seed=4)}
    assert kept != {c.id for c in candidates(one, share=0.3, seed=5)}


def test_whole_tars_are_kept_by_the_hash_of_their_names(tmp_path):
    for number in range(40):
        write_tar(tmp_path / f"sa_{number:06d}.tar", sa1b_members(RECORDS[:1]))
    source = tars(tmp_path, by="tar", share=0.3)
    names = source.describe()["tars"]
    sample = Sample("tar", 0.3)
    assert names == [f"sa_{n:06d}.tar" for n in range(40) if sample.keeps_tar(f"sa_{n:06d}.tar")]
    assert 4 < len(names) < 22 and len(list(source.candidates())) == len(names)


def test_the_hash_is_the_published_one():
    # sha1("0:223750") mod 10,000, by sha1sum and bc.
    assert [Sample(share=s / 10_000).keeps_image("223750") for s in (HASH, HASH + 1)] == [
        False,
        True,
    ]
    for share in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share of a sample must lie"):
            Sample(share=share)
