"""Readers: every layout, what they refuse, what they leave out; nothing outside is touched."""

import dataclasses
import json
import tarfile

import pytest
from caption_files import jpeg_of, write_images, write_jsonl
from tar_files import write_tar

from uniovseg_jax.captions.images import ImageFolder, check_image, small_jpeg
from uniovseg_jax.captions.record import CaptionRecord, ImageReference, Tool, to_json
from uniovseg_jax.captions.refine import Identity
from uniovseg_jax.captions.sources.cc3m import Cc3m
from uniovseg_jax.captions.sources.coco_captions import CocoCaptions
from uniovseg_jax.captions.sources.json_list import read_json_list
from uniovseg_jax.captions.sources.jsonl import Jsonl
from uniovseg_jax.captions.sources.sharegpt4v import ShareGpt4v
from uniovseg_jax.captions.sources.source import Exclusion, checked_captions, safe_path
from uniovseg_jax.captions.sources.webdataset import WebdatasetTars
from uniovseg_jax.captions.stages import refine
from uniovseg_jax.data.mask_sources.source import Skipped

NONE = Exclusion(None)
HOSTILE = [
    "../a.jpg",
    "a/../../b.jpg",
    "/etc/passwd",
    "C:/a.jpg",
    "a\\b.jpg",
    "",
    "a\0.jpg",
    3,
    None,
]


def split(source):
    """Returns the records, and what was skipped as pairs of reason and name."""
    items = list(source.records())
    good = [item for item in items if isinstance(item, CaptionRecord)]
    return good, [(item.reason, item.name) for item in items if isinstance(item, Skipped)]


def turns(caption):
    return [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": caption}]


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_that_climb_are_refused(path):
    with pytest.raises(ValueError, match="expected a relative one"):
        safe_path(path)


def test_sharegpt4v(tmp_path):
    entries = [
        {"id": "1", "image": "coco/train2017/000000000009.jpg", "conversations": turns("A dog.")},
        {"id": "1", "image": "sam/images/sa_1.jpg", "conversations": turns(" x\ud800 ")},
        {"id": "2", "image": "coco/train2017/000000000139.jpg", "conversations": turns("Out.")},
        {"id": "2", "image": "vg/VG_100K/139.jpg", "conversations": turns("In.")},
        {"id": "3", "image": "../up.jpg", "conversations": turns("A dog.")},
        {"id": "4", "image": "a.jpg", "conversations": turns(None)},
        {"id": "5", "image": "a.jpg", "conversations": [{"from": "human", "value": "?"}]},
        "text",
    ]
    (tmp_path / "s.json").write_text(json.dumps(entries))
    (tmp_path / "val.txt").write_text("139\n632\n")
    source = ShareGpt4v(tmp_path / "s.json", Exclusion(tmp_path / "val.txt"), True)
    good, skipped = split(source)
    assert good[0] == CaptionRecord(
        "coco/train2017/000000000009.jpg",
        ImageReference("file", "coco/train2017/000000000009.jpg"),
        ("A dog.",),
        source="sharegpt4v_json",
    )
    assert [record.caption_raw for record in good[1:]] == [("x\ufffd",), ("In.",)]
    assert skipped == [
        ("excluded", "s.json[2]"),
        *[("bad entry", f"s.json[{index}]") for index in (4, 5, 6, 7)],
    ]
    assert source.describe()["num_excluded"] == 2


def test_a_long_list_is_read_in_pieces(tmp_path, monkeypatch):
    from uniovseg_jax.captions.sources import json_list

    entries = [{"a": [n, "x]," * (n % 9)], "b": '\\"'} for n in range(300)] + [12345, 12.5, "[", []]
    text = json.dumps(entries, indent=1)
    (tmp_path / "a.json").write_text(f" \n{text}\n ")
    for chunk in (1, 7, 64, 1 << 20):
        monkeypatch.setattr(json_list, "_CHUNK", chunk)
        assert list(read_json_list(tmp_path / "a.json")) == entries
    (tmp_path / "a.json").write_text("[ ]")
    assert list(read_json_list(tmp_path / "a.json")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with a list"),
        ('{"a": []}', "does not begin with a list"),
        ("[1, 2", "entry 1 is no JSON that can be read: It is cut off"),
        ('[{"a": 1}, {"a": ', "entry 1 is no JSON"),
        ("[1 2]", "damaged or cut off after entry 0"),
        ("[1]]", "goes on after the end"),
        ("[" * 100_000, "nested too deeply|no JSON"),
        ("[1,]", "entry 1 is no JSON"),
    ],
)
def test_a_damaged_list_is_one_sentence(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(read_json_list(tmp_path / "a.json"))


def test_cc3m_with_images_by_row(tmp_path):
    lines = ["a dog\thttp://a/1.jpg", "a cat\thttp://a/2.jpg", "no address", "\thttps://a/3.jpg",
             "a\tftp://a/b", "a\thttp://a/\u7403"]  # fmt: skip
    (tmp_path / "t.tsv").write_text("".join(f"{line}\n" for line in lines))
    good, skipped = split(Cc3m(tmp_path / "t.tsv", None))
    assert [record.image for record in good] == [
        ImageReference("url", f"http{s}://a/{n}.jpg") for n, s in ((1, ""), (2, ""), (3, "s"))
    ]
    assert [record.id for record in good] == ["000000000", "000000001", "000000003"]
    assert skipped == [("bad entry", f"t.tsv, row {row}") for row in (2, 4, 5)]
    (tmp_path / "im" / "00000").mkdir(parents=True)
    (tmp_path / "im" / "00000" / "000000001.jpg").write_bytes(jpeg_of(1))
    (tmp_path / "im" / "3.png").write_bytes(jpeg_of(1))
    (tmp_path / "im" / "readme.txt").write_text("")
    good, skipped = split(Cc3m(tmp_path / "t.tsv", tmp_path / "im"))
    assert [record.image.path for record in good] == ["00000/000000001.jpg", "3.png"]
    assert ("dead address", "t.tsv, row 0") in skipped
    (tmp_path / "im" / "000001.webp").write_bytes(b"")
    with pytest.raises(ValueError, match="one row, two images"):
        Cc3m(tmp_path / "t.tsv", tmp_path / "im")


def test_webdataset_tars(tmp_path):
    link = tarfile.TarInfo("4.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    coco = {"url": "http://images.cocodataset.org/val2017/000000000139.jpg"}
    write_tar(
        tmp_path / "tars" / "00000.tar",
        [
            ("000.jpg", jpeg_of(0)), ("000.txt", b" a dog \n"), ("000.json", b"{}"),
            ("sub/001.json", b'{"caption": "a cat"}'), ("sub/001.PNG", jpeg_of(1)),
            ("002.txt", b"no image"),
            ("003.jpg", jpeg_of(3)), ("003.json", b"{broken"),
            ("../up.jpg", b"x"), ("/etc/abs.jpg", b"x"), (link, b""), ("nosuffix", b"x"),
            ("005.jpg", jpeg_of(5)), ("005.txt", b"out"), ("005.json", json.dumps(coco).encode()),
            ("006.jpg", jpeg_of(6)),
            ("007.cls", b"7"),
        ],
    )  # fmt: skip
    write_tar(tmp_path / "tars" / "00001.tar", [("000.txt", b"x\xff"), ("000.webp", b"no image")])
    (tmp_path / "val.json").write_text(json.dumps({"images": [{"id": 139}]}))
    source = WebdatasetTars(tmp_path / "tars", Exclusion(tmp_path / "val.json"))
    good, skipped = split(source)
    assert [(record.id, record.caption_raw) for record in good] == [
        ("00000/000", ("a dog",)),
        ("00000/sub/001", ("a cat",)),
        ("00001/000", ("x\ufffd",)),
    ]
    assert good[1].image == ImageReference("tar", "00000.tar", "sub/001.PNG")
    foreign = [f"00000.tar/{name!r}" for name in ("../up.jpg", "/etc/abs.jpg", "4.jpg", "nosuffix")]
    assert [name for reason, name in skipped if reason == "foreign member"] == foreign
    assert [pair for pair in skipped if pair[0] != "foreign member"] == [
        ("no image", "00000.tar/002"),
        ("bad entry", "00000.tar/003"),
        ("excluded", "00000.tar/005"),
        ("bad entry", "00000.tar/006"),
    ]
    folder = ImageFolder(source.image_folder)
    assert folder.read(good[1].image) == jpeg_of(1)
    bad = check_image(good[2], folder)
    assert isinstance(bad, Skipped) and bad.reason == "bad image"
    with pytest.raises(ValueError, match="no whole tar"):
        (tmp_path / "cut.tar").write_bytes((tmp_path / "tars" / "00000.tar").read_bytes()[:3000])
        split(WebdatasetTars(tmp_path / "cut.tar", NONE))


def test_coco_captions_of_one_image_make_one_record(tmp_path):
    document = {
        "images": [
            {"id": 9, "file_name": "000000000009.jpg"},
            {"id": 5, "file_name": "5.jpg"},
            {"id": 7, "file_name": "7.jpg"},
            {"id": 8, "file_name": "../8.jpg"},
            {"id": "x", "file_name": "8.jpg"},
        ],
        "annotations": [
            {"image_id": 9, "id": 1, "caption": "A dog "},
            {"image_id": 5, "id": 2, "caption": "Out."},
            {"image_id": 9, "id": 3, "caption": "A black dog."},
            {"image_id": 77, "id": 4, "caption": "Whose?"},
            "text",
        ],
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    (tmp_path / "val.json").write_text("[5]")
    source = CocoCaptions(tmp_path / "c.json", Exclusion(tmp_path / "val.json"), False)
    good, skipped = split(source)
    assert [(record.id, record.caption_raw) for record in good] == [
        ("9", ("A dog", "A black dog.")),
        ("7", ()),
    ]
    assert skipped == [
        ("excluded", "c.json: images[1]"),
        ("bad entry", "c.json: images[3]"),
        ("bad entry", "c.json: images[4]"),
        ("no image", "c.json: 1 captions"),
        ("no image", "c.json: 1 captions"),
    ]
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(ValueError, match='expected an object with lists "images"'):
        CocoCaptions(tmp_path / "c.json", NONE, False)


def test_lines_of_json(tmp_path):
    earlier = CaptionRecord(
        "r", ImageReference("file", "r.jpg", sha256="ab", width=3), ("raw",), "refined",
        source="coco_captions", refiner=Tool("x"), status="failed", error="No.",
    )  # fmt: skip
    lines = [
        {"image": "a.jpg", "caption": "a"},
        {"image": "b.jpg", "caption": ["a", "b"], "id": "7\ud800"},
        to_json(earlier),
        to_json(dataclasses.replace(earlier, id="s", status="ok", error=None)),
        "{broken",
        "[1]",
        {"image": "../a.jpg", "caption": "a"},
        {"image": "a.jpg", "caption": 5},
        {"image": "a.jpg", "caption": "a", "id": True},
        {"id": "r", "image": {"kind": "file", "path": "/etc/passwd"}, "caption_raw": "a"},
        '{"image": "a.jpg", "caption": NaN}',
        "[" * 5000,
    ]
    good, skipped = split(Jsonl(write_jsonl(tmp_path / "a.jsonl", lines), NONE, False))
    assert [(record.id, record.caption_raw) for record in good] == [
        ("a.jpg", ("a",)),
        ("7\ufffd", ("a", "b")),
        ("r", ("raw",)),
        ("s", ("raw",)),
    ]
    (kept,) = refine(good[3:], Identity())
    assert isinstance(kept, CaptionRecord)
    assert (kept.caption, kept.refiner) == ("refined", Tool("x"))
    assert good[2] == CaptionRecord(
        "r", ImageReference("file", "r.jpg"), ("raw",), source="coco_captions"
    )
    assert skipped == [("bad entry", f"a.jsonl, line {number}") for number in range(5, 13)]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: ShareGpt4v(p, NONE, False),
        lambda p: Cc3m(p, None),
        lambda p: WebdatasetTars(p, NONE),
        lambda p: CocoCaptions(p, NONE, False),
        lambda p: Jsonl(p, NONE, False),
        lambda p: Exclusion(p),
        lambda p: ImageFolder(p),
    ],
)
def test_an_input_that_is_not_there_is_one_sentence(tmp_path, make):
    with pytest.raises(FileNotFoundError, match="There is no .*nothing"):
        make(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "12\nabc\n", '{"images": [{"id": "x"}]}', '{"a": 1}', "[]"])
def test_other_files_exclude_nothing(tmp_path, text):
    (tmp_path / "val").write_text(text)
    with pytest.raises(ValueError, match="expected an object|It holds"):
        Exclusion(tmp_path / "val")


def test_only_paths_of_coco_are_excluded(tmp_path):
    (tmp_path / "val").write_text("139")
    exclusion = Exclusion(tmp_path / "val")
    for path in (
        "coco/val2017/000000000139.jpg",
        "a/COCO_val2014_000000000139.jpg",
        "val2017/000000000139.jpg",
        "data/train2014/000000000139.jpg",
        "http://images.cocodataset.org/val2017/000000000139.jpg",
        "coco2017/139.jpg",
        "MSCOCO/139.jpg",
    ):
        assert exclusion.covers_path(path), path
    for path in (
        "vg/139.jpg",
        "coco/train2017/000000001139.jpg",
        "val2017/000000001139.jpg",
        "coco/x.jpg",
        "ccocoa/img139.jpg",
        "coconut/139.jpg",
        "val2017/139.jpg",
        "interval2017/000000000139.jpg",
    ):
        assert not exclusion.covers_path(path), path
    assert not NONE.covers_path("coco/139.jpg")


def test_captions_that_fill_the_memory_are_refused():
    with pytest.raises(ValueError, match="more than 1048576 characters"):
        checked_captions(["x" * (1 << 19)] * 3)


def test_images_are_read_completely(tmp_path):
    write_images(tmp_path, 2)
    (tmp_path / "1.jpg").write_bytes(jpeg_of(1)[:-30])
    folder = ImageFolder(tmp_path)
    record = CaptionRecord("0", ImageReference("file", "0.jpg"), ("a",))
    checked = check_image(record, folder)
    assert isinstance(checked, CaptionRecord)
    assert (checked.image.width, checked.image.height) == (32, 24)
    assert checked.image.sha256 is not None and len(checked.image.sha256) == 64
    references = [
        ImageReference("file", "1.jpg"),
        ImageReference("file", "2.jpg"),
        ImageReference("file", "../0.jpg"),
        ImageReference("url", "http://a/0.jpg"),
        ImageReference("tar", "0.jpg", "a.jpg"),
        ImageReference("tar", "no.tar", "a.jpg"),
    ]
    for image in references:
        bad = check_image(CaptionRecord("x", image, ()), folder)
        assert isinstance(bad, Skipped) and bad.reason == "bad image", image


def test_an_image_that_changed_is_not_taken_for_the_one_that_was_read(tmp_path):
    write_images(tmp_path, 2)
    folder = ImageFolder(tmp_path)
    checked = check_image(CaptionRecord("0", ImageReference("file", "0.jpg"), ("a",)), folder)
    assert isinstance(checked, CaptionRecord)
    assert folder.read(checked.image) == checked.encoded == jpeg_of(0)
    (tmp_path / "0.jpg").write_bytes(jpeg_of(1))
    with pytest.raises(ValueError, match="changed after it was first read"):
        folder.read(checked.image)


def test_images_are_scaled_down_and_never_up():
    assert small_jpeg(jpeg_of(1, (300, 600)), 64)[1:] == (32, 64)
    assert small_jpeg(jpeg_of(1, (30, 20)), 64)[1:] == (30, 20)
